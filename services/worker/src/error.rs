//! What can go wrong with jobs.

use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, or ended long ago.
    #[error("there is no job {0}")]
    UnknownJob(String),
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// The same request id came with another body.
    #[error("this request_id was used for another job")]
    RequestIdReused,
    /// It has ended otherwise.
    #[error("job {0} has ended already")]
    Ended(String),
    /// What is stored is not what was written.
    #[error("read the stored row of job {0}")]
    CorruptRow(String),
    /// The database.
    #[error("use the database of jobs")]
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
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob(_) => ErrorKind::NotFound,
            Self::Refused(failure) => failure.kind,
            Self::RequestIdReused => ErrorKind::AlreadyExists,
            Self::Ended(_) => ErrorKind::FailedPrecondition,
            Self::CorruptRow(_) => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownJob(_) => "job_unknown",
            Self::RequestIdReused => "request_id_reused",
            Self::Ended(_) => "job_ended",
            Self::Store(error) => error.reason(),
            Self::CorruptRow(_) | Self::Refused(_) => "internal",
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
