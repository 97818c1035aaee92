//! What can go wrong with the cache.

use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or its time is over.
    #[error("the cache does not hold this key")]
    Absent,
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] Failure),
}

impl Error {
    /// Decides the gRPC code and the HTTP status.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent => ErrorKind::NotFound,
            Self::Refused(failure) => failure.kind,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(failure) => failure,
            Error::Absent => Self::new(error.kind(), "key_absent", error.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
