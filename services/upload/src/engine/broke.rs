//! Why a client's stream ends before its end.

use std::io;

use streamgate_core::Failure;

use crate::Error;

/// Why a client's stream was ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Broke {
    /// The client went away.
    #[error("the client went away")]
    Client,
    /// The client fell silent.
    #[error("the client fell silent")]
    Idle,
    /// More came than is taken.
    #[error("more than {limit} bytes came")]
    TooLarge {
        /// What is taken.
        limit: u64,
    },
    /// The upload is being ended.
    #[error("the upload is being ended")]
    Ended,
    /// The bytes are not those that were announced.
    #[error("the checksum differs")]
    Mismatch {
        /// Lower-case hex of what came.
        actual: String,
    },
    /// The disk has no room but for others.
    #[error("no room is left")]
    NoRoom,
    /// A message was wrong.
    #[error("{0}")]
    Refused(Failure),
}

impl Broke {
    /// As an item of a stream of bytes.
    #[must_use]
    pub fn into_io(self) -> io::Error {
        io::Error::other(self)
    }

    /// What broke the stream: anything not said here is the client's going.
    pub(super) fn of(error: &io::Error) -> Self {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Self>()).cloned().unwrap_or(Self::Client)
    }
}

impl From<Broke> for Error {
    fn from(broke: Broke) -> Self {
        match broke {
            Broke::Client => Self::Broken,
            Broke::Idle => Self::Idle,
            Broke::TooLarge { limit } => Self::TooLarge { limit },
            Broke::Ended => Self::EndedMeanwhile,
            Broke::Mismatch { actual } => Self::ChunkMismatch { actual },
            Broke::NoRoom => Self::NoRoom,
            Broke::Refused(failure) => Self::Refused(failure),
        }
    }
}
