//! What can go wrong while playing.

use std::time::Duration;

use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// Result of this service.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A player that asks again after this finds the first segments, or the chain's answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Why something can't be played or done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No title is public under this id.
    #[error("nothing can be played under this playback id")]
    UnknownTitle,
    /// The gate asks for something, and nobody is signed in.
    #[error("sign in with a wallet to play this title")]
    SignInFirst {
        /// What the gate asks for.
        unmet: Vec<String>,
    },
    /// A title without a gate plays for its owner and operators only.
    #[error("this title has no gate yet, so only its owner may play it")]
    GateMissing,
    /// The viewer does not hold what the gate asks for.
    #[error("the wallet does not meet the gate of this title")]
    GateNotMet {
        /// What was missing.
        unmet: Vec<String>,
    },
    /// The chain could not be read: neither yes nor no.
    #[error("whether the wallet meets the gate can't be told right now; try again")]
    OwnershipUnknown,
    /// No such session, or not the caller's.
    #[error("there is no such session")]
    UnknownSession,
    /// An asset was asked for without any credential.
    #[error("a playback token is needed: open a session first")]
    TokenMissing,
    /// A token that is not good, by its check or its contents.
    #[error("the playback token is not valid")]
    TokenInvalid,
    /// The token's time is over.
    #[error("the playback token has expired: open a new session")]
    TokenExpired,
    /// A good token of another title.
    #[error("the playback token belongs to another title")]
    TokenForeign,
    /// The session was ended.
    #[error("the playback session has ended: {reason}")]
    SessionEnded {
        /// Why.
        reason: String,
    },
    /// Nothing has been made of the title yet.
    #[error("the title is still being prepared; try again shortly")]
    NotReady,
    /// Making the title stopped early: what there is of it is not the title.
    #[error("the title could not be prepared to its end; its owner may have it made again")]
    Incomplete,
    /// No such file in the title.
    #[error("the title has no such file")]
    UnknownAsset,
    /// A range that lies past the end.
    #[error("the range lies outside the file of {size_bytes} bytes")]
    BadRange {
        /// Size of the whole file.
        size_bytes: u64,
    },
    /// A request that is wrong in itself.
    #[error("{0}")]
    Invalid(Box<Failure>),
    /// Another service did not do its part.
    #[error("{doing}")]
    Neighbour {
        /// What was being done.
        doing: &'static str,
        /// What it said.
        source: Box<Failure>,
    },
    /// Stored state or media could not be reached.
    #[error("{doing}")]
    Store {
        /// What was being done.
        doing: &'static str,
        /// What the store said.
        source: streamgate_store::Error,
    },
}

impl Error {
    /// For `map_err` on a call of the store.
    pub(crate) fn store<E: Into<streamgate_store::Error>>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::Store { doing, source: source.into() }
    }

    /// For `map_err` on a call of another service.
    pub(crate) fn neighbour(doing: &'static str) -> impl FnOnce(Failure) -> Self {
        move |source| Self::Neighbour { doing, source: Box::new(source) }
    }

    /// The kind that decides the gRPC code and the HTTP status.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownTitle | Self::UnknownSession | Self::UnknownAsset => ErrorKind::NotFound,
            Self::SignInFirst { .. } | Self::TokenMissing | Self::TokenInvalid | Self::TokenExpired => ErrorKind::Unauthenticated,
            Self::GateMissing | Self::GateNotMet { .. } | Self::TokenForeign | Self::SessionEnded { .. } => {
                ErrorKind::PermissionDenied
            }
            Self::OwnershipUnknown => ErrorKind::Unavailable,
            Self::NotReady | Self::Incomplete => ErrorKind::FailedPrecondition,
            Self::BadRange { .. } => ErrorKind::OutOfRange,
            Self::Invalid(failure) => failure.kind,
            Self::Neighbour { source, .. } => neighbour_kind(source.kind),
            Self::Store { source, .. } => source.kind(),
        }
    }

    /// Stable word for callers.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::UnknownTitle => "playback_not_found",
            Self::UnknownSession => "session_not_found",
            Self::UnknownAsset => "asset_not_found",
            Self::SignInFirst { .. } | Self::TokenMissing => "credentials_missing",
            Self::TokenInvalid => "token_invalid",
            Self::TokenExpired => "token_expired",
            Self::TokenForeign => "token_foreign",
            Self::GateMissing => "gate_missing",
            Self::GateNotMet { .. } => "gate_not_met",
            Self::SessionEnded { .. } => "session_revoked",
            Self::OwnershipUnknown => "ownership_unknown",
            Self::NotReady => "not_ready",
            Self::Incomplete => "title_incomplete",
            Self::BadRange { .. } => "range_not_satisfiable",
            Self::Invalid(failure) => &failure.reason,
            Self::Neighbour { .. } if self.kind() == ErrorKind::Unavailable => "service_unavailable",
            Self::Neighbour { .. } => "internal",
            Self::Store { source, .. } => source.reason(),
        }
    }
}

/// A neighbour that is away is a reason to try again; any other answer to a call of ours is our fault.
const fn neighbour_kind(kind: ErrorKind) -> ErrorKind {
    match kind {
        ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Cancelled | ErrorKind::ResourceExhausted => {
            ErrorKind::Unavailable
        }
        _ => ErrorKind::Internal,
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (kind, reason) = (error.kind(), error.reason().to_owned());
        if kind == ErrorKind::Internal {
            tracing::error!(error = &error as &dyn std::error::Error, "playback failed");
        }
        let message = error.to_string();
        match error {
            Error::Invalid(failure) => *failure,
            Error::SignInFirst { unmet } | Error::GateNotMet { unmet } => Self::new(kind, reason, message).with_unmet(unmet),
            Error::NotReady => Self::new(kind, reason, message).retry_after(RETRY_AFTER),
            _ if kind == ErrorKind::Unavailable => Self::new(kind, reason, message).retry_after(RETRY_AFTER),
            _ => Self::new(kind, reason, message),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
