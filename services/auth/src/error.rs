//! What can go wrong with identities and gates.

use std::time::Duration;

use streamgate_client::token::TokenError;
use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// Used, replaced by newer ones, or never made.
    #[error("there is no such challenge; it may have been used already. Ask for a new one")]
    UnknownChallenge,
    /// Its time is over.
    #[error("the challenge has expired; ask for a new one")]
    ChallengeExpired,
    /// Another key signed, or another text was signed.
    #[error("the signature is not this wallet's signature of the challenge's message")]
    WrongSignature,
    /// Never made, or swept away after its time.
    #[error("the refresh token is not valid; sign in again")]
    UnknownRefreshToken,
    /// Its time is over.
    #[error("the refresh token has expired; sign in again")]
    RefreshTokenExpired,
    /// Logged out, or ended after a theft.
    #[error("this sign-in has ended; sign in again")]
    SignInEnded,
    /// It was used before: somebody has a copy.
    #[error("this refresh token was used before; the sign-in has been ended for safety. Sign in again")]
    RefreshTokenReused,
    /// Wrong, or revoked.
    #[error("the API key is not valid; it may have been revoked")]
    BadApiKey,
    /// There is none with this id.
    #[error("there is no API key {0}")]
    UnknownApiKey(String),
    /// There is none with this id.
    #[error("there is no account {0}")]
    UnknownAccount(String),
    /// The database did not tell whether the key of a token is one of ours.
    #[error("who you are can't be checked right now; try again soon")]
    KeysUnread,
    /// Its role is not kept here.
    #[error(
        "this account is an operator because operator_wallets names its wallet; take the wallet off that list to give it another role"
    )]
    ListedOperator,
    /// The caller has no account.
    #[error("sign in first, or send an API key as a bearer token")]
    NoAccount,
    /// A chain could not be read.
    #[error("what the wallet holds can't be read right now: {0}")]
    OwnershipUnknown(String),
    /// What is stored is not what was written.
    #[error("read the stored {0}")]
    Corrupt(&'static str),
    /// The system gave no random bytes.
    #[error("get random bytes")]
    NoRandomness,
    /// The database holds secrets, and must not be read by others.
    #[error("make the database private")]
    Permissions(#[source] std::io::Error),
    /// A token could not be written.
    #[error("write a token")]
    Token(#[from] serde_json::Error),
    /// The database.
    #[error("use the database of accounts")]
    Store(#[from] streamgate_store::Error),
}

impl From<TokenError> for Error {
    fn from(error: TokenError) -> Self {
        Self::Refused(error.into())
    }
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
            Self::Refused(failure) => failure.kind,
            Self::UnknownChallenge
            | Self::ChallengeExpired
            | Self::WrongSignature
            | Self::UnknownRefreshToken
            | Self::RefreshTokenExpired
            | Self::SignInEnded
            | Self::RefreshTokenReused
            | Self::BadApiKey
            | Self::NoAccount => ErrorKind::Unauthenticated,
            Self::UnknownApiKey(_) | Self::UnknownAccount(_) => ErrorKind::NotFound,
            Self::ListedOperator => ErrorKind::FailedPrecondition,
            Self::OwnershipUnknown(_) | Self::KeysUnread => ErrorKind::Unavailable,
            Self::Corrupt(_) | Self::NoRandomness | Self::Permissions(_) | Self::Token(_) => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    /// Stable word for callers.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::UnknownChallenge => "challenge_unknown",
            Self::ChallengeExpired => "challenge_expired",
            Self::WrongSignature => "signature_invalid",
            Self::UnknownRefreshToken | Self::BadApiKey => "token_invalid",
            Self::RefreshTokenExpired => "token_expired",
            Self::SignInEnded => "sign_in_ended",
            Self::RefreshTokenReused => "refresh_token_reused",
            Self::UnknownApiKey(_) => "api_key_unknown",
            Self::UnknownAccount(_) => "account_unknown",
            Self::KeysUnread => "identity_unknown",
            Self::ListedOperator => "role_listed",
            Self::NoAccount => "credentials_missing",
            Self::OwnershipUnknown(_) => "ownership_unknown",
            Self::Store(error) => error.reason(),
            Self::Refused(_) | Self::Corrupt(_) | Self::NoRandomness | Self::Permissions(_) | Self::Token(_) => "internal",
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
            other @ (Error::OwnershipUnknown(_) | Error::KeysUnread) => {
                Self::new(kind, other.reason(), other.to_string()).retry_after(Duration::from_secs(2))
            }
            other => Self::new(kind, other.reason(), other.to_string()),
        }
    }
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Failure::from(error).into()
    }
}
