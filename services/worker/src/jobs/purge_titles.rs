//! `purge_titles`: ends the titles whose deletion can no longer be taken back.

use std::time::Duration;

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::metadata::v1::PurgeContentsRequest;

use super::{JobError, JobType, said};
use crate::engine::Work;

/// Titles of one call: small enough to end within its deadline.
const BATCH: u32 = 100;
/// Calls of one attempt; what is left is the next one's.
const MAX_BATCHES: u32 = 1_000;

/// Purges some titles.
#[async_trait]
pub trait Purge: Send + Sync + 'static {
    /// How many were purged, and whether more are waiting.
    async fn purge(&self, limit: u32) -> Result<(u32, bool), Failure>;
}

#[async_trait]
impl Purge for Mesh {
    async fn purge(&self, limit: u32) -> Result<(u32, bool), Failure> {
        let answer =
            self.metadata().purge_contents(PurgeContentsRequest { limit }).await.map_err(|status| Failure::from(&status))?;
        let answer = answer.into_inner();
        Ok((answer.purged, answer.more))
    }
}

/// Asks the metadata service to purge what is due, until nothing is left. Media follow by its events.
#[derive(Debug)]
pub struct PurgeTitles<P> {
    titles: P,
    interval: Duration,
}

impl<P: Purge> PurgeTitles<P> {
    /// Purges `titles` every `interval`.
    #[must_use]
    pub const fn new(titles: P, interval: Duration) -> Self {
        Self { titles, interval }
    }
}

#[async_trait]
impl<P: Purge> JobType for PurgeTitles<P> {
    fn name(&self) -> &'static str {
        "purge_titles"
    }

    fn every(&self) -> Option<Duration> {
        Some(self.interval)
    }

    async fn run(&self, _: &Work) -> Result<String, JobError> {
        let mut done = 0_u64;
        for _ in 0..MAX_BATCHES {
            let (purged, more) = self.titles.purge(BATCH).await.map_err(|failure| {
                JobError::Retry(format!("purged {done} titles, then {}", said(ServiceName::Metadata, &failure)))
            })?;
            done += u64::from(purged);
            if !more {
                return Ok(format!("purged {done} titles"));
            }
        }
        Err(JobError::Retry(format!("purged {done} titles and more are waiting")))
    }
}
