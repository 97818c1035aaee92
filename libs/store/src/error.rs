//! What can go wrong with stored things.

use std::io;

use streamgate_core::{ErrorKind, Failure};

use crate::key::{BadKey, BlobKey};

/// Result of a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No blob has this key.
    #[error("there is no blob {0}")]
    NotFound(BlobKey),
    /// The key is taken: a blob is written once.
    #[error("the blob {0} is there already")]
    AlreadyExists(BlobKey),
    /// The text can't name a blob.
    #[error(transparent)]
    BadKey(#[from] BadKey),
    /// Bytes were appended at another place than the end.
    #[error("the next byte to append is {durable}")]
    WrongOffset {
        /// Where the blob ends: the offset to append at.
        durable: u64,
    },
    /// A range reaches past the end.
    #[error("the range reaches past the end of a blob of {size_bytes} bytes")]
    OutOfRange {
        /// Size of the whole blob.
        size_bytes: u64,
    },
    /// Somebody else appends to this blob.
    #[error("the blob {0} is being written by somebody else")]
    Busy(BlobKey),
    /// The sender's stream of bytes broke.
    #[error("the stream of bytes to store broke")]
    Stream(#[source] io::Error),
    /// No room is left.
    #[error("no room is left to store it")]
    Full,
    /// The folder or the database can't be written.
    #[error("the storage is read-only")]
    ReadOnly,
    /// The store is away or overloaded; retry later.
    #[error("the storage does not answer")]
    Unavailable(#[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// What is stored can't be what was written.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// Any other trouble with files.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// Any other trouble with the database.
    #[error("query the database")]
    Database(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("bring the database schema up to date")]
    Migrate(#[from] sqlx::migrate::MigrateError),
}

impl Error {
    /// Reads what the system said while `doing` something.
    pub(crate) fn io(doing: impl Into<String>, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => Self::Full,
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => Self::ReadOnly,
            _ => Self::Io { doing: doing.into(), source },
        }
    }

    /// The kind that decides the gRPC code and the HTTP status.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Self::BadKey(_) => ErrorKind::InvalidArgument,
            Self::WrongOffset { .. } => ErrorKind::FailedPrecondition,
            Self::OutOfRange { .. } => ErrorKind::OutOfRange,
            Self::Busy(_) => ErrorKind::Aborted,
            Self::Stream(_) => ErrorKind::Cancelled,
            Self::Full => ErrorKind::StorageFull,
            Self::ReadOnly | Self::Unavailable(_) => ErrorKind::Unavailable,
            Self::Corrupt(_) | Self::Io { .. } | Self::Database(_) | Self::Migrate(_) => ErrorKind::Internal,
        }
    }

    /// Stable word for callers.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NotFound(_) => "blob_not_found",
            Self::AlreadyExists(_) => "blob_exists",
            Self::BadKey(_) => "blob_key_invalid",
            Self::WrongOffset { .. } => "wrong_offset",
            Self::OutOfRange { .. } => "range_past_end",
            Self::Busy(_) => "blob_busy",
            Self::Stream(_) => "stream_broken",
            Self::Full => "storage_full",
            Self::ReadOnly => "storage_read_only",
            Self::Unavailable(_) => "storage_unavailable",
            Self::Corrupt(_) | Self::Io { .. } | Self::Database(_) | Self::Migrate(_) => "internal",
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed => Self::Unavailable(Some(Box::new(error))),
            sqlx::Error::Io(source) => Self::io("reach the database file", source),
            other => match sqlite_code(&other) {
                Some(SQLITE_FULL) => Self::Full,
                Some(SQLITE_READONLY | SQLITE_PERM) => Self::ReadOnly,
                Some(SQLITE_BUSY | SQLITE_LOCKED) => Self::Unavailable(Some(Box::new(other))),
                Some(SQLITE_CORRUPT | SQLITE_NOTADB) => Self::Corrupt(other.to_string()),
                _ => Self::Database(other),
            },
        }
    }
}

// Primary result codes of SQLite; the low byte of an extended code.
const SQLITE_PERM: u32 = 3;
const SQLITE_BUSY: u32 = 5;
const SQLITE_LOCKED: u32 = 6;
const SQLITE_READONLY: u32 = 8;
const SQLITE_CORRUPT: u32 = 11;
const SQLITE_FULL: u32 = 13;
const SQLITE_NOTADB: u32 = 26;

fn sqlite_code(error: &sqlx::Error) -> Option<u32> {
    let code = error.as_database_error()?.code()?;
    code.parse::<u32>().ok().map(|code| code & 0xff)
}

impl From<Error> for Failure {
    /// What a caller may see. Does not log: the service that answers does, once.
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.reason(), error.to_string())
    }
}
