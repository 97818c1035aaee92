//! The behaviour of uploads. No type of the wire but events is in sight.

mod begin;
mod complete;
mod end;
mod hashing;
mod intake;
mod rows;
mod slots;
mod titles;
mod write;

use std::sync::Arc;

use streamgate_core::{Caller, ids::UploadId, page::Page, time::UnixMillis};
use streamgate_store::{BlobKey, BlobStore, Database, Outbox};

pub use intake::Broke;
pub use rows::State;
pub use titles::{MeshTitles, Titles};

use crate::{Config, Error, Metrics, engine::rows::Row, engine::slots::Slots};

/// An upload as its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upload {
    /// Its id.
    pub id: UploadId,
    /// The title it becomes.
    pub content_id: String,
    /// Name shown to people.
    pub filename: String,
    /// How far it is.
    pub state: State,
    /// Durable bytes.
    pub offset_bytes: u64,
    /// Announced size, or the real one once completed; 0 when unknown.
    pub size_bytes: u64,
    /// Lower-case hex, once completed.
    pub sha256: String,
    /// When it began.
    pub created_ms: UnixMillis,
    /// When it ends by itself.
    pub expires_ms: UnixMillis,
}

impl Upload {
    /// Name of the stored file, once completed.
    #[must_use]
    pub fn file_id(&self) -> String {
        match (self.state, self.id.as_str().split_once('_')) {
            (State::Completed, Some((_, digits))) => format!("fil_{digits}"),
            _ => String::new(),
        }
    }
}

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
    titles: Arc<dyn Titles>,
    slots: Slots,
    metrics: Metrics,
}

impl Engine {
    /// An engine on these stores.
    #[must_use]
    pub fn new(
        config: Config,
        db: Database,
        outbox: Outbox,
        blobs: Arc<dyn BlobStore>,
        titles: Arc<dyn Titles>,
        metrics: Metrics,
    ) -> Self {
        let slots = Slots::default();
        Self { shared: Arc::new(Shared { config, db, outbox, blobs, titles, slots, metrics }) }
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
            uploads.push(self.show(row).await?);
        }
        Ok(UploadPage { uploads, next_page_token })
    }

    /// The row of an upload that the caller may touch.
    async fn owned(&self, caller: &Caller, id: &UploadId) -> Result<Row, Error> {
        let row = rows::find(&self.shared.db, id.as_str()).await?;
        row.filter(|row| row.content_id.is_some() && caller.may_act_for(&row.owner))
            .ok_or_else(|| Error::UnknownUpload(id.to_string()))
    }

    /// The upload of a row, with its durable offset.
    async fn show(&self, row: Row) -> Result<Upload, Error> {
        let state = row.state()?;
        let offset = match state {
            State::Open => self.durable_length(&source_key(&row.id)?).await?,
            State::Completed => row.size(),
            State::Cancelled | State::Expired => 0,
        };
        row.into_upload(offset)
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
