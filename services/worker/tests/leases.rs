//! Leases and fences with workers that really run, two of them at one queue.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use streamgate_client::{RequestContext, context::caused_by};
use streamgate_core::time::now_ms;
use streamgate_store::PostgresServer;
use streamgate_testkit::engines::{Engine as _, Postgres};
use streamgate_worker::{
    Config, Metrics,
    engine::{Job, Runner, State, Submit, Work},
    jobs::{JobError, JobType, Registry},
};
use support::{Fixture, id_of};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

const LEASE: Duration = Duration::from_secs(1);
/// Far longer than a lease.
const LONG: Duration = Duration::from_millis(3_500);
const BOUND: Duration = Duration::from_secs(60);

/// Works for longer than a lease, and counts how often it was begun.
#[derive(Clone, Default)]
struct Long(Arc<AtomicU32>);

#[async_trait]
impl JobType for Long {
    fn name(&self) -> &'static str {
        "long"
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(LONG).await;
        Ok("done".to_owned())
    }
}

/// Ends at once.
struct Short;

#[async_trait]
impl JobType for Short {
    fn name(&self) -> &'static str {
        "short"
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        Ok(format!("attempt {}", work.attempt))
    }
}

/// Takes half a second.
struct Slow;

#[async_trait]
impl JobType for Slow {
    fn name(&self) -> &'static str {
        "slow"
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok("done".to_owned())
    }
}

/// Works until it is let go, and counts how often it was begun.
#[derive(Clone)]
struct Held {
    name: &'static str,
    begun: watch::Sender<u32>,
    let_go: watch::Sender<bool>,
}

impl Held {
    fn new(name: &'static str) -> Self {
        Self { name, begun: watch::Sender::new(0), let_go: watch::Sender::new(false) }
    }

    async fn has_begun(&self) {
        self.begun.subscribe().wait_for(|times| *times > 0).await.unwrap();
    }
}

#[async_trait]
impl JobType for Held {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        self.begun.send_modify(|times| *times += 1);
        self.let_go.subscribe().wait_for(|let_go| *let_go).await.unwrap();
        Ok("let go".to_owned())
    }
}

/// Another worker at the queue, until the guard is dropped.
fn worker(jobs: &Fixture, registry: &Registry) -> DropGuard {
    worker_with(jobs, registry, 1)
}

fn worker_with(jobs: &Fixture, registry: &Registry, lease_seconds: u32) -> DropGuard {
    let stop = CancellationToken::new();
    let config = Config { lease_seconds, drain_seconds: 0, ..Config::default() };
    let runner = Runner::new(jobs.queue.clone(), registry.clone(), Metrics::default(), config).run(stop.clone());
    tokio::spawn(runner);
    stop.drop_guard()
}

async fn wait_for(jobs: &Fixture, job: &Job, state: State) -> Job {
    let reached = async {
        loop {
            let found = jobs.queue.get(&id_of(job)).await.unwrap();
            if found.state == state {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, reached).await.expect("the job did not come to the state in time")
}

async fn a_live_long_job_is_never_taken_away() {
    let jobs = Fixture::open().await;
    let long = Long::default();
    let registry = Registry::default().with(long.clone());
    let _workers = [worker(&jobs, &registry), worker(&jobs, &registry), worker(&jobs, &registry)];
    let mut queued = Vec::new();
    for _ in 0..4 {
        queued.push(jobs.queue.submit(Submit::new("long"), now_ms()).await.unwrap());
    }
    for job in &queued {
        assert_eq!(wait_for(&jobs, job, State::Succeeded).await.attempts, 1);
    }
    assert_eq!(long.0.load(Ordering::SeqCst), 4, "each was begun once, though it lived for three leases");
}

async fn a_dead_workers_jobs_move_within_seconds() {
    let jobs = Fixture::open().await;
    let mut queued = Vec::new();
    for _ in 0..20 {
        queued.push(jobs.queue.submit(Submit::new("short"), now_ms()).await.unwrap());
    }
    // Claims all and is never heard of again.
    let dead = jobs.queue.claim("dead", 100, 0, LEASE, now_ms()).await.unwrap();
    assert_eq!(dead.len(), 20);
    let died = Instant::now();
    // Fifteen seconds of other work are due as well, for all the places that there are.
    let mut others = JoinSet::new();
    for _ in 0..480 {
        let queue = jobs.queue.clone();
        others.spawn(async move { queue.submit(Submit::new("slow"), 0).await.unwrap() });
    }
    others.join_all().await;
    let _worker = worker(&jobs, &Registry::default().with(Short).with(Slow));
    for job in &queued {
        let ended = wait_for(&jobs, job, State::Succeeded).await;
        assert_eq!((ended.attempts, ended.message.as_str()), (2, "attempt 2"));
    }
    // The lease, and one look of an idle worker; the rest is a busy machine's.
    assert!(died.elapsed() < Duration::from_secs(8), "{:?}", died.elapsed());
    // It was not dead after all, and comes back: too late for every one of them.
    for claim in &dead {
        assert!(!jobs.finish(claim, now_ms()).await);
        assert!(!jobs.beat(claim, now_ms()).await);
    }
    for job in &queued {
        assert_eq!(jobs.queue.get(&id_of(job)).await.unwrap().message, "attempt 2");
    }
}

/// Says for which request it works, after a first attempt that fails.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<RequestContext>>>);

#[async_trait]
impl JobType for Asked {
    fn name(&self) -> &'static str {
        "asked"
    }

    fn wait_after(&self, _: u32) -> Duration {
        Duration::ZERO
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        self.0.lock().unwrap().extend(RequestContext::current());
        if work.attempt == 1 { Err(JobError::Retry("once more".to_owned())) } else { Ok("done".to_owned()) }
    }
}

async fn a_job_goes_on_in_the_trace_of_who_asked_for_it() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let jobs = Fixture::open().await;
    let asked = Asked::default();
    let submit = async |submit: Submit| {
        let cause = format!("00-{TRACE}-00f067aa0ba902b7-01");
        caused_by(&cause, "evt_1", "submit", jobs.queue.submit(submit, 0)).await.unwrap()
    };
    // One whose workers are never heard of again ends in its trace, too.
    let silent = submit(Submit { max_attempts: 1, ..Submit::new("silent") }).await;
    assert_eq!(jobs.queue.claim("dead", 1, 0, LEASE, 0).await.unwrap().len(), 1);
    let job = submit(Submit::new("asked")).await;
    let _worker = worker(&jobs, &Registry::default().with(asked.clone()));
    wait_for(&jobs, &job, State::Succeeded).await;
    wait_for(&jobs, &silent, State::Failed).await;
    let requests = asked.0.lock().unwrap().clone();
    assert_eq!(requests.len(), 2, "each attempt");
    for request in requests {
        assert_eq!((request.trace_id().to_string().as_str(), &*request.request_id), (TRACE, job.job_id.as_str()));
    }
    for event in jobs.told().await {
        assert_eq!(event.trace_parent.split('-').nth(1), Some(TRACE), "{}", event.r#type);
    }
}

#[tokio::test]
async fn jobs_outlive_an_outage_of_the_database() {
    let mut postgres = Postgres::start().await.unwrap();
    let jobs = Fixture::on_postgres(&PostgresServer::parse(&postgres.url()).unwrap()).await;
    let (short, long) = (Held::new("held_short"), Held::new("held_long"));
    let registry = Registry::default().with(short.clone()).with(long.clone());
    // Both would take what a silent worker has left.
    let _workers = [worker_with(&jobs, &registry, 2), worker_with(&jobs, &registry, 2)];
    let first = jobs.queue.submit(Submit::new("held_short"), now_ms()).await.unwrap();
    let second = jobs.queue.submit(Submit::new("held_long"), now_ms()).await.unwrap();
    short.has_begun().await;
    long.has_begun().await;
    postgres.stop().await.unwrap();
    // One ends while the database is away, for far longer than a lease; the other after that.
    short.let_go.send_replace(true);
    tokio::time::sleep(2 * LONG).await;
    postgres.restart().await.unwrap();
    let ended = wait_for(&jobs, &first, State::Succeeded).await;
    assert_eq!((ended.attempts, *short.begun.borrow()), (1, 1));
    tokio::time::sleep(LONG).await;
    long.let_go.send_replace(true);
    let ended = wait_for(&jobs, &second, State::Succeeded).await;
    assert_eq!((ended.attempts, ended.message.as_str(), *long.begun.borrow()), (1, "let go", 1));
}

#[tokio::test]
async fn a_worker_that_is_gone_counts_no_running_job() {
    let jobs = Fixture::open().await;
    let (held, metrics) = (Held::new("held"), Metrics::default());
    let registry = Registry::default().with(held.clone());
    let runner = Runner::new(jobs.queue.clone(), registry, metrics.clone(), Config::default());
    let runner = tokio::spawn(runner.run(CancellationToken::new()));
    jobs.queue.submit(Submit::new("held"), now_ms()).await.unwrap();
    held.has_begun().await;
    assert_eq!(metrics.running.get(), 1);
    runner.abort();
    runner.await.unwrap_err();
    let none_left = async {
        while metrics.running.get() != 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(BOUND, none_left).await.unwrap();
}

streamgate_testkit::on_both_engines! {
    support:
    a_live_long_job_is_never_taken_away,
    a_dead_workers_jobs_move_within_seconds,
    a_job_goes_on_in_the_trace_of_who_asked_for_it,
}
