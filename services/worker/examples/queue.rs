//! Queues jobs that do nothing and runs them, for `scripts/bench/queue`.
//!
//!     queue sqlite FILE JOBS
//!     queue postgres URL JOBS
//!
//! Each job is queued by a call of its own, as callers of the service do, and told to others when it is
//! queued and when it ends. Says "ready", waits for a line, and prints the seconds of both halves as JSON.
#![allow(clippy::print_stdout, reason = "what a script reads")]

use std::{
    error::Error,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Instant,
};

use async_trait::async_trait;
use streamgate_core::{ServiceName, time::now_ms};
use streamgate_store::{Database, Outbox, PostgresServer};
use streamgate_worker::{
    Config, MIGRATIONS, Metrics,
    engine::{Queue, Runner, Submit, Work},
    jobs::{JobError, JobType, Registry},
};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Callers that queue at once, and jobs that run at once.
const AT_ONCE: u32 = 16;

struct Nothing {
    left: Arc<AtomicU32>,
    done: CancellationToken,
}

#[async_trait]
impl JobType for Nothing {
    fn name(&self) -> &'static str {
        "nothing"
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.done.cancel();
        }
        Ok(String::new())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [engine, place, jobs] = arguments.as_slice() else { return Err("queue sqlite|postgres PLACE JOBS".into()) };
    let jobs: u32 = jobs.parse()?;
    let db = match engine.as_str() {
        "sqlite" => Database::open(Path::new(place), &MIGRATIONS).await?,
        _ => Database::connect(&PostgresServer::parse(place)?, "worker", &MIGRATIONS).await?,
    };
    let queue = Queue::new(db.clone(), Outbox::new(ServiceName::Worker));

    // What came before is no job's cost.
    println!("ready");
    std::io::stdin().read_line(&mut String::new())?;

    let began = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..AT_ONCE {
        let (queue, share) = (queue.clone(), jobs / AT_ONCE + u32::from(caller < jobs % AT_ONCE));
        callers.spawn(async move {
            for _ in 0..share {
                queue.submit(Submit::new("nothing"), now_ms()).await?;
            }
            Ok::<_, streamgate_worker::Error>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let queued = began.elapsed().as_secs_f64();

    let began = Instant::now();
    let (left, done) = (Arc::new(AtomicU32::new(jobs)), CancellationToken::new());
    let registry = Registry::default().with(Nothing { left, done: done.clone() });
    let config = Config { concurrency: AT_ONCE, ..Config::default() };
    // The last job ends the runner, which writes what it holds before it returns.
    Runner::new(queue.clone(), registry, Metrics::default(), config).run(done).await;
    let ran = began.elapsed().as_secs_f64();

    let (succeeded,): (i64,) = sqlx::query_as("SELECT count(*) FROM jobs WHERE state = 3").fetch_one(db.pool()).await?;
    if succeeded != i64::from(jobs) {
        return Err(format!("{succeeded} of {jobs} jobs succeeded").into());
    }
    db.close().await;
    println!("{}", serde_json::json!({"queued_seconds": queued, "ran_seconds": ran}));
    Ok(())
}
