//! What can go wrong with an upload.

use std::time::Duration;

use streamgate_core::{ErrorKind, Failure};
use streamgate_store as store;
use tonic::Status;

/// When a client that found the upload busy should ask again.
const BUSY_RETRY: Duration = Duration::from_secs(1);

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, or the caller may not know of it.
    #[error("there is no upload {0}")]
    UnknownUpload(String),
    /// The request is wrong, or a neighbour refused.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// An upload needs an owner.
    #[error("an upload needs an account that owns it")]
    NoOwner,
    /// The same request id came with another body.
    #[error("this request_id was used for another upload; take a new one")]
    IdempotencyConflict,
    /// The account has too much under way.
    #[error("the account has {0} open uploads already; complete or cancel one first")]
    TooManyOpen(u32),
    /// The account has begun too many uploads today.
    #[error("the account has begun {limit} uploads today, which is the limit; go on tomorrow")]
    TooManyToday {
        /// The limit.
        limit: u32,
        /// Until tomorrow.
        wait: Duration,
    },
    /// The account's quota of bytes is used up.
    #[error("the account may keep {limit} bytes and keeps {held}; delete titles or uploads first")]
    AccountFull {
        /// The quota.
        limit: u64,
        /// What is kept, with what was announced.
        held: u64,
    },
    /// The disk has no room but for others.
    #[error("no room is left to store it")]
    NoRoom,
    /// The bytes of this upload come in another way.
    #[error("the bytes of this upload come {0}")]
    OtherWay(&'static str),
    /// Another chunk is there.
    #[error("another chunk is at this place, or overlaps it")]
    ChunkDiffers,
    /// The chunk is not the one that was announced.
    #[error("the SHA-256 of the chunk is {actual}, not the announced one; send it again")]
    ChunkMismatch {
        /// What came.
        actual: String,
    },
    /// The chunk is larger than is taken.
    #[error("the chunk is larger than the {limit} bytes that are taken; send smaller ones")]
    ChunkTooLarge {
        /// The largest size taken.
        limit: u64,
    },
    /// The chunk has no bytes.
    #[error("the chunk has no bytes")]
    EmptyChunk,
    /// There are too many chunks.
    #[error("an upload may have {0} chunks; send larger ones")]
    TooManyChunks(u32),
    /// Something between the chunks is missing.
    #[error("{what} {place} has not come, but later ones have; send it and complete again")]
    Gap {
        /// `chunk` or `byte`.
        what: &'static str,
        /// The first place where nothing is.
        place: u64,
    },
    /// It was completed or ended.
    #[error("the upload is {0}; begin a new one")]
    Closed(&'static str),
    /// A completion has made its file whole, and did not come to its end.
    #[error("the upload takes no more bytes; complete it, or cancel it and begin a new one")]
    Whole,
    /// The bytes do not follow what is there.
    #[error("the next byte to send is {durable}")]
    WrongOffset {
        /// Where to go on.
        durable: u64,
    },
    /// Somebody else writes to it.
    #[error("another call is writing to this upload; try again when it has ended")]
    Busy,
    /// More bytes than announced or taken.
    #[error("the file is larger than the {limit} bytes that are taken")]
    TooLarge {
        /// The announced size, or the largest size taken.
        limit: u64,
    },
    /// The client broke off.
    #[error("the stream broke off; ask for the offset and go on from there")]
    Broken,
    /// The client fell silent.
    #[error("no byte came for too long; ask for the offset and go on from there")]
    Idle,
    /// It was ended while bytes came in.
    #[error("the upload was ended while it was being written")]
    EndedMeanwhile,
    /// There is nothing to keep.
    #[error("the file has no bytes")]
    EmptyFile,
    /// Bytes are missing.
    #[error("only {durable} of {announced} bytes have come; go on from there")]
    Incomplete {
        /// What has come.
        durable: u64,
        /// What was announced.
        announced: u64,
    },
    /// The file is not the one that was announced.
    #[error("the SHA-256 of the bytes is {actual}, not the announced one; cancel the upload if it is open, and begin a new one")]
    Sha256Mismatch {
        /// What came.
        actual: String,
    },
    /// What is stored is not what was written.
    #[error("read the stored row of upload {0}")]
    CorruptRow(String),
    /// The work on an upload was lost.
    #[error("a task of this service ended early")]
    Task(#[from] tokio::task::JoinError),
    /// The database or the blobs.
    #[error("use the stores of uploads")]
    Store(#[from] store::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    /// Decides the gRPC code and the HTTP status.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownUpload(_) => ErrorKind::NotFound,
            Self::Refused(failure) => failure.kind,
            Self::NoOwner => ErrorKind::Unauthenticated,
            Self::IdempotencyConflict | Self::ChunkDiffers => ErrorKind::AlreadyExists,
            Self::EmptyChunk | Self::ChunkMismatch { .. } => ErrorKind::InvalidArgument,
            Self::TooManyOpen(_) | Self::TooManyToday { .. } | Self::AccountFull { .. } | Self::TooManyChunks(_) => {
                ErrorKind::ResourceExhausted
            }
            Self::NoRoom => ErrorKind::StorageFull,
            Self::Closed(_)
            | Self::Whole
            | Self::WrongOffset { .. }
            | Self::EmptyFile
            | Self::Incomplete { .. }
            | Self::Gap { .. }
            | Self::OtherWay(_)
            | Self::Sha256Mismatch { .. } => ErrorKind::FailedPrecondition,
            Self::Busy | Self::EndedMeanwhile => ErrorKind::Aborted,
            Self::TooLarge { .. } | Self::ChunkTooLarge { .. } => ErrorKind::TooLarge,
            Self::Broken => ErrorKind::Cancelled,
            Self::Idle => ErrorKind::DeadlineExceeded,
            Self::CorruptRow(_) | Self::Task(_) => ErrorKind::Internal,
            Self::Store(error) if is_of_keys(error) => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    /// Stable word for callers and metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::UnknownUpload(_) => "upload_unknown",
            Self::Refused(_) => "refused",
            Self::NoOwner => "credentials_missing",
            Self::IdempotencyConflict => "idempotency_conflict",
            Self::TooManyOpen(_) => "too_many_uploads",
            Self::TooManyToday { .. } => "daily_quota_used_up",
            Self::AccountFull { .. } => "storage_quota_used_up",
            Self::NoRoom => "storage_full",
            Self::OtherWay(_) => "upload_comes_another_way",
            Self::ChunkDiffers => "chunk_conflict",
            Self::ChunkMismatch { .. } => "chunk_sha256_mismatch",
            Self::ChunkTooLarge { .. } => "chunk_too_large",
            Self::EmptyChunk => "empty_chunk",
            Self::TooManyChunks(_) => "too_many_chunks",
            Self::Gap { .. } => "upload_has_gap",
            Self::Closed(_) | Self::Whole => "upload_closed",
            Self::WrongOffset { .. } => "wrong_offset",
            Self::Busy => "upload_busy",
            Self::TooLarge { .. } => "file_too_large",
            Self::Broken => "stream_broken",
            Self::Idle => "stream_idle",
            Self::EndedMeanwhile => "upload_ended",
            Self::EmptyFile => "empty_file",
            Self::Incomplete { .. } => "upload_incomplete",
            Self::Sha256Mismatch { .. } => "sha256_mismatch",
            Self::CorruptRow(_) | Self::Task(_) => "internal",
            Self::Store(error) if is_of_keys(error) => "internal",
            Self::Store(error) => error.reason(),
        }
    }
}

/// Whether a store speaks of its keys. Callers name none: what is missing or taken there is our fault.
const fn is_of_keys(error: &store::Error) -> bool {
    use store::Error::{AlreadyExists, BadKey, NotFound, OutOfRange, WrongOffset};
    matches!(error, NotFound(_) | AlreadyExists(_) | BadKey(_) | OutOfRange { .. } | WrongOffset { .. })
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, reason) = (error.kind(), error.reason());
        let is_denied = matches!(error, Error::Store(store::Error::Denied(_)));
        if is_denied || matches!(kind, ErrorKind::Internal | ErrorKind::StorageFull) {
            tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
        }
        match error {
            Error::Refused(failure) => failure,
            // What the server said of its keys and buckets is for the log.
            Error::Store(store::Error::Denied(_)) => Self::new(kind, reason, "the storage does not let this service in"),
            Error::Store(store::Error::Busy(_)) => Self::from(Error::Busy),
            Error::Store(error) => Self::new(kind, reason, error.to_string()),
            Error::Busy => Self::new(kind, reason, error.to_string()).retry_after(BUSY_RETRY),
            Error::TooManyToday { wait, .. } => Self::new(kind, reason, error.to_string()).retry_after(wait),
            other => Self::new(kind, reason, other.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use streamgate_store::BlobKey;

    use super::*;

    #[test]
    fn callers_learn_no_keys_and_nothing_of_the_bucket() {
        let key = || BlobKey::new("sources/upl_secret").unwrap();
        let inner = [
            store::Error::NotFound(key()),
            store::Error::AlreadyExists(key()),
            store::Error::OutOfRange { size_bytes: 7 },
            store::Error::Denied("the server refuses the access key".to_owned()),
            store::Error::Busy(key()),
        ];
        for error in inner {
            let told = Status::from(Error::Store(error));
            assert!(!told.message().contains("upl_secret") && !told.message().contains("access key"), "{told:?}");
            assert_ne!(told.code(), tonic::Code::NotFound);
        }
        assert_eq!(Status::from(Error::Store(store::Error::NotFound(key()))).code(), tonic::Code::Internal);
        assert_eq!(Error::Store(store::Error::Denied(String::new())).kind(), ErrorKind::Unavailable);
    }
}
