//! Decode, call, encode.

use streamgate_core::{
    Caller,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::worker::v1::{self as pb, worker_service_server::WorkerService};
use tonic::{Request, Response, Status};

use crate::{
    Metrics, command,
    engine::{CronSchedule, Job, Queue, Schedules, State},
    jobs::Registry,
};

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    queue: Queue,
    schedules: Schedules,
    registry: Registry,
    metrics: Metrics,
}

impl Handler {
    /// Answers from `queue`, and takes the kinds of jobs that `registry` knows.
    #[must_use]
    pub fn new(queue: Queue, registry: Registry, metrics: Metrics) -> Self {
        Self { schedules: Schedules::new(queue.clone(), registry.clone()), queue, registry, metrics }
    }
}

#[tonic::async_trait]
impl WorkerService for Handler {
    async fn submit_job(&self, request: Request<pb::SubmitJobRequest>) -> Result<Response<pb::SubmitJobResponse>, Status> {
        let caller = Caller::of(&request)?;
        let submit = command::submit(request.into_inner(), &caller, &self.registry)?;
        let job = self.queue.submit(submit, now_ms()).await?;
        self.metrics.submitted.inc();
        Ok(Response::new(pb::SubmitJobResponse { job: Some(job.into()) }))
    }

    async fn get_job(&self, request: Request<pb::GetJobRequest>) -> Result<Response<pb::GetJobResponse>, Status> {
        let job = self.queue.get(&command::job_id(&request.get_ref().job_id)?).await?;
        Ok(Response::new(pb::GetJobResponse { job: Some(job.into()) }))
    }

    async fn list_jobs(&self, request: Request<pb::ListJobsRequest>) -> Result<Response<pb::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let filter = command::filter(request.state, request.r#type)?;
        let page = self.queue.list(request.page_size, &request.page_token, &filter).await?;
        let jobs = page.jobs.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListJobsResponse { jobs, next_page_token: page.next_page_token }))
    }

    async fn cancel_job(&self, request: Request<pb::CancelJobRequest>) -> Result<Response<pb::CancelJobResponse>, Status> {
        let job = self.queue.cancel(&command::job_id(&request.get_ref().job_id)?, now_ms()).await?;
        Ok(Response::new(pb::CancelJobResponse { job: Some(job.into()) }))
    }

    async fn retry_job(&self, request: Request<pb::RetryJobRequest>) -> Result<Response<pb::RetryJobResponse>, Status> {
        let job = self.queue.retry_dead(&command::job_id(&request.get_ref().job_id)?, now_ms()).await?;
        Ok(Response::new(pb::RetryJobResponse { job: Some(job.into()) }))
    }

    async fn retry_failed_jobs(
        &self,
        request: Request<pb::RetryFailedJobsRequest>,
    ) -> Result<Response<pb::RetryFailedJobsResponse>, Status> {
        let job_type = command::type_filter(request.into_inner().r#type)?;
        let (retried, more) = self.queue.retry_all_dead(&job_type, now_ms()).await?;
        Ok(Response::new(pb::RetryFailedJobsResponse { retried, more }))
    }

    async fn schedule_job(&self, request: Request<pb::ScheduleJobRequest>) -> Result<Response<pb::ScheduleJobResponse>, Status> {
        let (schedule, cron) = command::schedule(request.into_inner().schedule, &self.registry)?;
        let schedule = self.schedules.put(schedule, &cron, now_ms()).await?;
        Ok(Response::new(pb::ScheduleJobResponse { schedule: Some(schedule.into()) }))
    }

    async fn list_schedules(
        &self,
        request: Request<pb::ListSchedulesRequest>,
    ) -> Result<Response<pb::ListSchedulesResponse>, Status> {
        let request = request.into_inner();
        let page = self.schedules.list(request.page_size, &request.page_token).await?;
        let schedules = page.schedules.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListSchedulesResponse { schedules, next_page_token: page.next_page_token }))
    }

    async fn delete_schedule(
        &self,
        request: Request<pb::DeleteScheduleRequest>,
    ) -> Result<Response<pb::DeleteScheduleResponse>, Status> {
        self.schedules.delete(&request.get_ref().name).await?;
        Ok(Response::new(pb::DeleteScheduleResponse {}))
    }
}

impl From<Job> for pb::Job {
    fn from(job: Job) -> Self {
        let state = match job.state {
            State::Queued => pb::JobState::Queued,
            State::Running => pb::JobState::Running,
            State::Succeeded => pb::JobState::Succeeded,
            State::Failed => pb::JobState::Failed,
            State::Cancelled => pb::JobState::Cancelled,
        };
        Self {
            job_id: job.job_id,
            r#type: job.job_type,
            state: state.into(),
            attempts: job.attempts,
            max_attempts: job.max_attempts,
            message: job.message,
            create_time: Some(to_timestamp(job.create_ms)),
            run_time: Some(to_timestamp(job.run_ms)),
            end_time: job.end_ms.map(to_timestamp),
            priority: job.priority as i32,
            progress: job.progress,
            unique_key: job.unique_key,
            expire_time: job.expire_ms.map(to_timestamp),
            owner: job.owner,
            params: job.params.map(|kind| pb::JobParams { kind: Some(kind) }),
        }
    }
}

impl From<CronSchedule> for pb::Schedule {
    fn from(schedule: CronSchedule) -> Self {
        Self {
            name: schedule.name,
            cron: schedule.cron,
            time_zone: schedule.time_zone,
            catch_up: schedule.catch_up as i32,
            r#type: schedule.job_type,
            priority: schedule.priority as i32,
            params: schedule.params.map(|kind| pb::JobParams { kind: Some(kind) }),
            paused: schedule.paused,
            next_time: Some(to_timestamp(schedule.next_ms)).filter(|_| !schedule.paused),
            last_time: schedule.last_ms.map(to_timestamp),
            no_overlap: schedule.no_overlap,
        }
    }
}
