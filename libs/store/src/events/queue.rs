//! Works a queue of events off: in order for each subject, many subjects at once.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    ops::RangeInclusive,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures::{FutureExt as _, future};
use prost::Message as _;
use streamgate_client::context::caused_by;
use streamgate_core::{ErrorKind, Failure, error::chain, time::now_ms};
use streamgate_proto::streamgate::events::v1::Event;
use tokio::{
    sync::watch,
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Patience,
    metrics::EventMetrics,
    patience::{Blame, blame},
};
use crate::{
    database::{Database, DatabaseKind, Transaction},
    error::{Error, Result},
};

/// Subjects worked on at once.
const AT_ONCE: usize = 16;
/// Subjects read from the database at once.
const HEADS: i64 = 256;
/// Events of one subject that are worked off in one go.
const CHAIN: i64 = 32;
/// Longest time one event may take.
const DEADLINE: Duration = Duration::from_secs(15);
/// No further event of a subject is begun after this time, so that a claim outlives its work.
const CHAIN_TIME: Duration = Duration::from_secs(20);
/// How long a replica has a subject to itself; a dead one's work is taken up after this time.
const CLAIM_MS: i64 = 45_000;
/// How often work that another replica left is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Shortest wait between two looks at the database while events are being delivered.
const REST_WHILE_WORKING: Duration = Duration::from_millis(50);
/// Failed tries after which a person should look, and again after each further so many.
const TRIES_TO_WARN: i64 = 20;

/// An event that waits in a queue.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) seq: i64,
    pub(super) attempts: i64,
    pub(super) strikes: i64,
    pub(super) again: bool,
    pub(super) body: Vec<u8>,
}

/// What a delivery gives back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Number of the message in a broker's stream.
    pub stream_seq: Option<i64>,
}

/// What became of a waiting event.
#[derive(Debug)]
pub(super) enum Outcome {
    Done(Receipt),
    Retry { wait: Duration, strike: bool },
    Dead(Failure),
}

/// Rows of waiting events, and what is done with each.
#[async_trait]
pub(super) trait Queue: Send + Sync + 'static {
    /// Where the rows are.
    fn db(&self) -> &Database;

    /// Who takes the events, as it stands in logs and metrics.
    fn consumer(&self) -> &str;

    /// Changes when there may be something new.
    fn news(&self) -> watch::Receiver<u64>;

    /// Subjects whose oldest event is due, oldest first.
    async fn heads(&self, limit: i64) -> Result<Vec<String>>;

    /// When the next event is due.
    async fn next_ms(&self) -> Result<Option<i64>>;

    /// Moves the time of the subject's oldest event to `to_ms` if it is within `from_ms`; says whether it was.
    async fn move_head(&self, tx: &mut Transaction, subject: &str, from_ms: RangeInclusive<i64>, to_ms: i64) -> Result<bool>;

    /// The subject's oldest events.
    async fn oldest(&self, subject: &str, limit: i64) -> Result<Vec<Waiting>>;

    /// Does what the queue is for.
    async fn deliver(&self, event: Event, again: bool) -> Result<Receipt, Failure>;

    /// Writes down what became of an event.
    async fn settle(&self, tx: &mut Transaction, waiting: &Waiting, outcome: &Outcome) -> Result<()>;
}

/// Works `queue` off until `stop`.
pub(super) struct Worker<Q> {
    pub(super) queue: Q,
    pub(super) patience: Patience,
    pub(super) metrics: EventMetrics,
    /// Subjects that this replica has to itself, and until when. A time that nobody else would choose.
    claims: Mutex<HashMap<String, i64>>,
}

/// A subject, and what became of its events.
type Worked = Result<(String, Vec<(Waiting, Outcome)>)>;

impl<Q: Queue> Worker<Q> {
    async fn run(self: Arc<Self>, stop: &CancellationToken) {
        let mut tries = 0;
        while !stop.is_cancelled() {
            let Err(error) = self.work(stop).await else { return };
            tries += 1;
            let consumer = self.queue.consumer();
            if tries == 1 || tries % TRIES_TO_WARN == 0 {
                tracing::warn!(consumer, error = %chain(&error), "a queue of events can't be read or written; trying again");
            }
            let away = Failure::new(ErrorKind::Unavailable, "storage", "");
            stop.run_until_cancelled(tokio::time::sleep(self.patience.wait(tries, &away))).await;
        }
    }

    async fn work(self: &Arc<Self>, stop: &CancellationToken) -> Result<()> {
        self.give_back().await?;
        let mut news = self.queue.news();
        let mut ready = VecDeque::new();
        let mut busy = HashSet::new();
        // Tasks of their own: while this loop waits for the database, they go on, and give back what it waits for.
        let mut working = JoinSet::new();
        loop {
            // Marked as seen before reading: a commit after this line wakes the wait below.
            news.borrow_and_update();
            if ready.is_empty() && working.len() < AT_ONCE {
                ready.extend(self.queue.heads(HEADS).await?.into_iter().filter(|subject| !busy.contains(subject)));
            }
            while working.len() < AT_ONCE {
                let Some(subject): Option<String> = ready.pop_front() else { break };
                busy.insert(subject.clone());
                working.spawn(Arc::clone(self).chain(subject));
            }
            let due = if working.len() < AT_ONCE { self.rest(!busy.is_empty()).await? } else { LOOK_EVERY };
            tokio::select! {
                () = stop.cancelled() => break,
                Some(first) = working.join_next() => {
                    for subject in self.settle(first, &mut working).await? {
                        busy.remove(&subject);
                    }
                }
                _ = news.changed() => {}
                () = tokio::time::sleep(due) => {}
            }
        }
        // What was begun is brought to its end, or it would be done twice.
        while let Some(first) = working.join_next().await {
            self.settle(first, &mut working).await?;
        }
        Ok(())
    }

    /// Writes down what is done by now, in one change: a commit costs a sync of the disk. Gives the subjects.
    async fn settle(&self, first: Result<Worked, JoinError>, working: &mut JoinSet<Worked>) -> Result<Vec<String>> {
        let (mut subjects, mut outcomes) = (Vec::new(), Vec::new());
        let mut next = Some(first);
        while let Some(done) = next {
            // What panics here is the queue itself; it is begun anew.
            let (subject, of_subject) = done.map_err(|error| Error::Unavailable(Some(Box::new(error))))??;
            subjects.push(subject);
            outcomes.extend(of_subject);
            next = working.try_join_next();
        }
        if !outcomes.is_empty() {
            let mut tx = self.queue.db().begin_shared().await?;
            for (waiting, outcome) in &outcomes {
                self.queue.settle(&mut tx, waiting, outcome).await?;
            }
            tx.commit().await?;
        }
        let mut claims = self.claims();
        for subject in &subjects {
            claims.remove(subject);
        }
        Ok(subjects)
    }

    fn claims(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes due what was claimed when the database went away: nobody works on it any more.
    async fn give_back(&self) -> Result<()> {
        let left = self.claims().clone();
        if left.is_empty() {
            return Ok(());
        }
        let mut tx = self.queue.db().begin_shared().await?;
        for (subject, until) in &left {
            self.queue.move_head(&mut tx, subject, *until..=*until, now_ms()).await?;
        }
        tx.commit().await?;
        self.claims().clear();
        Ok(())
    }

    /// The subject's oldest events, for this replica alone; none when another replica has them.
    async fn claim(&self, subject: &str) -> Result<Vec<Waiting>> {
        let db = self.queue.db();
        // One process alone has a SQLite file. Replicas share a server: the first to move the time of the head has it.
        if db.kind() == DatabaseKind::Postgres {
            let now = now_ms();
            // Noted first: of a commit that breaks off, nobody knows whether it was made.
            self.claims().insert(subject.to_owned(), now + CLAIM_MS);
            let mut tx = db.begin_shared().await?;
            let is_ours = self.queue.move_head(&mut tx, subject, 0..=now, now + CLAIM_MS).await?;
            tx.commit().await?;
            if !is_ours {
                self.claims().remove(subject);
                return Ok(Vec::new());
            }
        }
        self.queue.oldest(subject, CHAIN).await
    }

    /// How long until something is due. What is being worked on looks due too.
    async fn rest(&self, is_working: bool) -> Result<Duration> {
        let shortest = if is_working { REST_WHILE_WORKING } else { Duration::from_millis(1) };
        let next = self.queue.next_ms().await?;
        let left = next.map(|at| Duration::from_millis(u64::try_from(at - now_ms()).unwrap_or(0)));
        Ok(left.map_or(LOOK_EVERY, |left| left.clamp(shortest, LOOK_EVERY)))
    }

    /// Works the oldest events of a subject off, up to the first that fails for now.
    async fn chain(self: Arc<Self>, subject: String) -> Worked {
        let began = Instant::now();
        let mut outcomes = Vec::new();
        for waiting in self.claim(&subject).await? {
            if began.elapsed() > CHAIN_TIME {
                break;
            }
            let outcome = self.attempt(&waiting).await;
            let stays = matches!(outcome, Outcome::Retry { .. });
            outcomes.push((waiting, outcome));
            if stays {
                break;
            }
        }
        Ok((subject, outcomes))
    }

    async fn attempt(&self, waiting: &Waiting) -> Outcome {
        let Ok(event) = Event::decode(waiting.body.as_slice()) else {
            return self.give_up("", Failure::invalid_field("event", "can't be read"));
        };
        let id = event.id.clone();
        let (cause, name) = (event.trace_parent.clone(), event.r#type.clone());
        let delivery = caused_by(&cause, &id, &name, self.queue.deliver(event, waiting.again));
        // A panic is a fault like others: the event is given up in the end, and the queue goes on.
        let failure = match timeout(DEADLINE, AssertUnwindSafe(delivery).catch_unwind()).await {
            Ok(Ok(Ok(receipt))) => {
                self.metrics.delivered(self.queue.consumer());
                return Outcome::Done(receipt);
            }
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_)) => Failure::new(ErrorKind::Internal, "internal", "the consumer panicked"),
            Err(_) => Failure::new(ErrorKind::DeadlineExceeded, "deadline_exceeded", "the consumer did not answer in time"),
        };
        self.metrics.failed(self.queue.consumer());
        let blame = blame(failure.kind);
        let strike = blame == Blame::Perhaps;
        let strikes = waiting.strikes + i64::from(strike);
        if blame == Blame::Event || strikes >= i64::from(self.patience.strikes) {
            return self.give_up(&id, failure);
        }
        let attempts = waiting.attempts + 1;
        if attempts % TRIES_TO_WARN == 0 {
            tracing::warn!(consumer = self.queue.consumer(), event_id = id, attempts, reason = %failure.reason,
                error = %failure.message, "an event can't be delivered yet");
        }
        let tries = if strike { strikes } else { attempts };
        Outcome::Retry { wait: self.patience.wait(tries, &failure), strike }
    }

    fn give_up(&self, id: &str, failure: Failure) -> Outcome {
        self.metrics.died(self.queue.consumer());
        tracing::error!(consumer = self.queue.consumer(), event_id = id, reason = %failure.reason, error = %failure.message,
            "an event became a dead letter; later ones of its subject go on");
        Outcome::Dead(failure)
    }
}

/// Works several queues off at once until `stop`.
pub(super) async fn run_all<Q: Queue>(queues: Vec<Q>, patience: Patience, metrics: &EventMetrics, stop: &CancellationToken) {
    let workers =
        queues.into_iter().map(|queue| Arc::new(Worker { queue, patience, metrics: metrics.clone(), claims: Mutex::default() }));
    future::join_all(workers.map(|worker| worker.run(stop))).await;
}
