//! A client that repeats what it was told to repeat, and complains of everything else.

use std::{cell::Cell, time::Duration};

use anyhow::{Result, bail};
use streamgate_testkit::eventually;

use crate::rest::Reply;

/// Longest time that a client goes on asking.
const PATIENCE: Duration = Duration::from_secs(60);

/// Repeats calls while a service is away.
#[derive(Debug)]
pub(super) struct Patient {
    /// Whether the edge itself may be away, so that there may be no answer at all.
    edge_dies: bool,
    repeats: Cell<usize>,
}

impl Patient {
    pub(super) const fn new(edge_dies: bool) -> Self {
        Self { edge_dies, repeats: Cell::new(0) }
    }

    /// How many calls had to be repeated.
    pub(super) const fn repeats(&self) -> usize {
        self.repeats.get()
    }

    /// The answer when it is a success; nothing when it says "not now".
    pub(super) fn judged(&self, answer: Result<Reply>) -> Result<Option<Reply>> {
        let reply = match answer {
            Ok(reply) => reply,
            Err(_) if self.edge_dies => return Ok(self.repeat()),
            Err(error) => return Err(error.context("the edge lives and gives no answer")),
        };
        match reply.status {
            200..300 => Ok(Some(reply)),
            503 => Ok(self.repeat()),
            _ => bail!("{}: neither done nor \"not now\": {} {}", reply.asked, reply.status, reply.text()),
        }
    }

    fn repeat(&self) -> Option<Reply> {
        self.repeats.set(self.repeats.get() + 1);
        None
    }

    /// Repeats a call until it succeeds.
    pub(super) async fn persist<F, Fut>(&self, what: &str, mut call: F) -> Result<Reply>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<Reply>>,
    {
        eventually(what, PATIENCE, || {
            let call = call();
            async move { self.judged(call.await) }
        })
        .await
    }

    /// Repeats a longer piece of work while what stops it is a service that is away.
    pub(super) async fn persist_all<T, F, Fut>(&self, what: &str, mut work: F) -> Result<T>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        eventually(what, PATIENCE, || {
            let work = work();
            async move {
                match work.await {
                    Ok(done) => Ok(Some(done)),
                    Err(error) if self.is_away(&error) => {
                        self.repeat();
                        Ok(None)
                    }
                    Err(error) => Err(error),
                }
            }
        })
        .await
    }

    /// Whether an error says "not now", or that a stream of media was cut off.
    fn is_away(&self, error: &anyhow::Error) -> bool {
        let text = format!("{error:#}");
        let no_answer = error.chain().any(<dyn std::error::Error>::is::<reqwest::Error>);
        text.contains("got 503") || text.contains("the body broke off") || (self.edge_dies && no_answer)
    }
}
