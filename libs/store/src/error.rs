//! What can go wrong with stored things.

use std::io;

use sqlx::{error::DatabaseError, migrate::MigrateError, sqlite::SqliteError};
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
    /// A stored body could not be read to its end, for a reason that may pass.
    #[error("read a stored blob")]
    Read(#[source] io::Error),
    /// No room is left.
    #[error("no room is left to store it")]
    Full,
    /// The folder or the database can't be written.
    #[error("the storage is read-only")]
    ReadOnly,
    /// The store does not let this service in, as its operator can mend.
    #[error("the storage does not let this service in: {0}")]
    Denied(String),
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
    /// A text that an engine can't keep, such as one with a NUL: what a caller gave was not checked before.
    #[error("a text of the request holds a character that can't be stored")]
    BadText,
    /// Any other trouble with the database.
    #[error("query the database")]
    Database(#[source] sqlx::Error),
    /// The schema could not be brought up to date.
    #[error("bring the database schema up to date")]
    Migrate(#[source] MigrateError),
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

    /// Why a body that a store gave broke off: what the store said, or `Read`.
    #[must_use]
    pub fn reading(source: io::Error) -> Self {
        source.downcast().unwrap_or_else(Self::Read)
    }

    /// Why a body to store broke off. One that comes from a store says what that store said.
    pub(crate) fn sending(source: io::Error) -> Self {
        source.downcast().unwrap_or_else(Self::Stream)
    }

    /// The store is away, as `cause` says.
    pub(crate) fn unavailable(cause: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Unavailable(Some(Box::new(cause)))
    }

    /// The kind that decides the gRPC code and the HTTP status.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound(_) => ErrorKind::NotFound,
            Self::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Self::BadKey(_) | Self::BadText => ErrorKind::InvalidArgument,
            Self::WrongOffset { .. } => ErrorKind::FailedPrecondition,
            Self::OutOfRange { .. } => ErrorKind::OutOfRange,
            Self::Busy(_) => ErrorKind::Aborted,
            Self::Stream(_) => ErrorKind::Cancelled,
            Self::Full => ErrorKind::StorageFull,
            Self::ReadOnly | Self::Denied(_) | Self::Unavailable(_) | Self::Read(_) => ErrorKind::Unavailable,
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
            Self::BadText => "text_invalid",
            Self::WrongOffset { .. } => "wrong_offset",
            Self::OutOfRange { .. } => "range_past_end",
            Self::Busy(_) => "blob_busy",
            Self::Stream(_) => "stream_broken",
            Self::Full => "storage_full",
            Self::ReadOnly => "storage_read_only",
            Self::Denied(_) | Self::Unavailable(_) | Self::Read(_) => "storage_unavailable",
            Self::Corrupt(_) | Self::Io { .. } | Self::Database(_) | Self::Migrate(_) => "internal",
        }
    }
}

impl From<MigrateError> for Error {
    /// A step that another replica is at, or that waits for a table in use, can be taken later.
    fn from(error: MigrateError) -> Self {
        match &error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) if passes(source) => {
                Self::unavailable(error)
            }
            _ => Self::Migrate(error),
        }
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Tls(_) => Self::unavailable(error),
            sqlx::Error::Io(source) => match Self::io("reach the database", io::Error::from(source.kind())) {
                full @ (Self::Full | Self::ReadOnly) => full,
                _ => Self::unavailable(error),
            },
            sqlx::Error::Database(said) => match meaning(said.as_ref()) {
                Meaning::Full => Self::Full,
                Meaning::ReadOnly => Self::ReadOnly,
                Meaning::Passing => Self::unavailable(error),
                Meaning::Damaged => Self::Corrupt(error.to_string()),
                Meaning::BadText => Self::BadText,
                Meaning::Other => Self::Database(error),
            },
            _ => Self::Database(error),
        }
    }
}

/// What an engine's error code means to us.
enum Meaning {
    Full,
    ReadOnly,
    /// It may work later.
    Passing,
    Damaged,
    BadText,
    Other,
}

fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(said) => matches!(meaning(said.as_ref()), Meaning::Passing),
        sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) => true,
        _ => false,
    }
}

fn meaning(error: &dyn DatabaseError) -> Meaning {
    let code = error.code().unwrap_or_default();
    if error.try_downcast_ref::<SqliteError>().is_some() {
        return code.parse().map_or(Meaning::Other, meaning_of_sqlite);
    }
    meaning_of_sqlstate(&code)
}

/// Result codes of SQLite; the low byte of an extended code is the primary one.
const fn meaning_of_sqlite(code: u32) -> Meaning {
    const PERM: u32 = 3;
    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const READONLY: u32 = 8;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const NOTADB: u32 = 26;
    match code & 0xff {
        FULL => Meaning::Full,
        READONLY | PERM => Meaning::ReadOnly,
        BUSY | LOCKED => Meaning::Passing,
        CORRUPT | NOTADB => Meaning::Damaged,
        _ => Meaning::Other,
    }
}

/// SQLSTATEs of PostgreSQL, appendix A of its manual.
fn meaning_of_sqlstate(code: &str) -> Meaning {
    match code {
        // disk_full
        "53100" => Meaning::Full,
        // read_only_sql_transaction
        "25006" => Meaning::ReadOnly,
        // query_canceled (a timeout), lock_not_available, idle_in_transaction_session_timeout, serialization_failure,
        // deadlock_detected
        "57014" | "55P03" | "25P03" | "40001" | "40P01" => Meaning::Passing,
        // data_corrupted, index_corrupted
        "XX001" | "XX002" => Meaning::Damaged,
        // character_not_in_repertoire, untranslatable_character
        "22021" | "22P05" => Meaning::BadText,
        // connection_exception, insufficient_resources, operator_intervention (such as a shutdown)
        _ if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => Meaning::Passing,
        _ => Meaning::Other,
    }
}

impl From<Error> for Failure {
    /// What a caller may see. Does not log: the service that answers does, once.
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.reason(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_comes_from_a_store_says_what_the_store_said() {
        let said = || io::Error::other(Error::Corrupt("a piece is missing".to_owned()));
        assert!(matches!(Error::reading(said()), Error::Corrupt(_)));
        assert!(matches!(Error::sending(said()), Error::Corrupt(_)));
        let broke = || io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(Error::reading(broke()).kind(), ErrorKind::Unavailable);
        assert_eq!(Error::sending(broke()).kind(), ErrorKind::Cancelled);
    }
}
