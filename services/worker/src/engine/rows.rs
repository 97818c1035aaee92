//! Jobs as they lie in the database, and as the rest of the service sees them.

use sqlx::FromRow;
use streamgate_core::time::UnixMillis;

use crate::Error;

/// Where a job stands. The numbers are those of the contract's `JobState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for its time and for a worker.
    Queued = 1,
    /// A worker has it.
    Running = 2,
    /// Done.
    Succeeded = 3,
    /// Given up.
    Failed = 4,
    /// Called off.
    Cancelled = 5,
}

impl State {
    /// The state with this number.
    #[must_use]
    pub const fn of_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Queued),
            2 => Some(Self::Running),
            3 => Some(Self::Succeeded),
            4 => Some(Self::Failed),
            5 => Some(Self::Cancelled),
            _ => None,
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    /// Its id.
    pub job_id: String,
    /// Kind of work.
    pub job_type: String,
    /// Where it stands.
    pub state: State,
    /// Attempts begun.
    pub attempts: u32,
    /// Attempts at the most.
    pub max_attempts: u32,
    /// What the last attempt said.
    pub message: String,
    /// When it was queued.
    pub create_ms: UnixMillis,
    /// When it may run, or began to.
    pub run_ms: UnixMillis,
    /// When it ended.
    pub end_ms: Option<UnixMillis>,
    pub(super) request_body: String,
}

#[derive(Debug, FromRow)]
pub(super) struct JobRow {
    job_id: String,
    #[sqlx(rename = "type")]
    job_type: String,
    state: i64,
    attempts: i64,
    max_attempts: i64,
    message: String,
    create_ms: i64,
    run_ms: i64,
    end_ms: Option<i64>,
    request_body: String,
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self, Error> {
        let Some(state) = State::of_number(row.state) else {
            return Err(Error::CorruptRow(row.job_id));
        };
        Ok(Self {
            state,
            job_id: row.job_id,
            job_type: row.job_type,
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            max_attempts: u32::try_from(row.max_attempts).unwrap_or(0),
            message: row.message,
            create_ms: row.create_ms,
            run_ms: row.run_ms,
            end_ms: row.end_ms,
            request_body: row.request_body,
        })
    }
}
