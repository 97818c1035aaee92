//! Decode, call, encode.

use async_trait::async_trait;
use prost::Message as _;
use streamgate_core::{
    Caller, ErrorKind, Failure,
    ids::{ContentId, JobId},
    page::Page,
    time::to_timestamp,
};
use streamgate_media::{brief::shorten, ladder::Step};
use streamgate_proto::streamgate::transcoder::v1::{self as pb, transcoder_service_server::TranscoderService};
use tonic::{Request, Response, Status};

use crate::{DEFAULT_PROFILE, Engine, Error, Job, Pool, Poster, Priority, State, Submission, Worker, engine::Filter};

/// Longest key for repeating a call.
const MAX_REQUEST_ID_BYTES: usize = 200;
/// Longest presentation that is sent whole, in bytes: a caller takes 4 MiB.
const LONGEST_WHOLE: usize = 4_000_000;

/// The RPCs of `streamgate.transcoder.v1`.
#[derive(Debug, Clone)]
pub struct Handler {
    engine: Engine,
    worker: Worker,
}

impl Handler {
    /// Handlers of this engine; posters are made by `worker`.
    #[must_use]
    pub const fn new(engine: Engine, worker: Worker) -> Self {
        Self { engine, worker }
    }

    async fn encode(&self, job: Job) -> Result<Option<pb::Job>, Error> {
        let pool = if job.state.is_open() { self.engine.pool().await? } else { Pool::default() };
        self.encode_in(&pool, job).await
    }

    async fn encode_in(&self, pool: &Pool, job: Job) -> Result<Option<pb::Job>, Error> {
        let queue_place = self.engine.queue_place(&job).await?;
        let eta_seconds = self.engine.eta_seconds(&job, pool).await?;
        Ok(Some(pb::Job {
            priority: wire_priority(job.priority).into(),
            ladder: job.ladder.iter().map(|s| pb::LadderStep { short_side_px: s.short_side, max_kbps: s.max_kbps }).collect(),
            version: job.version,
            owner: job.owner.clone(),
            profile: job.profile.clone(),
            state: wire_state(job.state).into(),
            progress: job.progress(),
            queue_place,
            eta_seconds,
            attempts: job.attempts,
            partial: job.partial,
            create_time: Some(to_timestamp(job.created_ms)),
            start_time: job.started_ms.map(to_timestamp),
            end_time: job.ended_ms.map(to_timestamp),
            job_id: job.job_id,
            content_id: job.content_id,
            error_reason: job.error_reason,
            error_detail: job.error_detail,
        }))
    }
}

#[async_trait]
impl TranscoderService for Handler {
    async fn submit_job(&self, request: Request<pb::SubmitJobRequest>) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let caller = Caller::of(&request)?;
        let job = self.engine.submit(&caller, &submission(request.into_inner())?).await?;
        Ok(Response::new(pb::SubmitJobResponse { job: self.encode(job).await? }))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::GetJobResponse>, Status> {
        let caller = Caller::of(&request)?;
        let body = request.into_inner();
        let job = match (body.job_id.as_str(), body.content_id.as_str()) {
            ("", "") => return Err(Failure::invalid_field("job_id", "give a job_id or a content_id").into()),
            ("", content) => self.engine.newest_job(&caller, &content_id(content)?).await?,
            (job, "") => self.engine.job(&caller, &job_id(job)?).await?,
            _ => return Err(Failure::invalid_field("job_id", "give a job_id or a content_id, not both").into()),
        };
        Ok(Response::new(pb::GetJobResponse { job: self.encode(job).await? }))
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let body = request.into_inner();
        let content_id = match body.content_id.as_str() {
            "" => None,
            text => Some(content_id(text)?.to_string()),
        };
        let filter = Filter { owner: owner_of_list(&caller, body.owner)?, state: domain_state(body.state)?, content_id };
        let page = Page::parse(body.page_size, &body.page_token, &filter.fingerprint())?;
        let (rows, next_page_token) = self.engine.list(&filter, &page).await?;
        let open = rows.iter().any(|row| row.state.is_open());
        let pool = if open { self.engine.pool().await? } else { Pool::default() };
        let mut jobs = Vec::with_capacity(rows.len());
        for row in rows {
            jobs.extend(self.encode_in(&pool, row).await?);
        }
        Ok(Response::new(pb::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::CancelJobResponse>, Status> {
        let caller = Caller::of(&request)?;
        let job = self.engine.cancel(&caller, &job_id(&request.into_inner().job_id)?).await?;
        Ok(Response::new(pb::CancelJobResponse { job: self.encode(job).await? }))
    }

    async fn make_poster(&self, request: Request<pb::MakePosterRequest>) -> Result<Response<pb::MakePosterResponse>, Status> {
        let caller = Caller::of(&request)?;
        let body = request.into_inner();
        let poster = self.worker.make_poster(&caller, &content_id(&body.content_id)?, body.at_ms).await?;
        let Poster { version, at_ms, size_bytes } = poster;
        Ok(Response::new(pb::MakePosterResponse { version, at_ms, size_bytes }))
    }

    async fn get_pool_metrics(
        &self,
        _request: Request<pb::GetPoolMetricsRequest>,
    ) -> Result<Response<pb::GetPoolMetricsResponse>, Status> {
        let pool = self.engine.pool().await?;
        let line = self.engine.line(&pool).await?;
        let [succeeded, failed, cancelled] = line.ended;
        Ok(Response::new(pb::GetPoolMetricsResponse {
            workers: pool.workers,
            slots: pool.slots,
            running: pool.running,
            queued: line.queued,
            queue_limit: self.engine.queue_limit(),
            oldest_wait_ms: line.oldest_wait_ms,
            succeeded_last_hour: succeeded,
            failed_last_hour: failed,
            cancelled_last_hour: cancelled,
            pace: pool.pace.speed(),
            drain_seconds: line.drain_seconds,
        }))
    }

    async fn get_presentation(
        &self,
        request: Request<pb::GetPresentationRequest>,
    ) -> Result<Response<pb::GetPresentationResponse>, Status> {
        let body = request.into_inner();
        let version = Some(body.version).filter(|version| *version > 0);
        let mut presentation = self.engine.presentation(&content_id(&body.content_id)?, version, body.known_revision).await?;
        if let Some(long) = presentation.as_mut().filter(|presentation| presentation.encoded_len() > LONGEST_WHOLE) {
            shorten(long);
        }
        Ok(Response::new(pb::GetPresentationResponse { presentation }))
    }
}

fn submission(body: pb::SubmitJobRequest) -> Result<Submission, Failure> {
    if body.request_id.len() > MAX_REQUEST_ID_BYTES {
        return Err(Failure::invalid_field("request_id", format!("must be at most {MAX_REQUEST_ID_BYTES} bytes")));
    }
    let profile = if body.profile.is_empty() { DEFAULT_PROFILE.to_owned() } else { body.profile };
    let ladder = body.ladder.iter().map(|s| Step { short_side: s.short_side_px, max_kbps: s.max_kbps }).collect();
    let (content, priority) = (content_id(&body.content_id)?, domain_priority(body.priority)?);
    Ok(Submission { content, request_id: body.request_id, profile, priority, ladder })
}

/// Whose jobs are listed: an operator may ask for anybody's, and everybody else has only his own.
fn owner_of_list(caller: &Caller, wanted: String) -> Result<Option<String>, Failure> {
    let wanted = Some(wanted).filter(|owner| !owner.is_empty());
    let own = match caller.account() {
        _ if caller.is_operator() || caller.is_service() => return Ok(wanted),
        account => account.map(|account| account.id.to_string()).unwrap_or_default(),
    };
    match wanted {
        Some(owner) if owner != own => {
            Err(Failure::new(ErrorKind::PermissionDenied, "owner_foreign", "only operators may list the jobs of others"))
        }
        _ => Ok(Some(own)),
    }
}

fn content_id(text: &str) -> Result<ContentId, Failure> {
    text.parse().map_err(|error: streamgate_core::ids::BadId| Failure::invalid_field("content_id", error.to_string()))
}

fn job_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|error: streamgate_core::ids::BadId| Failure::invalid_field("job_id", error.to_string()))
}

const fn wire_priority(priority: Priority) -> pb::JobPriority {
    match priority {
        Priority::Low => pb::JobPriority::Low,
        Priority::Normal => pb::JobPriority::Normal,
        Priority::High => pb::JobPriority::High,
    }
}

fn domain_priority(number: i32) -> Result<Priority, Failure> {
    match pb::JobPriority::try_from(number) {
        Ok(pb::JobPriority::Unspecified | pb::JobPriority::Normal) => Ok(Priority::Normal),
        Ok(pb::JobPriority::Low) => Ok(Priority::Low),
        Ok(pb::JobPriority::High) => Ok(Priority::High),
        Err(_) => Err(Failure::invalid_field("priority", "is not a priority of a job")),
    }
}

const fn wire_state(state: State) -> pb::JobState {
    match state {
        State::Queued => pb::JobState::Queued,
        State::Running => pb::JobState::Running,
        State::Succeeded => pb::JobState::Succeeded,
        State::Failed => pb::JobState::Failed,
        State::Cancelled => pb::JobState::Cancelled,
    }
}

fn domain_state(number: i32) -> Result<Option<State>, Failure> {
    match pb::JobState::try_from(number) {
        Ok(pb::JobState::Unspecified) => Ok(None),
        Ok(pb::JobState::Queued) => Ok(Some(State::Queued)),
        Ok(pb::JobState::Running) => Ok(Some(State::Running)),
        Ok(pb::JobState::Succeeded) => Ok(Some(State::Succeeded)),
        Ok(pb::JobState::Failed) => Ok(Some(State::Failed)),
        Ok(pb::JobState::Cancelled) => Ok(Some(State::Cancelled)),
        Err(_) => Err(Failure::invalid_field("state", "is not a state of a job")),
    }
}
