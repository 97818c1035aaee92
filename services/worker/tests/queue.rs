//! The durable queue, at any moment a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use streamgate_worker::{
    Error,
    engine::{MAX_ATTEMPTS, State, Submit, UNFINISHED_QUERIES},
};
use support::{Fixture, id_of};

const LEASE: Duration = Duration::from_secs(30);
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn submit(job_type: &str, request_id: &str, delay_ms: u64) -> Submit {
    Submit { job_type: job_type.into(), request_id: Some(request_id.into()), delay: Duration::from_millis(delay_ms) }
}

#[tokio::test]
async fn a_job_runs_when_its_time_has_come_and_once() {
    let jobs = Fixture::open().await;
    let job = jobs.queue.submit(submit("count", "a", 500), 1_000).await.unwrap();
    assert_eq!((job.state, job.run_ms, job.attempts), (State::Queued, 1_500, 0));
    assert_eq!(jobs.queue.claim(LEASE, 1_499).await.unwrap(), None);
    let claim = jobs.queue.claim(LEASE, 1_500).await.unwrap().unwrap();
    assert_eq!((claim.job_id.as_str(), claim.attempt), (job.job_id.as_str(), 1));
    assert_eq!(jobs.queue.claim(LEASE, 1_501).await.unwrap(), None);
    assert!(jobs.queue.finish(&claim, State::Succeeded, "done", 1_600).await.unwrap());
    let ended = jobs.queue.get(&id_of(&job)).await.unwrap();
    assert_eq!((ended.state, ended.message.as_str(), ended.end_ms), (State::Succeeded, "done", Some(1_600)));
}

#[tokio::test]
async fn a_silent_worker_loses_its_job_and_can_no_longer_end_it() {
    let jobs = Fixture::open().await;
    let job = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    let first = jobs.queue.claim(LEASE, 0).await.unwrap().unwrap();
    assert!(jobs.queue.heartbeat(&first, LEASE, 20_000).await.unwrap());
    assert_eq!(jobs.queue.claim(LEASE, 49_999).await.unwrap(), None, "the heartbeat kept it");
    let second = jobs.queue.claim(LEASE, 50_000).await.unwrap().unwrap();
    assert_eq!((second.attempt, second.fence > first.fence), (2, true));
    assert!(!jobs.queue.heartbeat(&first, LEASE, 50_001).await.unwrap());
    assert!(!jobs.queue.finish(&first, State::Failed, "late", 50_002).await.unwrap());
    assert!(!jobs.queue.retry(&first, "late", 50_003).await.unwrap());
    assert!(jobs.queue.finish(&second, State::Succeeded, "done", 50_004).await.unwrap());
    assert_eq!(jobs.queue.get(&id_of(&job)).await.unwrap().state, State::Succeeded);
}

#[tokio::test]
async fn a_job_that_kills_every_worker_fails_in_the_end() {
    let jobs = Fixture::open().await;
    let job = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    for attempt in 1..=MAX_ATTEMPTS {
        let now = i64::from(attempt) * 100_000;
        assert_eq!(jobs.queue.claim(LEASE, now).await.unwrap().unwrap().attempt, attempt);
    }
    assert_eq!(jobs.queue.claim(LEASE, DAY_MS).await.unwrap(), None);
    let ended = jobs.queue.get(&id_of(&job)).await.unwrap();
    assert_eq!((ended.state, ended.attempts), (State::Failed, MAX_ATTEMPTS));
}

#[tokio::test]
async fn a_released_attempt_does_not_count_and_a_retry_waits() {
    let jobs = Fixture::open().await;
    jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    let claim = jobs.queue.claim(LEASE, 0).await.unwrap().unwrap();
    assert!(jobs.queue.release(&claim, 10).await.unwrap());
    let again = jobs.queue.claim(LEASE, 10).await.unwrap().unwrap();
    assert_eq!(again.attempt, 1);
    assert!(jobs.queue.retry(&again, "trouble", 5_000).await.unwrap());
    assert_eq!(jobs.queue.next_due().await.unwrap(), Some(5_000));
    assert_eq!(jobs.queue.claim(LEASE, 4_999).await.unwrap(), None);
    assert_eq!(jobs.queue.claim(LEASE, 5_000).await.unwrap().unwrap().attempt, 2);
}

#[tokio::test]
async fn the_same_request_queues_one_job_and_another_body_is_refused() {
    let jobs = Fixture::open().await;
    let first = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    assert_eq!(jobs.queue.submit(submit("count", "a", 0), 9).await.unwrap(), first);
    assert!(matches!(jobs.queue.submit(submit("count", "a", 1), 9).await, Err(Error::RequestIdReused)));
    assert_ne!(jobs.queue.submit(submit("count", "b", 0), 9).await.unwrap().job_id, first.job_id);
}

#[tokio::test]
async fn a_cancelled_job_stays_cancelled_and_an_ended_one_can_not_be() {
    let jobs = Fixture::open().await;
    let waiting = jobs.queue.submit(submit("count", "a", 60_000), 0).await.unwrap();
    assert_eq!(jobs.queue.cancel(&id_of(&waiting), 1).await.unwrap().state, State::Cancelled);
    assert_eq!(jobs.queue.cancel(&id_of(&waiting), 2).await.unwrap().end_ms, Some(1));
    assert_eq!(jobs.queue.claim(LEASE, 60_000).await.unwrap(), None);

    let running = jobs.queue.submit(submit("count", "b", 0), 70_000).await.unwrap();
    let claim = jobs.queue.claim(LEASE, 70_000).await.unwrap().unwrap();
    jobs.queue.cancel(&id_of(&running), 70_001).await.unwrap();
    assert!(!jobs.queue.holds(&claim).await.unwrap());
    assert!(!jobs.queue.finish(&claim, State::Succeeded, "late", 70_002).await.unwrap());

    let ended = jobs.queue.submit(submit("count", "c", 0), 80_000).await.unwrap();
    let claim = jobs.queue.claim(LEASE, 80_000).await.unwrap().unwrap();
    jobs.queue.finish(&claim, State::Succeeded, "", 80_001).await.unwrap();
    assert!(matches!(jobs.queue.cancel(&id_of(&ended), 80_002).await, Err(Error::Ended(_))));
}

#[tokio::test]
async fn a_schedule_fires_on_time_and_never_piles_up() {
    let jobs = Fixture::open().await;
    let every = Duration::from_secs(600);
    assert_eq!(jobs.queue.tick("sweep", every, 0).await.unwrap(), 600_000, "at once, the first time");
    assert_eq!(jobs.queue.tick("sweep", every, 599_999).await.unwrap(), 600_000);
    jobs.queue.tick("sweep", every, 600_000).await.unwrap();
    assert_eq!(jobs.queue.list(0, "", None).await.unwrap().jobs.len(), 1, "the one before has not ended");
    let claim = jobs.queue.claim(LEASE, 600_000).await.unwrap().unwrap();
    jobs.queue.tick("sweep", every, 1_200_000).await.unwrap();
    assert_eq!(jobs.queue.list(0, "", None).await.unwrap().jobs.len(), 1, "it runs");
    jobs.queue.finish(&claim, State::Succeeded, "", 1_200_001).await.unwrap();
    jobs.queue.tick("sweep", every, 1_800_000).await.unwrap();
    assert_eq!(jobs.queue.list(0, "", None).await.unwrap().jobs.len(), 2);
    let sooner = jobs.queue.tick("sweep", Duration::from_secs(1), 1_800_001).await.unwrap();
    assert_eq!(sooner, 1_801_001, "a shorter interval counts at once");
}

#[tokio::test]
async fn jobs_that_ended_a_week_ago_are_forgotten() {
    let jobs = Fixture::open().await;
    let old = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    jobs.queue.cancel(&id_of(&old), 1).await.unwrap();
    let waiting = jobs.queue.submit(submit("count", "b", 0), 0).await.unwrap();
    assert_eq!(jobs.queue.prune(7 * DAY_MS).await.unwrap(), 0);
    assert_eq!(jobs.queue.prune(7 * DAY_MS + 2).await.unwrap(), 1);
    assert!(matches!(jobs.queue.get(&id_of(&old)).await, Err(Error::UnknownJob(_))));
    assert!(jobs.queue.get(&id_of(&waiting)).await.is_ok());
}

#[tokio::test]
async fn many_workers_at_once_claim_each_job_once() {
    let jobs = Fixture::open().await;
    for number in 0..40 {
        jobs.queue.submit(submit("count", &number.to_string(), 0), 0).await.unwrap();
    }
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let queue = jobs.queue.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                while let Some(claim) = queue.claim(LEASE, 1).await.unwrap() {
                    mine.push(claim.job_id);
                }
                mine
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for worker in workers {
        claimed.extend(worker.await.unwrap());
    }
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 40);
    assert_eq!(jobs.queue.list(100, "", Some(State::Running)).await.unwrap().jobs.len(), 40);
}

#[tokio::test]
async fn a_claim_reads_an_index_and_not_the_table() {
    let jobs = Fixture::open().await;
    for query in UNFINISHED_QUERIES {
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).fetch_all(jobs.db.pool()).await.unwrap();
        assert!(
            plan.iter().all(|step| !step.3.starts_with("SCAN") && !step.3.contains("TEMP B-TREE FOR ORDER BY")),
            "{query}\n{plan:?}"
        );
    }
}
