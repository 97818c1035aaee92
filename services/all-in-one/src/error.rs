//! How a command fails: one sentence and an exit code.

use std::process::ExitCode;

/// Exit code of a command that was called wrongly (sysexits EX_USAGE).
pub(crate) const USAGE: u8 = 64;
/// Exit code when the platform can't be reached or can't answer now (EX_UNAVAILABLE).
const UNAVAILABLE: u8 = 69;
/// Exit code when the caller may not do this (EX_NOPERM).
const REFUSED: u8 = 77;

/// A failed command.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It was called wrongly.
    #[error("{0}")]
    Usage(String),
    /// The platform can't be reached, or can't answer now.
    #[error("{0}")]
    Unavailable(String),
    /// The caller may not do this.
    #[error("{0}")]
    Refused(String),
    /// Anything else.
    #[error("{0}")]
    Failed(String),
}

impl CliError {
    /// The code the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => USAGE.into(),
            Self::Unavailable(_) => UNAVAILABLE.into(),
            Self::Refused(_) => REFUSED.into(),
            Self::Failed(_) => ExitCode::FAILURE,
        }
    }
}

impl From<reqwest::Error> for CliError {
    fn from(error: reqwest::Error) -> Self {
        let server = error.url().map_or_else(|| "the server".to_owned(), |url| url.origin().ascii_serialization());
        if error.is_connect() {
            Self::Unavailable(format!("nothing answers at {server}; is `streamgate serve` running?"))
        } else if error.is_timeout() {
            Self::Unavailable(format!("{server} did not answer in time"))
        } else {
            Self::Unavailable(format!("the connection to {server} broke: {}", root_cause(&error)))
        }
    }
}

fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
