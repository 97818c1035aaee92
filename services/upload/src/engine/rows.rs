//! Rows of uploads.

use std::ops::Range;

use sqlx::AnyConnection;
use streamgate_store::Database;

use crate::{
    Error,
    command::{Chunking, CreateUpload},
    engine::{
        quota,
        upload::{State, Upload},
    },
};

/// How long an upload without a title counts as being begun: metadata is asked for longer by no call.
const BEGINNING_MS: i64 = 60 * 1000;

/// Reads uploads. The columns of a [`Row`] are named: while a newer release adds one, a statement that an open connection
/// has prepared must not change what it gives.
macro_rules! select_uploads {
    ($tail:literal) => {
        concat!(
            "SELECT id, owner, fingerprint, content_id, filename, state, announced_bytes, expected_sha256, size_bytes, sha256,
                    created_ms, expires_ms, chunking, chunk_count, received_bytes, joining, held_bytes FROM uploads ",
            $tail
        )
    };
}

/// One stored upload.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct Row {
    pub(super) id: String,
    pub(super) owner: String,
    pub(super) fingerprint: String,
    pub(super) content_id: Option<String>,
    pub(super) filename: String,
    state: String,
    announced_bytes: i64,
    pub(super) expected_sha256: String,
    size_bytes: i64,
    pub(super) sha256: String,
    created_ms: i64,
    expires_ms: i64,
    chunking: String,
    chunk_count: i64,
    received_bytes: i64,
    joining: i64,
    held_bytes: i64,
}

impl Row {
    pub(super) fn state(&self) -> Result<State, Error> {
        State::parse(&self.state).ok_or_else(|| self.corrupt())
    }

    /// Fails unless the upload takes bytes.
    pub(super) fn must_be_open(&self) -> Result<(), Error> {
        match self.state()? {
            State::Open => Ok(()),
            closed => Err(Error::Closed(closed.as_str())),
        }
    }

    /// Announced size, when there is one.
    pub(super) fn announced(&self) -> Option<u64> {
        u64::try_from(self.announced_bytes).ok().filter(|size| *size > 0)
    }

    /// Size once completed.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.size_bytes).unwrap_or(0)
    }

    /// How its bytes come; absent before the first.
    pub(super) fn chunking(&self) -> Result<Option<Chunking>, Error> {
        if self.chunking.is_empty() {
            return Ok(None);
        }
        let known = [Chunking::Stream, Chunking::Index, Chunking::Offset];
        known.into_iter().find(|way| way.as_str() == self.chunking).map(Some).ok_or_else(|| self.corrupt())
    }

    pub(super) fn chunk_count(&self) -> u32 {
        u32::try_from(self.chunk_count).unwrap_or(0)
    }

    /// Durable bytes as last noted.
    pub(super) fn received(&self) -> u64 {
        u64::try_from(self.received_bytes).unwrap_or(0)
    }

    /// Bytes that it holds of its account's quota.
    pub(super) fn held(&self) -> u64 {
        u64::try_from(self.held_bytes).unwrap_or(0)
    }

    /// Whether its chunks are being put together.
    pub(super) const fn is_joining(&self) -> bool {
        self.joining != 0
    }

    pub(super) fn into_upload(self, offset_bytes: u64, received: Vec<Range<u64>>) -> Result<Upload, Error> {
        let state = self.state()?;
        let id = self.id.parse().map_err(|_| self.corrupt())?;
        let chunking = self.chunking()?.filter(|way| *way != Chunking::Stream);
        let received_bytes = if chunking.is_some() { self.received() } else { offset_bytes };
        let chunk_count = self.chunk_count();
        let size_bytes = if state == State::Completed { self.size() } else { self.announced().unwrap_or(0) };
        Ok(Upload {
            id,
            content_id: self.content_id.unwrap_or_default(),
            filename: self.filename,
            state,
            offset_bytes,
            size_bytes,
            sha256: self.sha256,
            created_ms: self.created_ms,
            expires_ms: self.expires_ms,
            received_bytes,
            chunking,
            chunk_count,
            received,
        })
    }

    fn corrupt(&self) -> Error {
        Error::CorruptRow(self.id.clone())
    }
}

pub(super) async fn find(db: &Database, id: &str) -> Result<Option<Row>, Error> {
    Ok(sqlx::query_as(select_uploads!("WHERE id = $1")).bind(id).fetch_optional(db.pool()).await?)
}

/// The row as a change sees it.
pub(super) async fn find_in(tx: &mut AnyConnection, id: &str) -> Result<Option<Row>, Error> {
    Ok(sqlx::query_as(select_uploads!("WHERE id = $1")).bind(id).fetch_optional(tx).await?)
}

pub(super) async fn find_by_request(tx: &mut AnyConnection, owner: &str, request_id: &str) -> Result<Option<Row>, Error> {
    let query = sqlx::query_as(select_uploads!("WHERE owner = $1 AND request_id = $2"));
    Ok(query.bind(owner).bind(request_id).fetch_optional(tx).await?)
}

/// Behind every id, in bytes.
const BEHIND_ALL: &str = "~";

pub(super) async fn list(db: &Database, owner: &str, after: Option<&str>, limit: u32) -> Result<Vec<Row>, Error> {
    let query =
        sqlx::query_as(select_uploads!("WHERE owner = $1 AND content_id IS NOT NULL AND id < $2 ORDER BY id DESC LIMIT $3"));
    Ok(query.bind(owner).bind(after.unwrap_or(BEHIND_ALL)).bind(i64::from(limit)).fetch_all(db.pool()).await?)
}

/// Completed uploads whose files are kept, by id.
pub(super) async fn kept(db: &Database, after: &str, limit: u32) -> Result<Vec<Row>, Error> {
    let query = sqlx::query_as(select_uploads!(
        "WHERE id > $1 AND state = 'completed' AND held_bytes > 0 AND doomed <> 1 ORDER BY id LIMIT $2"
    ));
    Ok(query.bind(after).bind(i64::from(limit)).fetch_all(db.pool()).await?)
}

pub(super) async fn is_kept(db: &Database, id: &str) -> Result<bool, Error> {
    let query = sqlx::query("SELECT 1 FROM uploads WHERE id = $1 AND held_bytes > 0 AND doomed <> 1");
    Ok(query.bind(id).fetch_optional(db.pool()).await?.is_some())
}

/// Open uploads of an account. One whose title could not be made is in no list, so its owner could not end it, and it must
/// not keep others out for long.
pub(super) async fn count_open(tx: &mut AnyConnection, owner: &str, now: i64) -> Result<u32, Error> {
    let query = sqlx::query_scalar(
        "SELECT count(*) FROM uploads WHERE owner = $1 AND state = 'open' AND (content_id IS NOT NULL OR created_ms > $2)",
    );
    let count: i64 = query.bind(owner).bind(now.saturating_sub(BEGINNING_MS)).fetch_one(tx).await?;
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
}

pub(super) async fn insert(
    tx: &mut AnyConnection,
    id: &str,
    owner: &str,
    command: &CreateUpload,
    (created_ms, expires_ms): (i64, i64),
) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO uploads (id, owner, request_id, fingerprint, filename, state, announced_bytes, held_bytes, expected_sha256,
                              created_ms, expires_ms)
         VALUES ($1, $2, $3, $4, $5, 'open', $6, $6, $7, $8, $9)",
    )
    .bind(id)
    .bind(owner)
    .bind(&command.request_id)
    .bind(command.fingerprint())
    .bind(&command.filename)
    .bind(i64::try_from(command.size_bytes.unwrap_or(0)).unwrap_or(i64::MAX))
    .bind(&command.sha256)
    .bind(created_ms)
    .bind(expires_ms)
    .execute(tx)
    .await?;
    Ok(())
}

/// Sets when an open upload ends by itself. `false` when it is not open any more.
pub(super) async fn renew(tx: &mut AnyConnection, id: &str, expires_ms: i64) -> Result<bool, Error> {
    let query = sqlx::query("UPDATE uploads SET expires_ms = $1 WHERE id = $2 AND state = 'open'");
    Ok(query.bind(expires_ms).bind(id).execute(tx).await?.rows_affected() == 1)
}

/// Notes a chunk, and sets the expiry anew.
pub(super) async fn count_chunk(
    tx: &mut AnyConnection,
    id: &str,
    chunking: Chunking,
    received: u64,
    expires_ms: i64,
) -> Result<(), Error> {
    sqlx::query(
        "UPDATE uploads SET chunking = $1, chunk_count = chunk_count + 1, received_bytes = $2, expires_ms = $3 WHERE id = $4",
    )
    .bind(chunking.as_str())
    .bind(i64::try_from(received).unwrap_or(i64::MAX))
    .bind(expires_ms)
    .bind(id)
    .execute(tx)
    .await?;
    Ok(())
}

/// Closes an open upload. `false` when it is not open any more.
pub(super) async fn close(tx: &mut AnyConnection, id: &str, state: State) -> Result<bool, Error> {
    let query = sqlx::query("UPDATE uploads SET state = $1, doomed = 1 WHERE id = $2 AND state = 'open'");
    if query.bind(state.as_str()).bind(id).execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(false);
    }
    quota::note(tx, id, 0).await?;
    Ok(true)
}

/// Takes an upload back whose title was not made: nobody knows of it, so it must not count. One with a title stays.
pub(super) async fn take_back(tx: &mut AnyConnection, id: &str) -> Result<(), Error> {
    let untitled = sqlx::query("SELECT 1 FROM uploads WHERE id = $1 AND content_id IS NULL").bind(id);
    if untitled.fetch_optional(&mut *tx).await?.is_none() {
        return Ok(());
    }
    quota::note(tx, id, 0).await?;
    sqlx::query("DELETE FROM uploads WHERE id = $1").bind(id).execute(tx).await?;
    Ok(())
}
