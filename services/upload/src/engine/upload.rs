//! An upload, apart from how it is stored.

use std::ops::Range;

use streamgate_core::{ids::UploadId, time::UnixMillis};

use crate::command::Chunking;

/// How far an upload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Takes bytes.
    Open,
    /// Its file is whole.
    Completed,
    /// Ended by its owner.
    Cancelled,
    /// Ended by time.
    Expired,
}

impl State {
    /// The state as it is stored and said.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Completed, Self::Cancelled, Self::Expired].into_iter().find(|state| state.as_str() == text)
    }
}

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
    /// Durable bytes without a gap before them.
    pub offset_bytes: u64,
    /// Announced size, or the real one once completed; 0 when unknown.
    pub size_bytes: u64,
    /// Lower-case hex, once completed.
    pub sha256: String,
    /// When it began.
    pub created_ms: UnixMillis,
    /// When it ends by itself.
    pub expires_ms: UnixMillis,
    /// Durable bytes, wherever they belong.
    pub received_bytes: u64,
    /// How its chunks say where they belong; absent for a stream.
    pub chunking: Option<Chunking>,
    /// How many chunks have come.
    pub chunk_count: u32,
    /// What has come, without overlaps: bytes, or indexes of chunks. Not in lists.
    pub received: Vec<Range<u64>>,
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
