//! Decode, call, encode.

use async_trait::async_trait;
use streamgate_core::{
    Caller, Failure,
    ids::{ContentId, JobId},
    page::Page,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::transcoder::v1::{self as pb, transcoder_service_server::TranscoderService};
use tonic::{Request, Response, Status};

use crate::{Engine, Error, Job, State, engine::Filter};

/// Longest key for repeating a call.
const MAX_REQUEST_ID_BYTES: usize = 200;

/// The RPCs of `streamgate.transcoder.v1`.
#[derive(Debug, Clone)]
pub struct Handler {
    engine: Engine,
}

impl Handler {
    /// Handlers of this engine.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }

    async fn encode(&self, job: Job) -> Result<Option<pb::Job>, Error> {
        let queue_place = self.engine.queue_place(&job).await?;
        Ok(Some(pb::Job {
            state: wire_state(job.state).into(),
            progress: job.progress(),
            queue_place,
            eta_seconds: job.eta_seconds(now_ms()),
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
        let body = request.into_inner();
        if body.request_id.len() > MAX_REQUEST_ID_BYTES {
            return Err(Failure::invalid_field("request_id", format!("must be at most {MAX_REQUEST_ID_BYTES} bytes")).into());
        }
        let job = self.engine.submit(&caller, &content_id(&body.content_id)?, &body.request_id).await?;
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
        let owner = caller.account().map(|account| account.id.to_string());
        let filter = Filter { owner, state: domain_state(body.state)? };
        let page = Page::parse(body.page_size, &body.page_token, &filter.fingerprint())?;
        let (rows, next_page_token) = self.engine.list(&filter, &page).await?;
        let mut jobs = Vec::with_capacity(rows.len());
        for row in rows {
            jobs.extend(self.encode(row).await?);
        }
        Ok(Response::new(pb::ListJobsResponse { jobs, next_page_token }))
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::CancelJobResponse>, Status> {
        let caller = Caller::of(&request)?;
        let job = self.engine.cancel(&caller, &job_id(&request.into_inner().job_id)?).await?;
        Ok(Response::new(pb::CancelJobResponse { job: self.encode(job).await? }))
    }

    async fn get_presentation(
        &self,
        request: Request<pb::GetPresentationRequest>,
    ) -> Result<Response<pb::GetPresentationResponse>, Status> {
        let body = request.into_inner();
        let presentation = self.engine.presentation(&content_id(&body.content_id)?, body.known_revision).await?;
        Ok(Response::new(pb::GetPresentationResponse { presentation }))
    }
}

fn content_id(text: &str) -> Result<ContentId, Failure> {
    text.parse().map_err(|error: streamgate_core::ids::BadId| Failure::invalid_field("content_id", error.to_string()))
}

fn job_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|error: streamgate_core::ids::BadId| Failure::invalid_field("job_id", error.to_string()))
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
