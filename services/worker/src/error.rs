//! What can go wrong with jobs.

use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

use crate::engine::cron::BadCron;

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
    /// The database does not keep up.
    #[error("too many jobs wait to be queued; repeat the call later")]
    TooManyWaiting,
    /// It has ended otherwise.
    #[error("job {0} has ended already")]
    Ended(String),
    /// It is not dead, so it can't be brought back.
    #[error("job {0} has not ended")]
    NotEnded(String),
    /// Another job took its place.
    #[error("an unfinished job has the unique key {0} already")]
    UniqueKeyTaken(String),
    /// There is room for so many.
    #[error("there are {0} schedules already; end one first")]
    TooManySchedules(i64),
    /// An expression or a zone that is none.
    #[error("the schedule {0}")]
    BadCron(#[from] BadCron),
    /// It does not exist, or is somebody else's.
    #[error("there is no webhook endpoint {0}")]
    UnknownEndpoint(String),
    /// It does not exist, is somebody else's, or is forgotten.
    #[error("there is no webhook delivery {0}")]
    UnknownDelivery(String),
    /// There is room for so many.
    #[error("an account may have {0} webhook endpoints; end one first")]
    TooManyEndpoints(i64),
    /// Nothing is sent there.
    #[error("the webhook endpoint is disabled; enable it first")]
    EndpointDisabled,
    /// The caller has no account.
    #[error("sign in first, or send an API key as a bearer token")]
    NoAccount,
    /// The contracts hold no events, or one can't be written.
    #[error("write an event as JSON")]
    NoContract,
    /// The system gave no random bytes.
    #[error("get random bytes")]
    NoRandomness,
    /// What is stored is not what was written.
    #[error("read the stored row of {0}")]
    CorruptRow(String),
    /// The same of a schedule.
    #[error("read the stored schedule {0}")]
    CorruptSchedule(String),
    /// The call's change went away with the process that made it.
    #[error("the change broke off; repeat the call")]
    BrokeOff,
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
            Self::UnknownJob(_) | Self::UnknownEndpoint(_) | Self::UnknownDelivery(_) => ErrorKind::NotFound,
            Self::Refused(failure) => failure.kind,
            Self::RequestIdReused | Self::UniqueKeyTaken(_) => ErrorKind::AlreadyExists,
            Self::Ended(_) | Self::NotEnded(_) | Self::EndpointDisabled => ErrorKind::FailedPrecondition,
            Self::TooManySchedules(_) | Self::TooManyEndpoints(_) | Self::TooManyWaiting => ErrorKind::ResourceExhausted,
            Self::BadCron(_) => ErrorKind::InvalidArgument,
            Self::NoAccount => ErrorKind::Unauthenticated,
            Self::BrokeOff => ErrorKind::Unavailable,
            Self::CorruptRow(_) | Self::CorruptSchedule(_) | Self::NoContract | Self::NoRandomness => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownJob(_) => "job_unknown",
            Self::RequestIdReused => "request_id_reused",
            Self::Ended(_) => "job_ended",
            Self::Store(error) => error.reason(),
            Self::NotEnded(_) => "job_not_ended",
            Self::UniqueKeyTaken(_) => "unique_key_taken",
            Self::TooManyWaiting => "too_many_waiting",
            Self::TooManySchedules(_) => "too_many_schedules",
            Self::TooManyEndpoints(_) => "too_many_endpoints",
            Self::BadCron(_) => "invalid_argument",
            Self::UnknownEndpoint(_) => "endpoint_unknown",
            Self::UnknownDelivery(_) => "delivery_unknown",
            Self::EndpointDisabled => "endpoint_disabled",
            Self::NoAccount => "credentials_missing",
            Self::BrokeOff => "broke_off",
            Self::CorruptRow(_) | Self::CorruptSchedule(_) | Self::NoContract | Self::NoRandomness | Self::Refused(_) => {
                "internal"
            }
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
