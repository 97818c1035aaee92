//! What can go wrong with a job.

use std::{io, time::Duration};

use streamgate_core::{ErrorKind, Failure};
use tonic::Status;

/// A full queue has room again after about so long.
const QUEUE_RETRY: Duration = Duration::from_secs(60);
/// A poster that can't be made now may be made after about so long.
const POSTER_RETRY: Duration = Duration::from_secs(10);

/// An error of this service.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It does not exist, or the caller may not know of it.
    #[error("there is no job {0}")]
    UnknownJob(String),
    /// Nothing was ever made of the title, or the caller may not know of it.
    #[error("there is no job for the title {0}")]
    UnknownContent(String),
    /// The title has a whole ladder.
    #[error("the title {0} is transcoded already; upload the new file as a new title")]
    AlreadyDone(String),
    /// The title is being made with other settings.
    #[error("the job {0} makes the title with other settings; wait for it, or cancel it")]
    UnderWay(String),
    /// As many jobs wait as may.
    #[error("{limit} jobs wait already; try again later")]
    QueueFull {
        /// How many may.
        limit: u32,
    },
    /// The job has ended.
    #[error("the job {0} has ended")]
    Ended(String),
    /// The source was deleted.
    #[error("the source of the title {0} is not stored any more; upload it again")]
    SourceGone(String),
    /// There is nothing to be seen in the title.
    #[error("the title {0} has no picture")]
    NoPicture(String),
    /// The title is still being made, and that part of it is not there.
    #[error("the title {0} is not made so far yet; try again later")]
    NotThereYet(String),
    /// The title was deleted, made anew or given another poster since it was looked at.
    #[error("the title {0} has changed meanwhile; try again")]
    Outdated(String),
    /// Others are having posters made.
    #[error("other posters are being made; try again soon")]
    PostersBusy,
    /// The machine or the encoder is in trouble.
    #[error("no poster can be made now: {0}")]
    NotNow(String),
    /// The frame can't be decoded.
    #[error("no poster can be made of that frame: {0}")]
    NoPoster(String),
    /// The child died.
    #[error("the encoder crashed: {0}")]
    Crashed(String),
    /// The request is wrong.
    #[error("{0}")]
    Refused(#[from] Failure),
    /// Somebody else runs the job by now.
    #[error("the lease of the job {0} is lost")]
    LeaseLost(String),
    /// The child said something that can't be.
    #[error("the encoder reported nonsense: {0}")]
    Nonsense(String),
    /// What is stored is not what was written.
    #[error("read the stored row of {0}")]
    CorruptRow(String),
    /// A file between the child and the store.
    #[error("{doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// The database or the blobs.
    #[error("use the store of media")]
    Store(#[from] streamgate_store::Error),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<streamgate_store::BadKey> for Error {
    fn from(error: streamgate_store::BadKey) -> Self {
        Self::Store(error.into())
    }
}

impl Error {
    /// Wraps what the system said while `doing` something.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }

    /// Decides the gRPC code and the HTTP status.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownJob(_) | Self::UnknownContent(_) => ErrorKind::NotFound,
            Self::AlreadyDone(_) | Self::UnderWay(_) | Self::Ended(_) | Self::SourceGone(_) => ErrorKind::FailedPrecondition,
            Self::NoPicture(_) | Self::NotThereYet(_) | Self::NoPoster(_) => ErrorKind::FailedPrecondition,
            Self::QueueFull { .. } | Self::PostersBusy => ErrorKind::ResourceExhausted,
            Self::NotNow(_) => ErrorKind::Unavailable,
            Self::Refused(failure) => failure.kind,
            Self::LeaseLost(_) | Self::Outdated(_) => ErrorKind::Aborted,
            Self::Nonsense(_) | Self::CorruptRow(_) | Self::Crashed(_) => ErrorKind::Internal,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => ErrorKind::StorageFull,
            Self::Io { .. } => ErrorKind::Internal,
            Self::Store(error) => error.kind(),
        }
    }

    /// Whether every job meets it: a store that is away, full or locked.
    pub(crate) fn is_of_all_jobs(&self) -> bool {
        use streamgate_store::Error::{Denied, ReadOnly, Unavailable};
        let is_away = matches!(self, Self::Store(Unavailable(_) | ReadOnly | Denied(_)));
        is_away || self.kind() == ErrorKind::StorageFull
    }

    /// Whether it lies in what is stored in one row, whoever reads it and when.
    pub(crate) const fn is_of_one_row(&self) -> bool {
        use sqlx::Error::{ColumnDecode, Decode};
        use streamgate_store::Error::Database;
        matches!(self, Self::CorruptRow(_) | Self::Store(Database(ColumnDecode { .. } | Decode(_))))
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::UnknownJob(_) => "job_unknown",
            Self::UnknownContent(_) => "content_unknown",
            Self::AlreadyDone(_) => "already_transcoded",
            Self::UnderWay(_) => "job_under_way",
            Self::QueueFull { .. } => "queue_full",
            Self::Ended(_) => "job_ended",
            Self::SourceGone(_) => "source_gone",
            Self::LeaseLost(_) => "lease_lost",
            Self::NoPicture(_) => "no_picture",
            Self::NotThereYet(_) => "not_ready",
            Self::Outdated(_) => "title_changed",
            Self::PostersBusy => "posters_busy",
            Self::NotNow(_) => "encoder_unavailable",
            Self::NoPoster(_) => "frame_undecodable",
            Self::Store(error) => error.reason(),
            Self::Io { .. } if self.kind() == ErrorKind::StorageFull => "storage_full",
            Self::Io { .. } | Self::Nonsense(_) | Self::CorruptRow(_) | Self::Crashed(_) | Self::Refused(_) => "internal",
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
            Error::QueueFull { .. } => Self::new(kind, error.reason(), error.to_string()).retry_after(QUEUE_RETRY),
            Error::NotThereYet(_) | Error::PostersBusy | Error::NotNow(_) => {
                Self::new(kind, error.reason(), error.to_string()).retry_after(POSTER_RETRY)
            }
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
