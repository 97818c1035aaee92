//! What can go wrong with watching.

use streamgate_core::{ErrorKind, Failure, service::UnknownService};
use tonic::Status;

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request names a service that is none of the nine.
    #[error(transparent)]
    UnknownService(#[from] UnknownService),
    /// The client that reads metrics could not be made.
    #[error("make the HTTP client")]
    Client(#[source] reqwest::Error),
}

impl Error {
    /// Decides the gRPC code and the HTTP status.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownService(_) => ErrorKind::InvalidArgument,
            Self::Client(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::UnknownService(unknown) => Self::invalid_field("service", unknown.to_string()),
            Error::Client(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
                Self::new(error.kind(), "internal", error.to_string())
            }
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
