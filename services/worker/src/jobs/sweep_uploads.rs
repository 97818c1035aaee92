//! `sweep_uploads`: ends the uploads that ran out of time.

use std::time::Duration;

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::upload::v1::SweepUploadsRequest;

use super::{JobError, JobType, said};
use crate::engine::Work;

/// Uploads of one call: small enough to end within its deadline.
const BATCH: u32 = 100;
/// Calls of one attempt; what is left is the next one's.
const MAX_BATCHES: u32 = 1_000;

/// Ends some uploads that ran out of time.
#[async_trait]
pub trait Sweep: Send + Sync + 'static {
    /// How many were ended, and whether more are waiting.
    async fn sweep(&self, limit: u32) -> Result<(u32, bool), Failure>;
}

#[async_trait]
impl Sweep for Mesh {
    async fn sweep(&self, limit: u32) -> Result<(u32, bool), Failure> {
        let answer = self.upload().sweep_uploads(SweepUploadsRequest { limit }).await.map_err(|status| Failure::from(&status))?;
        let answer = answer.into_inner();
        Ok((answer.expired, answer.more))
    }
}

/// Asks the upload service to end what ran out of time, until nothing is left.
#[derive(Debug)]
pub struct SweepUploads<S> {
    uploads: S,
    interval: Duration,
}

impl<S: Sweep> SweepUploads<S> {
    /// Sweeps `uploads` every `interval`.
    #[must_use]
    pub const fn new(uploads: S, interval: Duration) -> Self {
        Self { uploads, interval }
    }
}

#[async_trait]
impl<S: Sweep> JobType for SweepUploads<S> {
    fn name(&self) -> &'static str {
        "sweep_uploads"
    }

    fn every(&self) -> Option<Duration> {
        Some(self.interval)
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        let mut ended = 0_u64;
        for _ in 0..MAX_BATCHES {
            let (expired, more) = self.uploads.sweep(BATCH).await.map_err(|failure| JobError::Retry(say(&failure, ended)))?;
            ended += u64::from(expired);
            if !more {
                return Ok(format!("ended {ended} abandoned uploads"));
            }
        }
        Err(JobError::Retry(format!("ended {ended} abandoned uploads and more are waiting")))
    }
}

fn say(failure: &Failure, ended: u64) -> String {
    format!("ended {ended} abandoned uploads, then {}", said(ServiceName::Upload, failure))
}
