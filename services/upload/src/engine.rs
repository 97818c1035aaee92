//! The behaviour of uploads. No type of the wire but events is in sight.

mod alive;
mod allowance;
mod begin;
mod broke;
mod chunks;
mod complete;
mod end;
mod hashing;
mod intake;
mod join;
mod quota;
mod room;
mod rows;
mod slots;
mod titles;
mod upload;
mod verify;
mod write;

use std::{path::Path, sync::Arc};

use streamgate_core::{Caller, ids::UploadId, page::Page};
use streamgate_store::{BlobKey, BlobStore, Database, Outbox};

pub use broke::Broke;
pub use chunks::Chunk;
pub use room::{Boundless, Disk, Room};
pub use titles::{MeshTitles, Titles};
pub use upload::{State, Upload};
pub use verify::Verified;

use crate::{
    Config, Error, Metrics,
    command::Chunking,
    engine::{rows::Row, slots::Slots, verify::Reading},
};

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadPage {
    /// Newest first.
    pub uploads: Vec<Upload>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// What a sweep did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Swept {
    /// Uploads that it ended.
    pub expired: u32,
    /// More are waiting.
    pub more: bool,
}

/// Takes files in. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: Config,
    db: Database,
    outbox: Outbox,
    blobs: Arc<dyn BlobStore>,
    room: Arc<dyn Room>,
    titles: Arc<dyn Titles>,
    slots: Slots,
    reading: Reading,
    metrics: Metrics,
}

/// Where the bytes go.
#[derive(Debug, Clone)]
pub struct Storage {
    /// Keeps them.
    pub blobs: Arc<dyn BlobStore>,
    /// Knows how many more fit.
    pub room: Arc<dyn Room>,
}

impl Storage {
    /// Keeps files in `blobs`. When those are files of `folder`, the databases need room on that disk too, of which
    /// `reserve_bytes` stay free. A bucket grows as it is filled, whatever room the disk of this process has.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn of(blobs: Arc<dyn BlobStore>, folder: &Path, reserve_bytes: u64) -> Result<Self, Error> {
        let keeps_files = blobs.local_path(&source_key("any")?).is_some();
        let room: Arc<dyn Room> = if keeps_files { Arc::new(Disk::new(folder, reserve_bytes)) } else { Arc::new(Boundless) };
        Ok(Self { blobs, room })
    }
}

impl Engine {
    /// An engine on these stores.
    #[must_use]
    pub fn new(
        config: Config,
        db: Database,
        outbox: Outbox,
        Storage { blobs, room }: Storage,
        titles: Arc<dyn Titles>,
        metrics: Metrics,
    ) -> Self {
        let (slots, reading) = (Slots::default(), Reading::default());
        Self { shared: Arc::new(Shared { config, db, outbox, blobs, room, titles, slots, reading, metrics }) }
    }

    /// One upload of the caller.
    ///
    /// # Errors
    /// `UnknownUpload` also for somebody else's.
    pub async fn get(&self, caller: &Caller, id: &UploadId) -> Result<Upload, Error> {
        let row = self.owned(caller, id).await?;
        self.show(row).await
    }

    /// The caller's own uploads, newest first.
    ///
    /// # Errors
    /// `NoOwner` for a caller without an account; a page token of another list.
    pub async fn list(&self, caller: &Caller, page_size: u32, page_token: &str) -> Result<UploadPage, Error> {
        let owner = caller.account().ok_or(Error::NoOwner)?.id.as_str();
        let page = Page::parse(page_size, page_token, owner)?;
        let rows = rows::list(&self.shared.db, owner, page.after.as_deref(), page.size + 1).await?;
        let (rows, next_page_token) = page.cut(rows, |row| row.id.clone(), owner);
        let mut uploads = Vec::with_capacity(rows.len());
        for row in rows {
            // As last noted: a page must not ask the store a hundred times.
            let noted = row.received();
            uploads.push(row.into_upload(noted, Vec::new())?);
        }
        Ok(UploadPage { uploads, next_page_token })
    }

    /// The row of an upload that the caller may touch.
    async fn owned(&self, caller: &Caller, id: &UploadId) -> Result<Row, Error> {
        let row = rows::find(&self.shared.db, id.as_str()).await?;
        row.filter(|row| row.content_id.is_some() && caller.may_act_for(&row.owner))
            .ok_or_else(|| Error::UnknownUpload(id.to_string()))
    }

    /// The upload of a row, with what has come.
    async fn show(&self, row: Row) -> Result<Upload, Error> {
        let length = match (row.state()?, row.chunking()?) {
            (State::Open, Some(chunking @ (Chunking::Index | Chunking::Offset))) => {
                let mut connection = self.shared.db.pool().acquire().await?;
                let chunks = chunks::list(&mut connection, &row.id).await?;
                let (offset, _) = chunks::without_gap(chunking, &chunks);
                return row.into_upload(offset, chunks::ranges(chunking, &chunks));
            }
            (State::Open, _) => self.durable_length(&source_key(&row.id)?).await?,
            (State::Completed, _) => row.size(),
            (State::Cancelled | State::Expired, _) => 0,
        };
        row.into_upload(length, write::ranges(length))
    }

    /// Bytes of a source that survive a crash: of an open one, or of one that was sealed by a
    /// completion that a crash cut short.
    async fn durable_length(&self, key: &BlobKey) -> Result<u64, Error> {
        if let Some(length) = self.shared.blobs.open_length(key).await? {
            return Ok(length);
        }
        match self.shared.blobs.head(key).await {
            Ok(info) => Ok(info.size_bytes),
            Err(streamgate_store::Error::NotFound(_)) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

/// Where the bytes of an upload are kept.
fn source_key(id: &str) -> Result<BlobKey, Error> {
    BlobKey::new(format!("sources/{id}")).map_err(|bad| Error::Store(bad.into()))
}
