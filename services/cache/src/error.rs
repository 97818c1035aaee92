//! What can go wrong with the cache.

use std::time::Duration;

use deadpool_redis::redis::RedisError;
use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// When to try again while Redis is away.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not there, or its time is over.
    #[error("the cache does not hold this key")]
    Absent,
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// Redis does not answer, or not well.
    #[error("use the cache in redis")]
    Redis(#[source] RedisError),
    /// There is no connection to Redis.
    #[error("get a connection to redis: {0}")]
    Unreachable(String),
    /// More watch at once than the service has room for.
    #[error("{0} watch already; try again soon")]
    TooManyWatchers(usize),
}

impl Error {
    /// Decides the gRPC code and the HTTP status.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Absent => ErrorKind::NotFound,
            Self::Refused(failure) => failure.kind,
            Self::Redis(_) | Self::Unreachable(_) => ErrorKind::Unavailable,
            Self::TooManyWatchers(_) => ErrorKind::ResourceExhausted,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(failure) => failure,
            Error::Absent => Self::new(error.kind(), "key_absent", error.to_string()),
            Error::TooManyWatchers(_) => Self::new(error.kind(), "too_many_watchers", error.to_string()),
            Error::Redis(_) | Error::Unreachable(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "redis does not answer");
                Self::new(error.kind(), "cache_unavailable", "the cache can't be reached; try again soon")
                    .retry_after(RETRY_AFTER)
            }
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
