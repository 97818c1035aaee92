//! Jobs as they lie in the database, and as the rest of the service sees them.

use prost::Message as _;
use sqlx::FromRow;
use streamgate_core::time::UnixMillis;
use streamgate_proto::streamgate::worker::v1::{JobParams, job_params::Kind};

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

/// Which waiting job runs first. The numbers are those of the contract's `JobPriority`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Priority {
    /// When nothing else waits.
    Low = 1,
    /// As most do.
    #[default]
    Normal = 2,
    /// Before all others.
    High = 3,
}

impl Priority {
    /// All, the first to run first.
    pub const FIRST_TO_LAST: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// The priority with this number; nought is the usual one.
    #[must_use]
    pub const fn of_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Low),
            0 | 2 => Some(Self::Normal),
            3 => Some(Self::High),
            _ => None,
        }
    }
}

/// Of the deliveries at once, one account has this part at the most.
const PART_OF_ONE: u32 = 4;

/// Jobs of different lanes never wait for each other: each has its own workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lane {
    /// What the platform does for itself.
    #[default]
    House = 0,
    /// What waits for machines of strangers, which may be slow on purpose.
    Deliveries = 1,
}

impl Lane {
    /// Every lane.
    pub const ALL: [Self; 2] = [Self::House, Self::Deliveries];

    /// How many of `all` jobs at once may be of one account. A receiver may take its time, on purpose too: without a bound,
    /// one account's slow receivers would take every place, and everybody's deliveries would wait for them.
    #[must_use]
    pub const fn share_of_one(self, all: u32) -> u32 {
        match self {
            Self::House => all,
            Self::Deliveries if all < PART_OF_ONE => 1,
            Self::Deliveries => all / PART_OF_ONE,
        }
    }
}

/// A job.
#[derive(Debug, Clone, PartialEq)]
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
    /// Which runs first.
    pub priority: Priority,
    /// 0 to 1.
    pub progress: f64,
    /// What it is told.
    pub params: Option<Kind>,
    /// The account that asked for it; empty for a schedule.
    pub owner: String,
    /// At most one unfinished job has it; empty for none.
    pub unique_key: String,
    /// When it was queued.
    pub create_ms: UnixMillis,
    /// When it may run, or began to.
    pub run_ms: UnixMillis,
    /// When it ended.
    pub end_ms: Option<UnixMillis>,
    /// When it is forgotten.
    pub expire_ms: Option<UnixMillis>,
    pub(super) request_body: String,
}

/// Columns of a [`JobRow`].
macro_rules! job_columns {
    () => {
        "job_id, type, state, attempts, max_attempts, message, priority, progress, params, owner, unique_key, create_ms, run_ms, end_ms, \
         expire_ms, request_body"
    };
}
pub(super) use job_columns;

#[derive(Debug, FromRow)]
pub(super) struct JobRow {
    job_id: String,
    #[sqlx(rename = "type")]
    job_type: String,
    state: i64,
    attempts: i64,
    max_attempts: i64,
    message: String,
    priority: i64,
    progress: i64,
    params: Vec<u8>,
    owner: String,
    unique_key: Option<String>,
    create_ms: i64,
    run_ms: i64,
    end_ms: Option<i64>,
    expire_ms: Option<i64>,
    request_body: String,
}

impl TryFrom<JobRow> for Job {
    type Error = Error;

    fn try_from(row: JobRow) -> Result<Self, Error> {
        let corrupt = || Error::CorruptRow(row.job_id.clone());
        Ok(Self {
            state: State::of_number(row.state).ok_or_else(corrupt)?,
            priority: Priority::of_number(row.priority).ok_or_else(corrupt)?,
            // A dead letter whose row is damaged is shown all the same: its message says what is wrong.
            params: decode_params(&row.params).flatten(),
            attempts: u32::try_from(row.attempts).unwrap_or(0),
            max_attempts: u32::try_from(row.max_attempts).unwrap_or(0),
            progress: shown(row.progress),
            job_id: row.job_id,
            job_type: row.job_type,
            message: row.message,
            owner: row.owner,
            unique_key: row.unique_key.unwrap_or_default(),
            create_ms: row.create_ms,
            run_ms: row.run_ms,
            end_ms: row.end_ms,
            expire_ms: row.expire_ms,
            request_body: row.request_body,
        })
    }
}

/// Parts of the whole in which progress is stored.
const PARTS: f64 = 10_000.0;

fn shown(parts: i64) -> f64 {
    f64::from(i32::try_from(parts).unwrap_or(0)) / PARTS
}

/// Progress as it is stored.
#[allow(clippy::cast_possible_truncation, reason = "clamped to the range before")]
pub(super) fn stored(progress: f64) -> i64 {
    (progress.clamp(0.0, 1.0) * PARTS) as i64
}

pub(super) fn decode_params(bytes: &[u8]) -> Option<Option<Kind>> {
    JobParams::decode(bytes).ok().map(|params| params.kind)
}

pub(super) fn encode_params(kind: Option<Kind>) -> Vec<u8> {
    JobParams { kind }.encode_to_vec()
}
