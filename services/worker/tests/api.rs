//! The service over its handlers, with workers that run.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::{
    collections::VecDeque,
    sync::{Mutex, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use streamgate_core::{ErrorKind, Failure};
use streamgate_proto::streamgate::worker::v1::{self as pb, job_params::Kind, worker_service_server::WorkerService};
use streamgate_worker::{
    Config, Handler, Metrics,
    engine::{Runner, Scheduler, Work},
    jobs::{
        JobError, JobType, MakePoster, Purge, PurgeTitles, Registry, Sweep, SweepUploads, Thumbnails, Verified, Verify,
        VerifyObjects,
    },
};
use support::{Fixture, Scripted, asked};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Status};

const BOUND: Duration = Duration::from_secs(20);

struct Running {
    handler: Handler,
    stop: CancellationToken,
    runner: tokio::task::JoinHandle<()>,
    jobs: Fixture,
}

impl Running {
    async fn start(registry: Registry) -> Self {
        let jobs = Fixture::open().await;
        let (stop, metrics) = (CancellationToken::new(), Metrics::default());
        let config = Config { drain_seconds: 0, ..Config::default() };
        let runner = Runner::new(jobs.queue.clone(), registry.clone(), metrics.clone(), config).run(stop.clone());
        let runner = tokio::spawn(runner);
        Self { handler: Handler::new(jobs.queue.clone(), registry, metrics), stop, runner, jobs }
    }

    async fn submit(&self, job_type: &str) -> Result<pb::Job, Status> {
        let request = pb::SubmitJobRequest { r#type: job_type.into(), ..Default::default() };
        Ok(self.handler.submit_job(asked(request)).await?.into_inner().job.unwrap())
    }

    async fn get(&self, job_id: &str) -> Result<pb::Job, Status> {
        let request = pb::GetJobRequest { job_id: job_id.into() };
        Ok(self.handler.get_job(Request::new(request)).await?.into_inner().job.unwrap())
    }

    /// Waits until the job is as `wanted` says.
    async fn wait_for(&self, job_id: &str, wanted: impl Fn(&pb::Job) -> bool) -> pb::Job {
        let reached = async {
            loop {
                let job = self.get(job_id).await.unwrap();
                if wanted(&job) {
                    return job;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(BOUND, reached).await.expect("the job did not come to the state in time")
    }

    async fn wait_for_state(&self, job_id: &str, state: pb::JobState) -> pb::Job {
        self.wait_for(job_id, |job| job.state() == state).await
    }
}

#[tokio::test]
async fn a_job_succeeds_and_keeps_what_it_said() {
    let running = Running::start(Registry::default().with(Scripted::new([Ok("all done".into())]))).await;
    let job = running.submit("scripted").await.unwrap();
    let ended = running.wait_for_state(&job.job_id, pb::JobState::Succeeded).await;
    assert_eq!((ended.message.as_str(), ended.attempts, ended.end_time.is_some()), ("all done", 1, true));
}

#[tokio::test]
async fn trouble_is_tried_again_and_hopeless_is_not() {
    let trouble = Scripted::new([Err(JobError::Retry("away".into())), Ok("back".into())]);
    let running = Running::start(Registry::default().with(trouble)).await;
    let job = running.submit("scripted").await.unwrap();
    assert_eq!(running.wait_for_state(&job.job_id, pb::JobState::Succeeded).await.attempts, 2);

    let running = Running::start(Registry::default().with(Scripted::new([Err(JobError::Hopeless("never".into()))]))).await;
    let job = running.submit("scripted").await.unwrap();
    let ended = running.wait_for_state(&job.job_id, pb::JobState::Failed).await;
    assert_eq!((ended.message.as_str(), ended.attempts), ("never", 1));
}

#[tokio::test]
async fn a_running_job_stops_when_it_is_cancelled() {
    let hangs = Scripted::default();
    let running = Running::start(Registry::default().with(hangs.clone())).await;
    let job = running.submit("scripted").await.unwrap();
    let seen = running.wait_for(&job.job_id, |job| job.progress > 0.0).await;
    assert_eq!((seen.state(), seen.progress), (pb::JobState::Running, 0.25), "it says how far it is");
    let request = || Request::new(pb::CancelJobRequest { job_id: job.job_id.clone() });
    let cancelled = running.handler.cancel_job(request()).await.unwrap().into_inner().job.unwrap();
    assert_eq!(cancelled.state(), pb::JobState::Cancelled);
    assert_eq!(running.handler.cancel_job(request()).await.unwrap().into_inner().job.unwrap(), cancelled);
    running.wait_for(&job.job_id, |_| hangs.left.load(Ordering::SeqCst) == 1).await;
    assert_eq!(running.get(&job.job_id).await.unwrap(), cancelled, "what is left of it says nothing");
}

#[tokio::test]
async fn a_stopping_worker_puts_its_jobs_back() {
    let hangs = Scripted::default();
    let running = Running::start(Registry::default().with(hangs.clone())).await;
    let job = running.submit("scripted").await.unwrap();
    running.wait_for(&job.job_id, |_| hangs.attempts.load(Ordering::SeqCst) == 1).await;
    running.stop.cancel();
    tokio::time::timeout(BOUND, running.runner).await.unwrap().unwrap();
    let back = running.jobs.queue.get(&job.job_id.parse().unwrap()).await.unwrap();
    assert_eq!((back.state, back.attempts), (streamgate_worker::engine::State::Queued, 0));
}

struct Panics;

#[async_trait]
impl JobType for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn wait_after(&self, _: u32) -> Duration {
        Duration::from_millis(100)
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_panic_ends_the_attempt_and_not_the_worker() {
    let running = Running::start(Registry::default().with(Panics).with(Scripted::new([Ok(String::new())]))).await;
    let bad = running.submit("panics").await.unwrap();
    running.wait_for(&bad.job_id, |job| job.message == "the attempt broke off").await;
    let good = running.submit("scripted").await.unwrap();
    running.wait_for_state(&good.job_id, pb::JobState::Succeeded).await;
}

/// Answers each call from a list.
struct Uploads(Mutex<VecDeque<Result<(u32, bool), Failure>>>);

#[async_trait]
impl Sweep for Uploads {
    async fn sweep(&self, limit: u32) -> Result<(u32, bool), Failure> {
        assert!(limit > 0);
        self.0.lock().unwrap().pop_front().unwrap()
    }
}

#[tokio::test]
async fn a_sweep_goes_on_until_nothing_is_left() {
    let uploads = Uploads(Mutex::new([Ok((100, true)), Ok((100, true)), Ok((7, false))].into()));
    let sweep = SweepUploads::new(uploads, Duration::from_secs(600));
    assert_eq!(sweep.run(&Work::of(None)).await, Ok("ended 207 abandoned uploads".to_owned()));
    let away = Failure::new(ErrorKind::Unavailable, "unavailable", "away");
    let sweep = SweepUploads::new(Uploads(Mutex::new([Ok((3, true)), Err(away)].into())), Duration::from_secs(600));
    assert!(
        matches!(sweep.run(&Work::of(None)).await, Err(JobError::Retry(words)) if words.starts_with("ended 3 abandoned uploads"))
    );
}

struct Titles(Mutex<VecDeque<Result<(u32, bool), Failure>>>);

#[async_trait]
impl Purge for Titles {
    async fn purge(&self, limit: u32) -> Result<(u32, bool), Failure> {
        assert!(limit > 0);
        self.0.lock().unwrap().pop_front().unwrap()
    }
}

#[tokio::test]
async fn a_purge_goes_on_until_nothing_is_left() {
    let titles = |answers| PurgeTitles::new(Titles(Mutex::new(answers)), Duration::from_secs(600));
    let purge = titles([Ok((100, true)), Ok((1, false))].into());
    assert_eq!(purge.run(&Work::of(None)).await, Ok("purged 101 titles".to_owned()));
    let away = Failure::new(ErrorKind::Unavailable, "unavailable", "away");
    let purge = titles([Ok((3, true)), Err(away)].into());
    assert!(
        matches!(purge.run(&Work::of(None)).await, Err(JobError::Retry(words)) if words.starts_with("purged 3 titles, then"))
    );
}

/// Goes through its answers by their places, and fails where there is none.
struct Objects(Mutex<Vec<Verified>>);

#[async_trait]
impl Verify for Objects {
    async fn verify(&self, limit: u32, place: String) -> Result<Verified, Failure> {
        let place: usize = if place.is_empty() { 0 } else { place.parse().unwrap() };
        let found = self.0.lock().unwrap().get(place).cloned();
        let found = found.ok_or_else(|| Failure::new(ErrorKind::Unavailable, "unavailable", "away"))?;
        assert!(found.checked <= limit, "{} of {limit}", found.checked);
        Ok(found)
    }
}

#[tokio::test]
async fn a_check_of_objects_goes_to_the_end_and_names_what_is_damaged() {
    let found = |checked, corrupt: &[&str], next: &str| Verified {
        checked,
        corrupt: corrupt.iter().map(|id| (*id).to_owned()).collect(),
        next: next.to_owned(),
    };
    let verify = |answers| VerifyObjects::new(Objects(Mutex::new(answers)), Duration::from_secs(600));
    let sound = verify(vec![found(100, &[], "1"), found(0, &[], "2"), found(5, &[], "")]);
    assert_eq!(sound.run(&Work::of(None)).await, Ok("checked 105 objects: all are what came".to_owned()));
    let damaged = verify(vec![found(2, &["upl_1"], "1"), found(1, &["upl_2"], "")]);
    let said = damaged.run(&Work::of(None)).await;
    assert_eq!(said, Err(JobError::Hopeless("checked 3 objects: 2 are damaged: upl_1, upl_2".to_owned())));
    // Trouble is tried again, unless somebody must hear of damage already.
    let broken = verify(vec![found(3, &[], "1")]);
    let said = "checked 3 objects, then the upload service said: away (unavailable)".to_owned();
    assert_eq!(broken.run(&Work::of(None)).await, Err(JobError::Retry(said)));
    let broken = verify(vec![found(3, &["upl_1"], "1")]);
    let said = "checked 3 objects: 1 are damaged: upl_1, then the upload service said: away (unavailable)".to_owned();
    assert_eq!(broken.run(&Work::of(None)).await, Err(JobError::Hopeless(said)));
    let endless = verify(vec![found(0, &[], "0")]);
    assert!(matches!(endless.run(&Work::of(None)).await, Err(JobError::Retry(words)) if words.contains("none in 10000 calls")));
    // A number that was asked for is kept to, and no other job's parameters are taken.
    let params = |limit| Kind::VerifyObjects(pb::VerifyObjectsParams { limit });
    let some = verify(vec![found(7, &[], "1")]);
    assert_eq!(some.run(&Work::of(Some(params(7)))).await, Ok("checked 7 objects: all are what came".to_owned()));
    assert!(some.check(Some(&params(2_000_000))).is_err() && some.check(Some(&params(7))).is_ok());
    assert!(some.check(Some(&Kind::Notify(pb::NotifyParams::default()))).is_err());
}

const TITLE: &str = "cnt_00000000000000000000000000000001";

/// Gives one answer, for one frame of one title.
struct Posters(Result<u64, Failure>);

#[async_trait]
impl MakePoster for Posters {
    async fn make_poster(&self, content_id: &str, at_ms: u64) -> Result<u64, Failure> {
        assert_eq!((content_id, at_ms), (TITLE, 1_500));
        self.0.clone()
    }
}

#[tokio::test]
async fn a_thumbnail_is_tried_again_after_trouble_and_given_up_when_it_is_refused() {
    let params = |content_id: &str| Kind::Thumbnails(pb::ThumbnailsParams { content_id: content_id.to_owned(), at_ms: 1_500 });
    let work = Work::of(Some(params(TITLE)));
    let made = Thumbnails::new(Posters(Ok(9_000))).run(&work).await;
    assert_eq!(made, Ok("made a poster of 9000 bytes of the frame at 1500 ms".to_owned()));
    let failed = async |kind| Thumbnails::new(Posters(Err(Failure::new(kind, "word", "words")))).run(&work).await.unwrap_err();
    let words = || "the transcoder service said: words (word)".to_owned();
    for kind in [ErrorKind::Unavailable, ErrorKind::ResourceExhausted, ErrorKind::DeadlineExceeded, ErrorKind::Aborted] {
        assert_eq!(failed(kind).await, JobError::Retry(words()), "{kind:?}");
    }
    for kind in [ErrorKind::NotFound, ErrorKind::FailedPrecondition, ErrorKind::InvalidArgument] {
        assert_eq!(failed(kind).await, JobError::Hopeless(words()), "{kind:?}");
    }

    let job = Thumbnails::new(Posters(Ok(0)));
    assert!(job.check(Some(&params(TITLE))).is_ok() && job.every().is_none());
    assert_eq!(job.check(Some(&params("cnt_1"))).unwrap_err().fields[0].field, "params.thumbnails.content_id");
    for other in [None, Some(&Kind::Notify(pb::NotifyParams::default()))] {
        assert_eq!(job.check(other).unwrap_err().fields[0].field, "params.thumbnails");
    }
}

#[tokio::test]
async fn a_scheduled_sweep_is_queued_and_run_by_itself() {
    let uploads = Uploads(Mutex::new([Ok((1, false))].into()));
    let registry = Registry::default().with(SweepUploads::new(uploads, Duration::from_secs(600)));
    let running = Running::start(registry.clone()).await;
    let scheduler = Scheduler::new(running.jobs.queue.clone(), running.jobs.webhooks(), registry, Metrics::default());
    let clock = tokio::spawn(scheduler.run(running.stop.clone()));
    let found = async {
        loop {
            if let Some(job) = running.jobs.all(None).await.pop() {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let job = tokio::time::timeout(BOUND, found).await.unwrap();
    let ended = running.wait_for_state(&job.job_id, pb::JobState::Succeeded).await;
    assert_eq!((ended.r#type.as_str(), ended.message.as_str()), ("sweep_uploads", "ended 1 abandoned uploads"));
    running.stop.cancel();
    tokio::time::timeout(BOUND, clock).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn bad_requests_are_refused_with_what_would_be_right() {
    let running = Running::start(Registry::default().with(Scripted::default())).await;
    let unknown = running.submit("mine_bitcoin").await.unwrap_err();
    assert_eq!(unknown.code(), Code::InvalidArgument);
    assert!(unknown.message().contains("scripted"), "{}", unknown.message());
    let late = pb::SubmitJobRequest { r#type: "scripted".into(), delay_seconds: 30 * 24 * 60 * 60 + 1, ..Default::default() };
    assert_eq!(running.handler.submit_job(asked(late)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(running.get("job_x").await.unwrap_err().code(), Code::InvalidArgument);
    let absent = streamgate_core::ids::JobId::new();
    assert_eq!(running.get(absent.as_str()).await.unwrap_err().code(), Code::NotFound);
    let state = pb::ListJobsRequest { state: 9, ..Default::default() };
    assert_eq!(running.handler.list_jobs(Request::new(state)).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn pages_of_jobs_lose_none_and_repeat_none() {
    let running = Running::start(Registry::default().with(Scripted::default())).await;
    let mut submitted = Vec::new();
    for _ in 0..23 {
        let request = pb::SubmitJobRequest { r#type: "scripted".into(), delay_seconds: 1_000, ..Default::default() };
        submitted.push(running.handler.submit_job(asked(request)).await.unwrap().into_inner().job.unwrap().job_id);
    }
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListJobsRequest { page_size: 5, page_token, state: pb::JobState::Queued.into(), ..Default::default() };
        let page = running.handler.list_jobs(Request::new(request)).await.unwrap().into_inner();
        listed.extend(page.jobs.into_iter().map(|job| job.job_id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    submitted.reverse();
    assert_eq!(listed, submitted);
}
