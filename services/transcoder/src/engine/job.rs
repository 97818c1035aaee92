//! A job, and what can be said of it.

use std::sync::Arc;

use streamgate_core::time::UnixMillis;
use streamgate_media::ladder::Step;

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Waits for a worker.
    Queued,
    /// Is being worked on, under a lease.
    Running,
    /// All is made.
    Succeeded,
    /// Nothing more will be made, for a reason.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

impl State {
    /// The state as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// From the stored word.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Cancelled].into_iter().find(|s| s.as_str() == text)
    }

    /// Whether the job has not ended.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Running)
    }
}

/// Who is served first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// After all others.
    Low,
    /// As uploads are.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// As it is stored; larger goes first.
    #[must_use]
    pub const fn rank(self) -> i64 {
        match self {
            Self::Low => 1,
            Self::Normal => 2,
            Self::High => 3,
        }
    }

    /// From the stored number.
    #[must_use]
    pub const fn of_rank(rank: i64) -> Self {
        match rank {
            1 => Self::Low,
            3 => Self::High,
            _ => Self::Normal,
        }
    }
}

/// A job as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Order of queueing.
    pub seq: i64,
    /// Its id.
    pub job_id: String,
    /// Its title.
    pub content_id: String,
    /// Counts the jobs of the title from 1.
    pub version: u32,
    /// The account that owns the title.
    pub owner: String,
    /// Where the source came from.
    pub upload_id: String,
    /// Blob of the source.
    pub source_key: String,
    /// Size of the source; 0 for jobs of old.
    pub source_bytes: i64,
    /// Name of its settings.
    pub profile: String,
    /// The ladder that was asked for it alone; empty without one.
    pub ladder: Vec<Step>,
    /// Its settings as they are kept; empty for jobs of old.
    pub settings: Arc<str>,
    /// Its place in line.
    pub priority: Priority,
    /// Where it is in its life.
    pub state: State,
    /// Its newest token.
    pub fence: i64,
    /// How often it was begun.
    pub attempts: u32,
    /// How often its child died without a word.
    pub crashes: u32,
    /// Workers in a row that went silent before they had made anything.
    pub silences: u32,
    /// Not to be begun before.
    pub not_before_ms: UnixMillis,
    /// Names of the tracks that will be made; empty until the source is probed.
    pub tracks: Vec<String>,
    /// Duration that the source claims; 0 when unknown.
    pub source_duration_ms: i64,
    /// Duration that is published of every track.
    pub made_ms: i64,
    /// When this attempt began.
    pub attempt_ms: UnixMillis,
    /// What was made before it.
    pub attempt_made_ms: i64,
    /// When the first segments of all tracks were published; 0 before.
    pub playable_ms: UnixMillis,
    /// Whether the title could be played before this job.
    pub remake: bool,
    /// Whether less was made than the source claims.
    pub partial: bool,
    /// Duration of what was made, once done.
    pub duration_ms: i64,
    /// Path of the poster below the title's media; empty without one.
    pub poster_path: String,
    /// Size of the poster.
    pub poster_bytes: i64,
    /// Stable reason of a failure.
    pub error_reason: String,
    /// A sentence about it.
    pub error_detail: String,
    /// Grows with every visible change.
    pub revision: i64,
    /// The place in a trace of the request that asked for it; empty for jobs of old.
    pub trace_parent: String,
    /// When it was queued.
    pub created_ms: UnixMillis,
    /// When it was first begun.
    pub started_ms: Option<UnixMillis>,
    /// When it ended.
    pub ended_ms: Option<UnixMillis>,
}

impl Job {
    /// 0 to 1, by duration made.
    #[must_use]
    pub fn progress(&self) -> f64 {
        if self.state == State::Succeeded {
            return 1.0;
        }
        if self.source_duration_ms <= 0 {
            return 0.0;
        }
        #[allow(clippy::cast_precision_loss, reason = "a progress bar needs three digits")]
        let part = self.made_ms as f64 / self.source_duration_ms as f64;
        // A claim may be wrong: only the end is 1.
        part.clamp(0.0, 0.99)
    }

    /// Milliseconds until a running job is done, at this attempt's pace. Absent until that shows.
    #[must_use]
    pub fn left_at_own_pace(&self, now: UnixMillis) -> Option<i64> {
        let (made, taken) = (self.made_ms - self.attempt_made_ms, now - self.attempt_ms);
        let left = self.source_duration_ms - self.made_ms;
        let shows = self.state == State::Running && made > 0 && left > 0 && taken > 0;
        shows.then(|| left.saturating_mul(taken) / made)
    }
}
