//! Reads stored files again, to see that they are still what was stored.

use std::time::Duration;

use streamgate_core::ErrorKind;
use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

use crate::{
    Error,
    engine::{Engine, hashing::Hashing, rows, rows::Row, source_key},
};

/// Files that one call reads, unless the caller says otherwise.
const DEFAULT_FILES: u32 = 100;
/// Most files that one call reads.
const MAX_FILES: u32 = 1_000;
/// How long one call reads: callers wait ten seconds.
const READING_TIME: Duration = Duration::from_secs(7);
/// Before every id, in bytes, and not empty, which would mean that all is done.
const BEFORE_ALL: &str = "0";

/// What one call has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Files that were read to their end.
    pub checked: u32,
    /// Uploads whose files are gone, or are not what was stored.
    pub corrupt: Vec<String>,
    /// Where to go on; empty when there are no more.
    pub next: String,
}

/// The file that an earlier call has begun to read, and the id of its upload.
#[derive(Debug, Default)]
pub(super) struct Reading(Mutex<Option<Begun>>);

type Begun = (String, JoinHandle<Result<bool, Error>>);

impl Engine {
    /// Reads the files after `token` and compares them with their hashes, for as long as a call may take. A longer
    /// file is read on in the meantime, and the next call with the same token hears of it.
    ///
    /// # Errors
    /// What the database or the store says, when it is away. A file that can't be read is told of in the log, and passed by.
    pub async fn verify(&self, limit: u32, token: &str) -> Result<Verified, Error> {
        let until = Instant::now() + READING_TIME;
        let limit = if limit == 0 { DEFAULT_FILES } else { limit.min(MAX_FILES) };
        let mut begun = self.shared.reading.0.lock().await;
        let kept = rows::kept(&self.shared.db, token, limit + 1).await?;
        let has_more = kept.len() > limit as usize;
        let first = if token.is_empty() { BEFORE_ALL } else { token };
        let mut verified = Verified { checked: 0, corrupt: Vec::new(), next: first.to_owned() };
        for row in kept.into_iter().take(limit as usize) {
            let id = row.id.clone();
            let mut task = self.read_on(begun.take(), row);
            let Ok(ended) = timeout_at(until, &mut task).await else {
                *begun = Some((id, task));
                return Ok(verified);
            };
            match ended.map_err(Error::from).flatten() {
                Ok(is_whole) => {
                    verified.checked += 1;
                    verified.corrupt.extend((!is_whole).then(|| id.clone()));
                }
                // What was found until here is told first; the next call says what is wrong.
                Err(error) if is_away(&error) && verified.checked > 0 => return Ok(verified),
                Err(error) if is_away(&error) && !self.answers(&id).await => return Err(error),
                // One file that can't be read must not keep the others from being looked at.
                Err(error) => self.note_unreadable(&id, &error),
            }
            verified.next = id;
        }
        if !has_more {
            verified.next.clear();
        }
        Ok(verified)
    }

    fn read_on(&self, begun: Option<Begun>, row: Row) -> JoinHandle<Result<bool, Error>> {
        match begun {
            Some((id, task)) if id == row.id => return task,
            // Nobody has asked for it again.
            Some((_, task)) => task.abort(),
            None => {}
        }
        let engine = self.clone();
        tokio::spawn(async move { engine.verify_one(&row).await })
    }

    /// Whether the store says of a file that it is there.
    async fn answers(&self, id: &str) -> bool {
        match source_key(id) {
            Ok(key) => self.shared.blobs.head(&key).await.is_ok(),
            Err(_) => true,
        }
    }

    fn note_unreadable(&self, id: &str, error: &Error) {
        self.shared.metrics.count_verified("unreadable");
        tracing::error!(upload_id = id, error = error as &dyn std::error::Error, "a stored file can't be read");
    }

    async fn verify_one(&self, row: &Row) -> Result<bool, Error> {
        let is_whole = self.is_whole(row).await?;
        // A file may be purged while it is read.
        if !is_whole && !rows::is_kept(&self.shared.db, &row.id).await? {
            return Ok(true);
        }
        self.shared.metrics.count_verified(if is_whole { "whole" } else { "corrupt" });
        if !is_whole {
            tracing::error!(upload_id = row.id, owner = row.owner, "a stored file is gone or is not what was stored");
        }
        Ok(is_whole)
    }

    async fn is_whole(&self, row: &Row) -> Result<bool, Error> {
        use streamgate_store::Error::{Corrupt, NotFound, OutOfRange};
        let key = source_key(&row.id)?;
        match self.shared.blobs.head(&key).await {
            Ok(info) if info.size_bytes == row.size() => {}
            Ok(_) | Err(NotFound(_)) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        let mut hashing = Hashing::default();
        match hashing.catch_up(&*self.shared.blobs, &key, row.size()).await {
            Ok(()) => Ok(hashing.hex() == row.sha256),
            Err(Error::Store(NotFound(_) | OutOfRange { .. } | Corrupt(_))) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// Whether it is likely that no other file could be read either.
fn is_away(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}
