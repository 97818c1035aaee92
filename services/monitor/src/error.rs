//! What can go wrong with watching.

use streamgate_core::{ErrorKind, Failure, ids::AlertId, service::UnknownService};
use tonic::Status;

use crate::engine::alerts::AlertState;

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request names a service that is none of the nine.
    #[error(transparent)]
    UnknownService(#[from] UnknownService),
    /// A field of the request is wrong.
    #[error(transparent)]
    Refused(#[from] Failure),
    /// There is no such alert.
    #[error("alert {0} does not exist")]
    UnknownAlert(AlertId),
    /// Only a firing alert can be acknowledged.
    #[error("the alert is {}, and only a firing one can be acknowledged", .0.as_str())]
    NotFiring(AlertState),
    /// The database could not do it.
    #[error("keep what was seen")]
    Store(#[from] streamgate_store::Error),
    /// The client that reads metrics could not be made.
    #[error("make the HTTP client")]
    Client(#[source] reqwest::Error),
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
            Self::UnknownService(_) => ErrorKind::InvalidArgument,
            Self::Refused(failure) => failure.kind,
            Self::UnknownAlert(_) => ErrorKind::NotFound,
            Self::NotFiring(_) => ErrorKind::FailedPrecondition,
            Self::Store(error) => error.kind(),
            Self::Client(_) => ErrorKind::Internal,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let kind = error.kind();
        if kind == ErrorKind::Internal {
            tracing::error!(error = &error as &dyn std::error::Error, "a call failed");
        }
        match error {
            Error::UnknownService(unknown) => Self::invalid_field("service", unknown.to_string()),
            Error::Refused(failure) => failure,
            Error::UnknownAlert(_) => Self::new(kind, "alert_not_found", error.to_string()),
            Error::NotFiring(_) => Self::new(kind, "alert_not_firing", error.to_string()),
            Error::Store(error) => error.into(),
            Error::Client(_) => Self::new(kind, "internal", error.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
