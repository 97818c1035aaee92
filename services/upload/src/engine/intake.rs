//! A client's bytes on their way to the store: counted, hashed, and watched.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use streamgate_core::Failure;
use streamgate_store::ByteStream;
use tokio_util::sync::CancellationToken;

use crate::{Error, engine::hashing::Hashing};

/// Why a client's stream was ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Broke {
    /// The client went away.
    #[error("the client went away")]
    Client,
    /// The client fell silent.
    #[error("the client fell silent")]
    Idle,
    /// More came than is taken.
    #[error("more than {limit} bytes came")]
    TooLarge {
        /// What is taken.
        limit: u64,
    },
    /// The upload is being ended.
    #[error("the upload is being ended")]
    Ended,
    /// A message was wrong.
    #[error("{0}")]
    Refused(Failure),
}

impl Broke {
    /// As an item of a stream of bytes.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// What broke the stream: anything not said here is the client's going.
    pub(super) fn of(error: &io::Error) -> Self {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).cloned().unwrap_or(Self::Client)
    }
}

impl From<Broke> for Error {
    fn from(broke: Broke) -> Self {
        match broke {
            Broke::Client => Self::Broken,
            Broke::Idle => Self::Idle,
            Broke::TooLarge { limit } => Self::TooLarge { limit },
            Broke::Ended => Self::EndedMeanwhile,
            Broke::Refused(failure) => Self::Refused(failure),
        }
    }
}

/// What is watched while bytes come in.
pub(super) struct Limits {
    /// Where the first byte goes.
    pub(super) offset: u64,
    /// Largest length of the file.
    pub(super) limit: u64,
    /// Longest silence.
    pub(super) idle: Duration,
    /// Ends the stream.
    pub(super) stop: CancellationToken,
}

struct Intake {
    body: ByteStream,
    limits: Limits,
    length: u64,
    hashing: Arc<Mutex<Hashing>>,
}

/// Wraps a client's body. `hashing` follows the bytes that go through.
pub(super) fn watch(body: ByteStream, limits: Limits, hashing: Arc<Mutex<Hashing>>) -> ByteStream {
    let length = limits.offset;
    stream::try_unfold(Intake { body, limits, length, hashing }, |mut intake| async move {
        let chunk = intake.next().await?;
        Ok(chunk.map(|chunk| (chunk, intake)))
    })
    .boxed()
}

impl Intake {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let coming = tokio::time::timeout(self.limits.idle, self.body.next());
        let chunk = tokio::select! {
            biased;
            () = self.limits.stop.cancelled() => return Err(Broke::Ended.into_io()),
            chunk = coming => chunk.map_err(|_| Broke::Idle.into_io())?,
        };
        let Some(chunk) = chunk.transpose()? else { return Ok(None) };
        let limit = self.limits.limit;
        let room = limit.saturating_sub(self.length);
        if chunk.len() as u64 > room {
            return Err(Broke::TooLarge { limit }.into_io());
        }
        self.length += chunk.len() as u64;
        self.hashing.lock().unwrap_or_else(PoisonError::into_inner).update(&chunk);
        Ok(Some(chunk))
    }
}
