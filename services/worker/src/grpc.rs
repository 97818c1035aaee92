//! Decode, call, encode.

use std::time::Duration;

use streamgate_core::{
    Failure,
    ids::JobId,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::worker::v1::{self as pb, worker_service_server::WorkerService};
use tonic::{Request, Response, Status};

use crate::{
    Metrics,
    engine::{Job, Queue, State, Submit},
    jobs::Registry,
};

/// A job may be put off this long.
const MAX_DELAY_SECONDS: u32 = 30 * 24 * 60 * 60;
/// Bytes of a request id at the most; callers send a UUID or an id of ours.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    queue: Queue,
    registry: Registry,
    metrics: Metrics,
}

impl Handler {
    /// Answers from `queue`, and takes the kinds of jobs that `registry` knows.
    #[must_use]
    pub const fn new(queue: Queue, registry: Registry, metrics: Metrics) -> Self {
        Self { queue, registry, metrics }
    }

    fn decode(&self, request: pb::SubmitJobRequest) -> Result<Submit, Failure> {
        if self.registry.get(&request.r#type).is_none() {
            return Err(Failure::invalid_field("type", format!("must be one of: {}", self.registry.names().join(", "))));
        }
        if request.delay_seconds > MAX_DELAY_SECONDS {
            return Err(Failure::invalid_field("delay_seconds", format!("must be at most {MAX_DELAY_SECONDS}")));
        }
        if request.request_id.len() > MAX_REQUEST_ID_BYTES || request.request_id.chars().any(char::is_control) {
            let words = format!("must be at most {MAX_REQUEST_ID_BYTES} bytes without control characters");
            return Err(Failure::invalid_field("request_id", words));
        }
        Ok(Submit {
            job_type: request.r#type,
            request_id: Some(request.request_id).filter(|id| !id.is_empty()),
            delay: Duration::from_secs(u64::from(request.delay_seconds)),
        })
    }
}

#[tonic::async_trait]
impl WorkerService for Handler {
    async fn submit_job(&self, request: Request<pb::SubmitJobRequest>) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let submit = self.decode(request.into_inner())?;
        let job = self.queue.submit(submit, now_ms()).await?;
        self.metrics.submitted.inc();
        Ok(Response::new(pb::SubmitJobResponse { job: Some(encode(job)) }))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::GetJobResponse>, Status> {
        let job = self.queue.get(&job_id(&request.into_inner().job_id)?).await?;
        Ok(Response::new(pb::GetJobResponse { job: Some(encode(job)) }))
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let page = self.queue.list(request.page_size, &request.page_token, state_filter(request.state)?).await?;
        let jobs = page.jobs.into_iter().map(encode).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, next_page_token: page.next_page_token }))
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::CancelJobResponse>, Status> {
        let job = self.queue.cancel(&job_id(&request.into_inner().job_id)?, now_ms()).await?;
        Ok(Response::new(pb::CancelJobResponse { job: Some(encode(job)) }))
    }
}

fn job_id(text: &str) -> Result<JobId, Failure> {
    text.parse().map_err(|bad: streamgate_core::ids::BadId| Failure::invalid_field("job_id", bad.to_string()))
}

fn state_filter(number: i32) -> Result<Option<State>, Failure> {
    if number == 0 {
        return Ok(None);
    }
    let state = State::of_number(i64::from(number));
    state.map(Some).ok_or_else(|| Failure::invalid_field("state", "must be a state of a job"))
}

fn encode(job: Job) -> pb::Job {
    let state = match job.state {
        State::Queued => pb::JobState::Queued,
        State::Running => pb::JobState::Running,
        State::Succeeded => pb::JobState::Succeeded,
        State::Failed => pb::JobState::Failed,
        State::Cancelled => pb::JobState::Cancelled,
    };
    pb::Job {
        job_id: job.job_id,
        r#type: job.job_type,
        state: state.into(),
        attempts: job.attempts,
        max_attempts: job.max_attempts,
        message: job.message,
        create_time: Some(to_timestamp(job.create_ms)),
        run_time: Some(to_timestamp(job.run_ms)),
        end_time: job.end_ms.map(to_timestamp),
    }
}
