//! What goes wrong at the edge itself, and what a service behind it refused.

use std::time::Duration;

use http::{Method, StatusCode};
use streamgate_core::{ErrorKind, Failure, FieldViolation};
use tonic::Status;

use crate::edge::patience::was_silent;

/// Why a change that was meant for another version of an object is refused; HTTP has a status of its own for it.
const ETAG_MISMATCH: &str = "etag_mismatch";

/// An error of the edge. It becomes a problem document, or a gRPC status for a gRPC caller.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No route has this path.
    #[error("nothing is served at this path; /openapi.json lists what is")]
    UnknownPath,
    /// The path is served, with other methods.
    #[error("{method} is not served here; use {allowed}")]
    WrongMethod {
        /// The method that was used.
        method: Method,
        /// The methods that are served, as `Allow` lists them.
        allowed: String,
    },
    /// The body is of a kind that is not read here.
    #[error("send the body as {wanted}")]
    WrongMediaType {
        /// The kind that is read.
        wanted: &'static str,
    },
    /// The body is too large to be read.
    #[error("the body is larger than {limit_bytes} bytes")]
    TooLarge {
        /// The largest body that is read.
        limit_bytes: usize,
    },
    /// The request can't be read.
    #[error("{0}")]
    Malformed(String),
    /// The body ended before it was whole.
    #[error("the body broke off before it was whole")]
    BrokenBody,
    /// The body did not come in time.
    #[error("the body came too slowly")]
    SlowBody,
    /// Fields of the request are wrong.
    #[error("fields of the request are wrong")]
    Fields(Vec<FieldViolation>),
    /// A service behind the edge refused or failed.
    #[error("{0}")]
    Refused(Failure),
    /// A service behind the edge took too long.
    #[error("the service behind this call did not answer in time")]
    TooSlow,
    /// The caller calls too often.
    #[error("too many requests; wait {} s", .wait.as_secs().max(1))]
    TooOften {
        /// How long to wait.
        wait: Duration,
    },
    /// Bytes were asked for that the asset does not have.
    #[error("the asset has {size_bytes} bytes; the range lies outside")]
    OutsideAsset {
        /// Size of the asset.
        size_bytes: u64,
    },
    /// A service answered with what its contract does not allow.
    #[error("a service answered outside its contract: {0}")]
    Contract(String),
}

/// Result of the edge.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A single field of the request is wrong.
    pub fn field(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self::Fields(vec![FieldViolation::new(field, description)])
    }

    /// Why the body of a request could not be read to its end.
    #[must_use]
    pub fn of_body(error: &(dyn std::error::Error + 'static)) -> Self {
        if was_silent(error) { Self::SlowBody } else { Self::BrokenBody }
    }

    /// Whether a change was meant for another version of an object.
    #[must_use]
    pub fn is_etag_mismatch(&self) -> bool {
        matches!(self, Self::Refused(failure) if failure.reason == ETAG_MISMATCH)
    }

    /// What kind of error it is.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownPath | Self::WrongMethod { .. } => ErrorKind::NotFound,
            Self::WrongMediaType { .. } | Self::Malformed(_) | Self::BrokenBody | Self::Fields(_) => ErrorKind::InvalidArgument,
            Self::SlowBody => ErrorKind::Cancelled,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Refused(failure) => failure.kind,
            Self::TooSlow => ErrorKind::DeadlineExceeded,
            Self::TooOften { .. } => ErrorKind::ResourceExhausted,
            Self::OutsideAsset { .. } => ErrorKind::OutOfRange,
            Self::Contract(_) => ErrorKind::Internal,
        }
    }

    /// The HTTP status: the kind's, but for what only HTTP can say.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        match self {
            _ if self.is_etag_mismatch() => StatusCode::PRECONDITION_FAILED,
            Self::WrongMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::WrongMediaType { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            other => other.kind().http_status(),
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownPath => "unknown_path",
            Self::WrongMethod { .. } => "wrong_method",
            Self::WrongMediaType { .. } => "wrong_media_type",
            Self::TooLarge { .. } => "body_too_large",
            Self::Malformed(_) => "malformed_request",
            Self::BrokenBody => "broken_body",
            Self::SlowBody => "slow_body",
            Self::TooSlow => "deadline_exceeded",
            Self::TooOften { .. } => "rate_limited",
            Self::OutsideAsset { .. } => "range_not_satisfiable",
            Self::Fields(_) => "invalid_argument",
            Self::Refused(_) | Self::Contract(_) => "internal",
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused(Failure::from(&status))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(failure) => failure,
            Error::Fields(fields) => Self::invalid(fields),
            Error::TooOften { wait } => Self::new(error.kind(), error.reason(), error.to_string()).retry_after(wait),
            Error::Contract(_) => {
                tracing::error!(error = %error, "a service answered outside its contract");
                Self::new(ErrorKind::Internal, "internal", "internal error")
            }
            other => Self::new(other.kind(), other.reason(), other.to_string()),
        }
    }
}
