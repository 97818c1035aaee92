//! What can go wrong with a title.

use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, or the caller may not know of it.
    #[error("there is no title {0}")]
    UnknownContent(String),
    /// It does not exist, or was taken away.
    #[error("there is no playback id {0}")]
    UnknownPlaybackId(String),
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// Somebody else was faster.
    #[error("the title is at revision {actual}, not {expected}; read it again")]
    RevisionConflict {
        /// What the caller had seen.
        expected: u64,
        /// What it is.
        actual: u64,
    },
    /// The same, told by an etag.
    #[error("the title has changed since this etag was given; read it again")]
    EtagMismatch,
    /// The same request id came with another body.
    #[error("this request_id was used for another request")]
    RequestIdReused,
    /// A title has a bounded number of public ids.
    #[error("a title has at most {0} playback ids; delete one first")]
    TooManyPlaybackIds(u32),
    /// A title needs an owner.
    #[error("a title needs an account that owns it")]
    NoOwner,
    /// What is stored is not a gate of this version.
    #[error("read the stored gate of {0}")]
    CorruptGate(String),
    /// What is stored is not what was written.
    #[error("read the stored row of {0}")]
    CorruptRow(String),
    /// The database.
    #[error("use the database of titles")]
    Store(#[from] streamgate_store::Error),
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
            Self::UnknownContent(_) | Self::UnknownPlaybackId(_) => ErrorKind::NotFound,
            Self::Refused(failure) => failure.kind,
            Self::RevisionConflict { .. } => ErrorKind::Aborted,
            Self::EtagMismatch => ErrorKind::FailedPrecondition,
            Self::RequestIdReused => ErrorKind::AlreadyExists,
            Self::TooManyPlaybackIds(_) => ErrorKind::ResourceExhausted,
            Self::NoOwner => ErrorKind::Unauthenticated,
            Self::CorruptGate(_) | Self::CorruptRow(_) => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownContent(_) => "content_unknown",
            Self::UnknownPlaybackId(_) => "playback_id_unknown",
            Self::RevisionConflict { .. } => "revision_conflict",
            Self::EtagMismatch => "etag_mismatch",
            Self::RequestIdReused => "request_id_reused",
            Self::TooManyPlaybackIds(_) => "too_many_playback_ids",
            Self::NoOwner => "credentials_missing",
            Self::Store(error) => error.reason(),
            Self::CorruptGate(_) | Self::CorruptRow(_) | Self::Refused(_) => "internal",
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        if matches!(kind, ErrorKind::Internal | ErrorKind::StorageFull) {
            tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
        }
        match error {
            Error::Refused(failure) => failure,
            Error::Store(error) => error.into(),
            other => Self::new(kind, other.reason(), other.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
