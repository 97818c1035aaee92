//! Callers that queue at the same time share one change, and so one wait for the disk.
//!
//! Whoever comes while a change is under way waits beside it; the next change takes all who wait. When the database is away
//! they all hear that at once: trying for one after another would take a timeout each.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use streamgate_core::{ErrorKind, time::UnixMillis};
use streamgate_store::Transaction;
use tokio::sync::{Mutex as Turn, oneshot};

use super::{Queue, Submit};
use crate::{
    Error,
    engine::{Origin, rows::Job},
};

/// Jobs of one change: what they wait for is shared, and it must not become long.
const MAX_TOGETHER: usize = 64;

/// Callers that wait at the most, sixteen changes of them: whoever comes after would wait longer than callers do.
const MAX_WAITING: usize = 16 * MAX_TOGETHER;

type Answer = oneshot::Sender<Result<Job, Error>>;

/// A job that waits to be queued.
#[derive(Debug)]
struct Waiting {
    submit: Submit,
    now: UnixMillis,
    origin: Origin,
    answer: Answer,
}

/// Where callers wait.
#[derive(Debug, Default)]
pub(super) struct Desk {
    waiting: Mutex<Vec<Waiting>>,
    turn: Turn<()>,
}

impl Desk {
    fn waiting(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, one: Waiting) -> Result<(), Error> {
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            waiting.retain(Waiting::is_awaited);
        }
        if waiting.len() >= MAX_WAITING {
            return Err(Error::TooManyWaiting);
        }
        waiting.push(one);
        Ok(())
    }

    fn next(&self) -> Vec<Waiting> {
        let mut waiting = self.waiting();
        waiting.retain(Waiting::is_awaited);
        let together = waiting.len().min(MAX_TOGETHER);
        waiting.drain(..together).collect()
    }

    fn all(&self) -> Vec<Waiting> {
        mem::take(&mut *self.waiting())
    }
}

impl Waiting {
    /// Whether its caller is still there: one that gave up tries again, or wants the job no more.
    fn is_awaited(&self) -> bool {
        !self.answer.is_closed()
    }
}

impl Queue {
    /// Queues a job. Repeating the request gives the first job, and a unique key that is taken the job that has it.
    ///
    /// # Errors
    /// When the request id was used for something else, or too many wait already.
    pub async fn submit(&self, submit: Submit, now: UnixMillis) -> Result<Job, Error> {
        let (answer, mut answered) = oneshot::channel();
        self.desk.join(Waiting { submit, now, origin: Origin::current(), answer })?;
        loop {
            let queue = self.clone();
            // A task of its own: a caller that goes away must not take the others' change with it.
            let change = tokio::spawn(async move {
                let desk = Arc::clone(&queue.desk);
                let _turn = desk.turn.lock().await;
                queue.queue_together(desk.next()).await;
            });
            tokio::select! {
                biased;
                told = &mut answered => return told.map_err(|_| Error::BrokeOff)?,
                _ = change => {}
            }
        }
    }

    async fn queue_together(&self, waiting: Vec<Waiting>) {
        match self.try_together(&waiting).await {
            Ok(jobs) => {
                for (one, job) in waiting.into_iter().zip(jobs) {
                    one.answer.send(job).ok();
                }
                self.wake();
            }
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                for one in waiting.into_iter().chain(self.desk.all()) {
                    one.answer.send(Err(streamgate_store::Error::Unavailable(None).into())).ok();
                }
                tracing::debug!(error = &error as &dyn std::error::Error, "jobs could not be queued");
            }
            // One of them spoils it for all: each hears what is true for it.
            Err(_) => {
                for one in waiting {
                    let alone = self.submit_alone(&one).await;
                    one.answer.send(alone).ok();
                }
                self.wake();
            }
        }
    }

    /// One change for all; a job that is refused leaves the others in it.
    async fn try_together(&self, waiting: &[Waiting]) -> Result<Vec<Result<Job, Error>>, Error> {
        let mut jobs = Vec::with_capacity(waiting.len());
        if waiting.is_empty() {
            return Ok(jobs);
        }
        let mut tx = self.db.begin().await?;
        for one in waiting {
            match self.submit_for(&mut tx, one).await {
                Err(refused @ Error::RequestIdReused) => jobs.push(Err(refused)),
                other => jobs.push(Ok(other?)),
            }
        }
        tx.commit().await?;
        Ok(jobs)
    }

    async fn submit_alone(&self, one: &Waiting) -> Result<Job, Error> {
        let mut tx = self.db.begin().await?;
        let job = self.submit_for(&mut tx, one).await?;
        tx.commit().await?;
        Ok(job)
    }

    async fn submit_for(&self, tx: &mut Transaction, one: &Waiting) -> Result<Job, Error> {
        one.origin.scope(self.submit_in(tx, one.submit.clone(), one.now)).await
    }
}
