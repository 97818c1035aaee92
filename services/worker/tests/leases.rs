//! Leases and fences with workers that really run, two of them at one queue.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use streamgate_core::time::now_ms;
use streamgate_worker::{
    Config, Metrics,
    engine::{Job, Runner, State, Submit, Work},
    jobs::{JobError, JobType, Registry},
};
use support::{Fixture, id_of};
use tokio_util::sync::{CancellationToken, DropGuard};

const LEASE: Duration = Duration::from_secs(1);
/// Far longer than a lease.
const LONG: Duration = Duration::from_millis(3_500);
const BOUND: Duration = Duration::from_secs(20);

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

/// Another worker at the queue, until the guard is dropped.
fn worker(jobs: &Fixture, registry: &Registry) -> DropGuard {
    let stop = CancellationToken::new();
    let config = Config { lease_seconds: 1, drain_seconds: 0, ..Config::default() };
    let runner = Runner::new(jobs.queue.clone(), registry.clone(), Metrics::default(), config).run(stop.clone());
    tokio::spawn(async move { drop(runner.await) });
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

async fn a_live_long_job_is_never_taken_away(jobs: Fixture) {
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

async fn a_dead_workers_jobs_move_within_seconds(jobs: Fixture) {
    let mut queued = Vec::new();
    for _ in 0..20 {
        queued.push(jobs.queue.submit(Submit::new("short"), now_ms()).await.unwrap());
    }
    // Claims all and is never heard of again.
    let dead = jobs.queue.claim("dead", 100, 0, LEASE, now_ms()).await.unwrap();
    assert_eq!(dead.len(), 20);
    let died = Instant::now();
    let _worker = worker(&jobs, &Registry::default().with(Short));
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
    assert_eq!(jobs.events().await.iter().filter(|event| *event == "job.completed").count(), 20, "told once each");
}

support::on_both_engines! {
    a_live_long_job_is_never_taken_away,
    a_dead_workers_jobs_move_within_seconds,
}
