//! The durable queue, at any moment a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::{Duration, Instant};

use streamgate_worker::{
    Error,
    engine::{CLAIM_QUERIES, End, Filter, MAX_ATTEMPTS, Priority, State, Submit},
};
use support::{Fixture, LEASE, id_of};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn submit(job_type: &str, request_id: &str, delay_ms: u64) -> Submit {
    Submit { request_id: Some(request_id.into()), delay: Duration::from_millis(delay_ms), ..Submit::new(job_type) }
}

fn failed(message: &str) -> End {
    End::Failed { reason: "hopeless", message: message.into() }
}

fn retry(run_ms: i64) -> End {
    End::Retry { message: "trouble".into(), run_ms }
}

async fn a_job_runs_when_its_time_has_come_and_once() {
    let jobs = Fixture::open().await;
    let job = jobs.queue.submit(submit("count", "a", 500), 1_000).await.unwrap();
    assert_eq!((job.state, job.run_ms, job.attempts), (State::Queued, 1_500, 0));
    assert_eq!(jobs.claim(1_499).await, None);
    let claim = jobs.claim(1_500).await.unwrap();
    assert_eq!((claim.job_id.as_str(), claim.attempt), (job.job_id.as_str(), 1));
    assert_eq!(jobs.claim(1_501).await, None);
    assert!(jobs.finish(&claim, 1_600).await);
    let ended = jobs.queue.get(&id_of(&job)).await.unwrap();
    assert_eq!((ended.state, ended.message.as_str(), ended.end_ms), (State::Succeeded, "done", Some(1_600)));
    assert_eq!((ended.progress, ended.expire_ms), (1.0, Some(1_600 + 7 * DAY_MS)));
    assert_eq!(jobs.events().await, ["job.submitted", "job.completed"]);
}

async fn a_silent_worker_loses_its_job_and_can_no_longer_end_it() {
    let jobs = Fixture::open().await;
    let job = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    let first = jobs.claim(0).await.unwrap();
    assert!(jobs.beat(&first, 20_000).await);
    assert_eq!(jobs.queue.get(&id_of(&job)).await.unwrap().progress, 0.5);
    assert_eq!(jobs.claim(49_999).await, None, "the heartbeat kept it");
    let second = jobs.claim(50_000).await.unwrap();
    assert_eq!((second.attempt, second.fence > first.fence), (2, true));
    assert!(!jobs.beat(&first, 50_001).await);
    for late in [failed("late"), retry(50_003), End::Released, End::Succeeded("late".into())] {
        assert!(!jobs.settle(&first, late, 50_002).await);
    }
    assert!(jobs.finish(&second, 50_004).await);
    assert_eq!(jobs.queue.get(&id_of(&job)).await.unwrap().state, State::Succeeded);
    assert_eq!(jobs.events().await, ["job.submitted", "job.completed"], "what came late is not told");
}

async fn a_job_that_kills_every_worker_fails_in_the_end() {
    let jobs = Fixture::open().await;
    let job = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    for attempt in 1..=MAX_ATTEMPTS {
        assert_eq!(jobs.claim(i64::from(attempt) * 100_000).await.unwrap().attempt, attempt);
    }
    assert_eq!(jobs.claim(DAY_MS).await, None);
    let ended = jobs.queue.get(&id_of(&job)).await.unwrap();
    assert_eq!((ended.state, ended.attempts), (State::Failed, MAX_ATTEMPTS));
    assert_eq!(jobs.events().await, ["job.submitted", "job.failed"]);
}

/// No encoded message begins with a tag of nought.
const NO_MESSAGE: [u8; 3] = [0, 0, 0];

async fn a_row_that_cannot_be_read_becomes_a_dead_letter_and_its_lane_goes_on() {
    let jobs = Fixture::open().await;
    let once = Submit { max_attempts: 1, ..Submit::new("silent") };
    jobs.queue.submit(once, 0).await.unwrap();
    jobs.claim(0).await.unwrap();
    for name in ["params", "attempts", "sound"] {
        jobs.queue.submit(Submit::new(name), 0).await.unwrap();
    }
    jobs.change("UPDATE jobs SET params = $1 WHERE type IN ('params', 'silent')", NO_MESSAGE.to_vec()).await;
    jobs.change("UPDATE jobs SET max_attempts = -1 WHERE type = 'attempts' AND params <> $1", NO_MESSAGE.to_vec()).await;
    let later = DAY_MS;
    let claims = jobs.queue.claim("w", 9, 0, LEASE, later).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.job_type.as_str()).collect::<Vec<_>>(), ["sound"]);
    assert_eq!(jobs.queue.held_by("w").await.unwrap().len(), 1, "nothing else is held");
    let mut dead: Vec<_> = jobs.all(Some(State::Failed)).await.into_iter().map(|job| (job.job_type, job.message)).collect();
    dead.sort();
    let expected = [
        ("attempts", "what is stored of the job can't be read: its number of attempts is out of range"),
        ("params", "what is stored of the job can't be read: its parameters are no streamgate.worker.v1.JobParams"),
        ("silent", "the worker went silent in every attempt"),
    ];
    assert_eq!(dead, expected.map(|(job_type, message)| (job_type.to_owned(), message.to_owned())));
    assert_eq!(jobs.events().await.iter().filter(|name| *name == "job.failed").count(), 3);
    // Tried again as it is, it comes to the same end.
    assert_eq!(jobs.queue.retry_all_dead("params", later).await.unwrap(), (1, false));
    assert_eq!(jobs.claim(later).await, None);
    assert_eq!(jobs.all(Some(State::Failed)).await.len(), 3);
}

async fn a_released_attempt_does_not_count_and_a_retry_waits() {
    let jobs = Fixture::open().await;
    jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    let claim = jobs.claim(0).await.unwrap();
    assert!(jobs.settle(&claim, End::Released, 10).await);
    let again = jobs.claim(10).await.unwrap();
    assert_eq!(again.attempt, 1);
    assert!(jobs.settle(&again, retry(5_000), 20).await);
    assert_eq!(jobs.queue.next_due(20).await.unwrap(), Some(5_000));
    assert_eq!(jobs.claim(4_999).await, None);
    assert_eq!(jobs.claim(5_000).await.unwrap().attempt, 2);
    assert_eq!(jobs.queue.oldest_wait(60_000).await.unwrap(), Duration::ZERO, "none waits");
}

async fn the_same_request_queues_one_job_and_another_body_is_refused() {
    let jobs = Fixture::open().await;
    let first = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    assert_eq!(jobs.queue.submit(submit("count", "a", 0), 9).await.unwrap(), first);
    assert!(matches!(jobs.queue.submit(submit("count", "a", 1), 9).await, Err(Error::RequestIdReused)));
    let urgent = Submit { priority: Priority::High, ..submit("count", "a", 0) };
    assert!(matches!(jobs.queue.submit(urgent, 9).await, Err(Error::RequestIdReused)));
    assert_ne!(jobs.queue.submit(submit("count", "b", 0), 9).await.unwrap().job_id, first.job_id);
    let anothers = Submit { owner: "acc_2".into(), ..submit("count", "a", 1) };
    assert_ne!(jobs.queue.submit(anothers, 9).await.unwrap().job_id, first.job_id, "another caller may use the same id");
}

async fn callers_at_the_same_time_share_a_change_and_not_their_faults() {
    let jobs = Fixture::open().await;
    jobs.queue.submit(submit("count", "taken", 0), 0).await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..200_u64 {
        let queue = jobs.queue.clone();
        // One in ten repeats a request, one in ten misuses an id, one in ten can't be kept by every engine.
        let asked = match number % 10 {
            0 => submit("count", "taken", 0),
            1 => submit("count", "taken", 7),
            2 => submit("co\0unt", &number.to_string(), 0),
            _ => submit("count", &number.to_string(), 0),
        };
        calls.spawn(async move { (number % 10, queue.submit(asked, 1).await) });
    }
    let mut ids = std::collections::HashSet::new();
    while let Some(ended) = calls.join_next().await {
        match ended.unwrap() {
            (0, job) => assert_eq!(job.unwrap().create_ms, 0, "the first answer"),
            (1, refused) => assert!(matches!(refused, Err(Error::RequestIdReused))),
            (2, Err(error)) => assert_eq!(error.kind(), streamgate_core::ErrorKind::InvalidArgument, "{error}"),
            (_, job) => assert!(ids.insert(job.unwrap().job_id)),
        }
    }
    let kept = ids.len();
    assert!(kept == 140 || kept == 160, "{kept}: SQLite keeps what PostgreSQL can't");
    let (stored,): (i64,) = sqlx::query_as("SELECT count(*) FROM jobs").fetch_one(jobs.db.pool()).await.unwrap();
    assert_eq!(stored, i64::try_from(kept).unwrap() + 1);
}

async fn a_caller_that_goes_away_takes_nobodys_job_with_it() {
    let jobs = Fixture::open().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..40_u64 {
        let queue = jobs.queue.clone();
        calls.spawn(async move {
            let asked = queue.submit(submit("count", &number.to_string(), 0), 1);
            if number % 2 == 0 {
                // Looks once, and is gone.
                drop(tokio::time::timeout(Duration::ZERO, asked).await);
                return false;
            }
            asked.await.unwrap();
            true
        });
    }
    let mut stayed = 0;
    while let Some(ended) = calls.join_next().await {
        stayed += usize::from(ended.unwrap());
    }
    assert_eq!(stayed, 20);
}

async fn a_caller_that_gave_up_leaves_no_job_behind() {
    let jobs = Fixture::open().await;
    let writing = jobs.db.begin().await.unwrap();
    let first = tokio::spawn({
        let queue = jobs.queue.clone();
        async move { queue.submit(submit("count", "first", 0), 1).await }
    });
    // Its change waits for the writer before the other comes.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let gave_up = jobs.queue.submit(submit("count", "gave_up", 0), 1);
    tokio::time::timeout(Duration::from_millis(50), gave_up).await.unwrap_err();
    drop(writing);
    first.await.unwrap().unwrap();
    jobs.queue.submit(submit("count", "last", 0), 1).await.unwrap();
    assert_eq!(jobs.all(None).await.len(), 2);
}

async fn more_callers_than_can_be_served_are_told_so() {
    let jobs = Fixture::open().await;
    let writing = jobs.db.begin().await.unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..1_200 {
        let queue = jobs.queue.clone();
        calls.spawn(async move { queue.submit(Submit::new("count"), 1).await });
    }
    let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(refused.kind(), streamgate_core::ErrorKind::ResourceExhausted);
    drop(writing);
    let mut queued = 0;
    while let Some(ended) = calls.join_next().await {
        match ended.unwrap() {
            Ok(_) => queued += 1,
            Err(error) => assert!(matches!(error, Error::TooManyWaiting), "{error}"),
        }
    }
    assert!((1_024..1_200).contains(&queued), "{queued}");
}

async fn all_who_wait_hear_at_once_that_the_database_is_away() {
    let jobs = Fixture::open().await;
    // Held for longer than anybody waits for it.
    let writing = jobs.db.begin().await.unwrap();
    let began = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let queue = jobs.queue.clone();
        calls.spawn(async move { queue.submit(Submit::new("count"), 1).await });
    }
    while let Some(ended) = calls.join_next().await {
        assert_eq!(ended.unwrap().unwrap_err().kind(), streamgate_core::ErrorKind::Unavailable);
    }
    assert!(began.elapsed() < Duration::from_secs(18), "one timeout for all, and not one for each: {:?}", began.elapsed());
    drop(writing);
    jobs.queue.submit(Submit::new("count"), 1).await.unwrap();
}

async fn an_account_with_its_share_leaves_the_rest_to_others() {
    let jobs = Fixture::open().await;
    for (owner, count) in [("acc_1", 9), ("acc_2", 1), ("", 2)] {
        for _ in 0..count {
            jobs.queue.submit(Submit { owner: owner.into(), ..Submit::new("count") }, 0).await.unwrap();
        }
    }
    let shared = jobs.queue.clone().sharing(2);
    let claim =
        async || -> Vec<_> { shared.claim("w", 8, 0, LEASE, 1).await.unwrap().into_iter().map(|claim| claim.owner).collect() };
    assert_eq!(claim().await, ["acc_1", "acc_1"]);
    assert_eq!(claim().await, ["acc_2", ""]);
    assert_eq!(claim().await, [""], "what nobody has asked for has no share");
    assert!(claim().await.is_empty());
    assert_eq!(jobs.queue.next_due(1).await.unwrap(), None, "what waits for a place does not wait for its time");
    assert_eq!(shared.claim("other", 8, 0, LEASE, 1).await.unwrap().len(), 2, "each worker has places of its own");
}

async fn a_unique_key_is_held_until_its_job_has_ended() {
    let jobs = Fixture::open().await;
    let keyed = || Submit { unique_key: Some("cnt_1".into()), ..Submit::new("count") };
    let first = jobs.queue.submit(keyed(), 0).await.unwrap();
    assert_eq!(jobs.queue.submit(keyed(), 1).await.unwrap().job_id, first.job_id);
    let claim = jobs.claim(2).await.unwrap();
    assert_eq!(jobs.queue.submit(keyed(), 3).await.unwrap().job_id, first.job_id, "while it runs");
    jobs.settle(&claim, failed("no"), 4).await;
    let second = jobs.queue.submit(keyed(), 5).await.unwrap();
    assert_ne!(second.job_id, first.job_id);
    assert!(matches!(jobs.queue.retry_dead(&id_of(&first), 6).await, Err(Error::UniqueKeyTaken(_))));
    assert_eq!(jobs.queue.retry_all_dead("", 6).await.unwrap(), (0, false));
}

async fn the_urgent_run_first_and_the_old_are_not_forgotten() {
    let jobs = Fixture::open().await;
    for (name, priority) in [("low", Priority::Low), ("normal", Priority::Normal), ("high", Priority::High)] {
        for _ in 0..2 {
            jobs.queue.submit(Submit { priority, ..Submit::new(name) }, 0).await.unwrap();
        }
    }
    let types =
        |claims: Vec<streamgate_worker::engine::Claim>| claims.into_iter().map(|claim| claim.job_type).collect::<Vec<_>>();
    assert_eq!(types(jobs.queue.claim("w", 3, 0, LEASE, 1).await.unwrap()), ["high", "high", "normal"]);
    // Every eighth claim of a worker begins with the oldest.
    assert_eq!(types(jobs.queue.claim("w", 1, 7, LEASE, 1).await.unwrap()), ["low"]);
    assert_eq!(types(jobs.queue.claim("w", 9, 8, LEASE, 1).await.unwrap()), ["normal", "low"]);
}

async fn dead_letters_are_listed_and_come_back_with_all_their_attempts() {
    let jobs = Fixture::open().await;
    for name in ["a", "b", "c"] {
        let job = jobs.queue.submit(Submit::new(name), 0).await.unwrap();
        let claim = jobs.claim(0).await.unwrap();
        assert_eq!(claim.job_id, job.job_id);
        jobs.settle(&claim, failed("broken"), 1).await;
    }
    let dead = jobs.all(Some(State::Failed)).await;
    assert_eq!(dead.iter().map(|job| job.message.as_str()).collect::<Vec<_>>(), ["broken"; 3]);
    assert_eq!(dead[0].expire_ms, Some(1 + 30 * DAY_MS), "they wait for somebody to look");
    let one = jobs.queue.retry_dead(&id_of(&dead[0]), 10).await.unwrap();
    assert_eq!((one.state, one.attempts, one.end_ms, one.expire_ms), (State::Queued, 0, None, None));
    assert!(matches!(jobs.queue.retry_dead(&id_of(&one), 11).await, Err(Error::NotEnded(_))));
    assert_eq!(jobs.queue.retry_all_dead("a", 12).await.unwrap(), (1, false));
    assert_eq!(jobs.queue.retry_all_dead("", 12).await.unwrap(), (1, false));
    assert_eq!(jobs.all(Some(State::Queued)).await.len(), 3);
    let only_b = Filter { state: None, job_type: "b".into() };
    assert_eq!(jobs.queue.list(10, "", &only_b).await.unwrap().jobs.len(), 1);
    let none = Filter { state: Some(State::Failed), ..only_b };
    assert!(jobs.queue.list(10, "", &none).await.unwrap().jobs.is_empty());
}

async fn a_cancelled_job_stays_cancelled_and_an_ended_one_can_not_be() {
    let jobs = Fixture::open().await;
    let waiting = jobs.queue.submit(submit("count", "a", 60_000), 0).await.unwrap();
    assert_eq!(jobs.queue.cancel(&id_of(&waiting), 1).await.unwrap().state, State::Cancelled);
    assert_eq!(jobs.queue.cancel(&id_of(&waiting), 2).await.unwrap().end_ms, Some(1));
    assert_eq!(jobs.claim(60_000).await, None);

    let running = jobs.queue.submit(submit("count", "b", 0), 70_000).await.unwrap();
    let claim = jobs.claim(70_000).await.unwrap();
    assert_eq!(jobs.queue.held_by("w").await.unwrap(), [(claim.job_id.clone(), claim.fence)]);
    jobs.queue.cancel(&id_of(&running), 70_001).await.unwrap();
    assert!(jobs.queue.held_by("w").await.unwrap().is_empty());
    assert!(!jobs.finish(&claim, 70_002).await);

    let ended = jobs.queue.submit(submit("count", "c", 0), 80_000).await.unwrap();
    let claim = jobs.claim(80_000).await.unwrap();
    jobs.finish(&claim, 80_001).await;
    assert!(matches!(jobs.queue.cancel(&id_of(&ended), 80_002).await, Err(Error::Ended(_))));
}

async fn an_interval_fires_on_time_and_never_piles_up() {
    let jobs = Fixture::open().await;
    let every = Duration::from_secs(600);
    assert_eq!(jobs.queue.tick(Submit::new("sweep"), every, 0).await.unwrap(), 600_000, "at once, the first time");
    assert_eq!(jobs.queue.tick(Submit::new("sweep"), every, 599_999).await.unwrap(), 600_000);
    jobs.queue.tick(Submit::new("sweep"), every, 600_000).await.unwrap();
    assert_eq!(jobs.all(None).await.len(), 1, "the one before has not ended");
    let claim = jobs.claim(600_000).await.unwrap();
    jobs.queue.tick(Submit::new("sweep"), every, 1_200_000).await.unwrap();
    assert_eq!(jobs.all(None).await.len(), 1, "it runs");
    jobs.finish(&claim, 1_200_001).await;
    jobs.queue.tick(Submit::new("sweep"), every, 1_800_000).await.unwrap();
    assert_eq!(jobs.all(None).await.len(), 2);
    let sooner = jobs.queue.tick(Submit::new("sweep"), Duration::from_secs(1), 1_800_001).await.unwrap();
    assert_eq!(sooner, 1_801_001, "a shorter interval counts at once");
}

async fn ended_jobs_are_forgotten_when_their_time_is_over() {
    let jobs = Fixture::open().await;
    let old = jobs.queue.submit(submit("count", "a", 0), 0).await.unwrap();
    jobs.queue.cancel(&id_of(&old), 1).await.unwrap();
    let short = jobs.queue.submit(Submit { keep: Duration::from_secs(60), ..Submit::new("count") }, 0).await.unwrap();
    let claim = jobs.claim(5).await.unwrap();
    jobs.finish(&claim, 10).await;
    let waiting = jobs.queue.submit(submit("count", "b", 0), 0).await.unwrap();
    assert_eq!(jobs.queue.prune(60_011).await.unwrap(), 1);
    assert!(matches!(jobs.queue.get(&id_of(&short)).await, Err(Error::UnknownJob(_))));
    assert_eq!(jobs.queue.prune(7 * DAY_MS + 1).await.unwrap(), 0);
    assert_eq!(jobs.queue.prune(7 * DAY_MS + 2).await.unwrap(), 1);
    assert!(matches!(jobs.queue.get(&id_of(&old)).await, Err(Error::UnknownJob(_))));
    assert!(jobs.queue.get(&id_of(&waiting)).await.is_ok());
}

async fn many_workers_at_once_claim_each_job_once() {
    let jobs = Fixture::open().await;
    for number in 0..40 {
        jobs.queue.submit(submit("count", &number.to_string(), 0), 0).await.unwrap();
    }
    let workers: Vec<_> = (0..8_u64)
        .map(|worker| {
            let queue = jobs.queue.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                loop {
                    let claims = queue.claim(&worker.to_string(), 3, worker, LEASE, 1).await.unwrap();
                    if claims.is_empty() {
                        return mine;
                    }
                    mine.extend(claims.into_iter().map(|claim| claim.job_id));
                }
            })
        })
        .collect();
    let mut claimed = Vec::new();
    for worker in workers {
        claimed.extend(worker.await.unwrap());
    }
    assert_eq!(claimed.len(), 40);
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 40);
    assert_eq!(jobs.all(Some(State::Running)).await.len(), 40);
}

#[tokio::test]
async fn a_claim_reads_an_index_and_not_the_table() {
    let jobs = Fixture::open().await;
    for query in CLAIM_QUERIES {
        let plan: Vec<(i64, i64, i64, String)> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"))).fetch_all(jobs.db.pool()).await.unwrap();
        assert!(
            plan.iter().all(|step| !step.3.starts_with("SCAN") && !step.3.contains("TEMP B-TREE FOR ORDER BY")),
            "{query}\n{plan:?}"
        );
    }
}

streamgate_testkit::on_both_engines! {
    support:
    callers_at_the_same_time_share_a_change_and_not_their_faults,
    a_caller_that_goes_away_takes_nobodys_job_with_it,
    a_caller_that_gave_up_leaves_no_job_behind,
    more_callers_than_can_be_served_are_told_so,
    all_who_wait_hear_at_once_that_the_database_is_away,
    an_account_with_its_share_leaves_the_rest_to_others,
    a_job_runs_when_its_time_has_come_and_once,
    a_silent_worker_loses_its_job_and_can_no_longer_end_it,
    a_job_that_kills_every_worker_fails_in_the_end,
    a_row_that_cannot_be_read_becomes_a_dead_letter_and_its_lane_goes_on,
    a_released_attempt_does_not_count_and_a_retry_waits,
    the_same_request_queues_one_job_and_another_body_is_refused,
    a_unique_key_is_held_until_its_job_has_ended,
    the_urgent_run_first_and_the_old_are_not_forgotten,
    dead_letters_are_listed_and_come_back_with_all_their_attempts,
    a_cancelled_job_stays_cancelled_and_an_ended_one_can_not_be,
    an_interval_fires_on_time_and_never_piles_up,
    ended_jobs_are_forgotten_when_their_time_is_over,
    many_workers_at_once_claim_each_job_once,
}
