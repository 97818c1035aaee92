//! A client's bytes on their way to the store: counted, hashed, and watched.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use streamgate_store::ByteStream;
use tokio_util::sync::CancellationToken;

use super::{allowance::Allowance, broke::Broke, hashing::Hashing, room::Room};

/// What is watched while bytes come in.
pub(super) struct Limits {
    /// Where the first byte goes.
    pub(super) offset: u64,
    /// Largest length of the file.
    pub(super) limit: u64,
    /// Length at the end, when it is known.
    pub(super) exact: Option<u64>,
    /// Hash at the end as lower-case hex, when it is known.
    pub(super) sha256: Option<String>,
    /// Longest silence.
    pub(super) idle: Duration,
    /// Ends the stream.
    pub(super) stop: CancellationToken,
    /// Where the bytes go.
    pub(super) room: Arc<dyn Room>,
    /// Room in the account's quota, for a file whose length is not held already.
    pub(super) allowance: Option<Allowance>,
}

/// The disk is asked for room once in so many bytes.
const ASK_ROOM_EVERY: u64 = 1024 * 1024;

struct Intake {
    body: ByteStream,
    limits: Limits,
    length: u64,
    /// Length at which the disk is asked next.
    ask_at: u64,
    hashing: Arc<Mutex<Hashing>>,
}

/// Wraps a client's body. `hashing` follows the bytes that go through.
pub(super) fn watch(body: ByteStream, limits: Limits, hashing: Arc<Mutex<Hashing>>) -> ByteStream {
    let length = limits.offset;
    stream::try_unfold(Intake { body, limits, length, ask_at: length, hashing }, |mut intake| async move {
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
        let Some(chunk) = chunk.transpose()? else { return self.end().map(|()| None) };
        let limit = self.limits.limit;
        let room = limit.saturating_sub(self.length);
        if chunk.len() as u64 > room {
            return Err(Broke::TooLarge { limit }.into_io());
        }
        if let Some(allowance) = &mut self.limits.allowance {
            allowance.reach(self.length + chunk.len() as u64).await.map_err(Broke::into_io)?;
        }
        if self.length >= self.ask_at {
            self.ask_at = self.length + ASK_ROOM_EVERY;
            if self.limits.room.free_bytes().is_some_and(|free| free < chunk.len() as u64) {
                return Err(Broke::NoRoom.into_io());
            }
        }
        self.length += chunk.len() as u64;
        self.hashing.lock().unwrap_or_else(PoisonError::into_inner).update(&chunk);
        Ok(Some(chunk))
    }

    /// What came must be what was announced.
    fn end(&self) -> io::Result<()> {
        if self.limits.exact.is_some_and(|exact| exact != self.length) {
            return Err(Broke::Client.into_io());
        }
        let Some(expected) = &self.limits.sha256 else { return Ok(()) };
        let actual = self.hashing.lock().unwrap_or_else(PoisonError::into_inner).hex();
        if *expected == actual { Ok(()) } else { Err(Broke::Mismatch { actual }.into_io()) }
    }
}
