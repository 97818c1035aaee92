//! How far a title is: a state machine that ends the same in whatever order its events come.
//!
//! Events of one service arrive in order, but those of two do not, and each may come twice. So a
//! title follows its *newest* job (job ids are ordered by time), within a job the newest event that
//! moves it (event ids are ordered too), and completion of a job is final for that job. Progress
//! and playability only grow within a job.

use std::{fmt, str::FromStr};

use streamgate_core::ids::{EventId, JobId};

/// Where a title stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Made; no file yet.
    Waiting,
    /// A file is on its way.
    Uploading,
    /// The file is being made into a ladder.
    Processing,
    /// Every rendition is whole.
    Ready,
    /// It could not be made.
    Errored,
}

impl Status {
    /// The word on the wire and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Uploading => "uploading",
            Self::Processing => "processing",
            Self::Ready => "ready",
            Self::Errored => "errored",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A word that is no status.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be waiting, uploading, processing, ready or errored")]
pub struct BadStatus;

impl FromStr for Status {
    type Err = BadStatus;

    fn from_str(word: &str) -> Result<Self, BadStatus> {
        [Self::Waiting, Self::Uploading, Self::Processing, Self::Ready, Self::Errored]
            .into_iter()
            .find(|status| status.as_str() == word)
            .ok_or(BadStatus)
    }
}

/// What an event says about a title.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// The source is whole.
    Uploaded,
    /// The source will not come.
    Abandoned {
        /// `upload_cancelled` or `upload_expired`.
        reason: &'static str,
    },
    /// A transcode job said something.
    Job {
        /// Which job.
        job: JobId,
        /// What.
        news: JobNews,
    },
}

/// What a transcode job says.
#[derive(Debug, Clone, PartialEq)]
pub enum JobNews {
    /// It has begun, perhaps again.
    Started,
    /// It is this far, 0 to 1.
    Progressed(f64),
    /// The first segments are stored.
    Playable,
    /// Every rendition is whole.
    Completed {
        /// Length of the media.
        duration_ms: u64,
        /// Of the largest rendition.
        width: u32,
        /// Of the largest rendition.
        height: u32,
    },
    /// It gave up.
    Failed {
        /// Stable reason.
        reason: String,
        /// A sentence for the creator.
        detail: String,
    },
}

/// How far a title is.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Where it stands.
    pub status: Status,
    /// 0 to 1.
    pub progress: f64,
    /// Whether the first segments are stored.
    pub playable: bool,
    /// The newest job heard of; empty before the first.
    pub job_id: String,
    /// The event that last moved the job; empty when only implied.
    pub job_mark: String,
    /// Why it could not be made; empty unless errored.
    pub error_reason: String,
    /// The same for a person.
    pub error_detail: String,
    /// Length of the finished media.
    pub duration_ms: u64,
    /// Width of the finished media.
    pub width: u32,
    /// Height of the finished media.
    pub height: u32,
}

impl Stage {
    /// A title that begins with `status`.
    #[must_use]
    pub const fn new(status: Status) -> Self {
        Self {
            status,
            progress: 0.0,
            playable: false,
            job_id: String::new(),
            job_mark: String::new(),
            error_reason: String::new(),
            error_detail: String::new(),
            duration_ms: 0,
            width: 0,
            height: 0,
        }
    }

    /// Takes in what the event `id` says.
    pub fn apply(&mut self, id: &EventId, change: &Change) {
        match change {
            Change::Uploaded if self.job_id.is_empty() => *self = Self::new(Status::Processing),
            Change::Abandoned { reason } if matches!(self.status, Status::Waiting | Status::Uploading) => {
                self.fail(reason, "the upload ended before the file was whole; upload it again");
            }
            Change::Uploaded | Change::Abandoned { .. } => {}
            Change::Job { job, news } => self.apply_job(id, job, news),
        }
    }

    fn apply_job(&mut self, id: &EventId, job: &JobId, news: &JobNews) {
        if job.as_str() < self.job_id.as_str() {
            return;
        }
        if job.as_str() > self.job_id.as_str() {
            *self = Self { job_id: job.to_string(), ..Self::new(Status::Processing) };
        }
        match news {
            JobNews::Progressed(share) => self.progress = self.progress.max(share.clamp(0.0, 1.0)),
            JobNews::Playable => self.playable = true,
            JobNews::Completed { duration_ms, width, height } => {
                self.move_to(id, Status::Ready);
                self.playable = true;
                self.progress = 1.0;
                (self.duration_ms, self.width, self.height) = (*duration_ms, *width, *height);
            }
            JobNews::Started if self.is_moved_by(id) => self.move_to(id, Status::Processing),
            JobNews::Failed { reason, detail } if self.is_moved_by(id) => {
                self.move_to(id, Status::Errored);
                self.fail(reason, detail);
            }
            JobNews::Started | JobNews::Failed { .. } => {}
        }
    }

    /// Whether `id` is news for an unfinished job.
    fn is_moved_by(&self, id: &EventId) -> bool {
        self.status != Status::Ready && id.as_str() > self.job_mark.as_str()
    }

    fn move_to(&mut self, id: &EventId, status: Status) {
        self.status = status;
        self.job_mark = id.to_string();
        self.error_reason.clear();
        self.error_detail.clear();
    }

    fn fail(&mut self, reason: &str, detail: &str) {
        self.status = Status::Errored;
        self.error_reason = reason.to_owned();
        self.error_detail = detail.to_owned();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn done() -> JobNews {
        JobNews::Completed { duration_ms: 1_000, width: 1280, height: 720 }
    }

    fn failed() -> JobNews {
        JobNews::Failed { reason: "no_media_streams".into(), detail: "there is nothing to play".into() }
    }

    /// The events of a title whose first job failed and whose second one ended well.
    fn life() -> Vec<(EventId, Change)> {
        let (first, second) = (JobId::new(), JobId::new());
        let job = |job: &JobId, news| Change::Job { job: job.clone(), news };
        [
            Change::Uploaded,
            job(&first, JobNews::Started),
            job(&first, JobNews::Progressed(0.4)),
            job(&first, JobNews::Playable),
            job(&first, failed()),
            job(&second, JobNews::Started),
            job(&second, JobNews::Progressed(0.2)),
            job(&second, JobNews::Playable),
            job(&second, JobNews::Progressed(0.9)),
            job(&second, done()),
        ]
        .into_iter()
        .map(|change| (EventId::new(), change))
        .collect()
    }

    fn after(events: &[(EventId, Change)]) -> Stage {
        let mut stage = Stage::new(Status::Uploading);
        for (id, change) in events {
            stage.apply(id, change);
        }
        stage
    }

    proptest! {
        #[test]
        fn any_order_of_the_events_ends_the_same(picks in proptest::collection::vec(any::<prop::sample::Index>(), 0..30), length in 1_usize..=10) {
            let events = life()[..length].to_vec();
            let expected = after(&events);
            // Repeats first, in any order; then every event once, so that none is missing.
            let mut shuffled: Vec<_> = picks.iter().map(|pick| pick.get(&events).clone()).collect();
            let mut rest = events;
            for pick in &picks {
                if rest.is_empty() { break; }
                shuffled.push(rest.remove(pick.index(rest.len())));
            }
            shuffled.extend(rest);
            prop_assert_eq!(after(&shuffled), expected);
        }
    }

    #[test]
    fn late_progress_never_undoes_ready() {
        let job = JobId::new();
        let (early, start) = (EventId::new(), EventId::new());
        let mut stage = Stage::new(Status::Uploading);
        stage.apply(&EventId::new(), &Change::Job { job: job.clone(), news: done() });
        stage.apply(&early, &Change::Job { job: job.clone(), news: JobNews::Progressed(0.3) });
        stage.apply(&start, &Change::Job { job, news: JobNews::Started });
        stage.apply(&EventId::new(), &Change::Uploaded);
        assert_eq!((stage.status, stage.progress, stage.playable), (Status::Ready, 1.0, true));
    }

    #[test]
    fn a_job_that_starts_after_an_error_is_processing_again() {
        let mut stage = Stage::new(Status::Uploading);
        let first = JobId::new();
        stage.apply(&EventId::new(), &Change::Job { job: first.clone(), news: failed() });
        assert_eq!((stage.status, stage.error_reason.as_str()), (Status::Errored, "no_media_streams"));
        stage.apply(&EventId::new(), &Change::Job { job: first, news: JobNews::Started });
        assert_eq!((stage.status, stage.error_reason.as_str()), (Status::Processing, ""));
    }

    #[test]
    fn an_abandoned_upload_errs_only_before_the_file_is_whole() {
        let gone = Change::Abandoned { reason: "upload_expired" };
        let mut stage = Stage::new(Status::Waiting);
        stage.apply(&EventId::new(), &gone);
        assert_eq!((stage.status, stage.error_reason.as_str()), (Status::Errored, "upload_expired"));
        stage.apply(&EventId::new(), &Change::Uploaded);
        assert_eq!((stage.status, stage.error_reason.as_str()), (Status::Processing, ""));
        stage.apply(&EventId::new(), &gone);
        assert_eq!(stage.status, Status::Processing);
    }
}
