//! The line over which the cache service says what stops being true.

use std::{
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use streamgate_core::Failure;
use streamgate_proto::streamgate::cache::v1::{WatchRequest, watch_response::Event};

use super::{Invalidation, NearCache};
use crate::Mesh;

/// A line that is silent for so long is broken: the cache service speaks every second.
const SILENCE: Duration = Duration::from_millis(2_500);
/// Waits before the line is tried again; random between the two.
const SHORTEST_WAIT_MS: u64 = 50;
const LONGEST_WAIT_MS: u64 = 1_000;

/// When the line was last heard of.
#[derive(Debug, Default)]
pub(super) struct Line(RwLock<Option<Instant>>);

impl Line {
    pub(super) fn is_alive(&self) -> bool {
        let heard = *self.0.read().unwrap_or_else(PoisonError::into_inner);
        heard.is_some_and(|heard| heard.elapsed() < SILENCE)
    }

    pub(super) fn heard(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(super) fn broke(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<V: Clone + Send + Sync + 'static> NearCache<V> {
    /// Listens to the cache service for as long as it is polled: a task of the service that holds the
    /// cache. A line that was broken may have missed something, so what was held before it is dropped.
    pub async fn follow(self, mesh: Mesh) {
        loop {
            if let Err(failure) = self.listen(&mesh).await {
                tracing::debug!(reason = %failure.reason, "the line to the cache service is broken");
            }
            self.0.line.broke();
            let wait = rand::random_range(SHORTEST_WAIT_MS..=LONGEST_WAIT_MS);
            tokio::time::sleep(Duration::from_millis(wait)).await;
        }
    }

    /// One connection, to its end.
    async fn listen(&self, mesh: &Mesh) -> Result<(), Failure> {
        let fault = |status: tonic::Status| Failure::from(&status);
        let mut stream = mesh.cache().watch(WatchRequest {}).await.map_err(fault)?.into_inner();
        let mut is_first = true;
        while let Ok(message) = tokio::time::timeout(SILENCE, stream.message()).await {
            let Some(message) = message.map_err(fault)? else { return Ok(()) };
            if std::mem::take(&mut is_first) {
                self.apply(&Invalidation::Everything);
            }
            match message.event {
                Some(Event::Key(key)) => self.apply(&Invalidation::Key(key)),
                Some(Event::Tag(tag)) => self.apply(&Invalidation::Tag(tag)),
                Some(Event::Prefix(prefix)) => self.apply(&Invalidation::Prefix(prefix)),
                // Nothing else is a sign of life: a replica that lost its bus still tells what it changed itself.
                Some(Event::Alive(_)) => self.0.line.heard(),
                // What this version does not know may mean anything.
                Some(Event::Everything(_)) | None => self.apply(&Invalidation::Everything),
            }
        }
        Ok(())
    }
}
