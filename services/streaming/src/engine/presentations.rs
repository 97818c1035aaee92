//! What was made of titles, kept for a moment: many viewers of one title cost one question.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use streamgate_core::{
    ErrorKind,
    time::{UnixMillis, now_ms},
};
use streamgate_media::presentation::{Rendition, renditions};
use streamgate_proto::streamgate::media::v1::{Presentation, Track};

use super::neighbours::Presentations;
use crate::{Config, Error, Result};

/// Titles in memory. A title of two hours and four rungs takes about 2 MB.
const MOST_TITLES: u64 = 256;

/// A presentation, and where its clock begins.
#[derive(Debug)]
pub struct Seen {
    /// What was made.
    pub presentation: Presentation,
    /// When the beginning of the title counts as available: its first segments before the moment they were there. The
    /// same wherever it is asked for, since a growing manifest may be read from several processes.
    pub available_from_ms: UnixMillis,
    /// Length of the first segments.
    pub first_length_ms: u64,
}

#[derive(Debug, Default)]
struct Slot {
    newest: RwLock<Option<(Instant, Option<Arc<Seen>>)>>,
    asking: tokio::sync::Mutex<()>,
}

/// Presentations by title.
pub struct PresentationCache {
    source: Arc<dyn Presentations>,
    slots: moka::future::Cache<String, Arc<Slot>>,
    growing_fresh: Duration,
    whole_fresh: Duration,
}

impl std::fmt::Debug for PresentationCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PresentationCache").field("titles", &self.slots.entry_count()).finish_non_exhaustive()
    }
}

impl PresentationCache {
    /// A cache before `source`.
    #[must_use]
    pub fn new(source: Arc<dyn Presentations>, config: &Config) -> Self {
        Self {
            source,
            slots: moka::future::Cache::new(MOST_TITLES),
            growing_fresh: Duration::from_millis(config.growing_fresh_ms.into()),
            whole_fresh: Duration::from_secs(config.whole_fresh_seconds.into()),
        }
    }

    /// What was made of a title: of one version, or of the one to be played.
    ///
    /// # Errors
    /// `NotReady` when nothing was, `UnknownAsset` when there is no such version, `Neighbour` when that can't be told.
    pub async fn get(&self, content_id: &str, version: Option<u32>) -> Result<Arc<Seen>> {
        self.get_within(Duration::MAX, content_id, version).await
    }

    /// The same, as it was told not longer ago than `age`.
    ///
    /// # Errors
    /// The same.
    pub async fn get_within(&self, age: Duration, content_id: &str, version: Option<u32>) -> Result<Arc<Seen>> {
        let played = self.one(age, content_id, content_id, 0).await;
        let Some(version) = version else { return played?.ok_or(Error::NotReady) };
        // Nearly everybody is at the version that is played now.
        match played {
            Ok(Some(seen)) if seen.presentation.version == version => Ok(seen),
            _ => self.one(age, &format!("{content_id}/{version}"), content_id, version).await?.ok_or(Error::UnknownAsset),
        }
    }

    async fn one(&self, age: Duration, key: &str, content_id: &str, version: u32) -> Result<Option<Arc<Seen>>> {
        let slot = self.slots.get_with_by_ref(key, async { Arc::default() }).await;
        if let Some(known) = self.fresh(age, &slot) {
            return Ok(known);
        }
        let _one_question = slot.asking.lock().await;
        if let Some(known) = self.fresh(age, &slot) {
            return Ok(known);
        }
        let newest = self.ask(&slot, content_id, version).await?;
        *slot.newest.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), newest.clone()));
        Ok(newest)
    }

    /// Forgets a title.
    pub async fn forget(&self, content_id: &str) {
        self.slots.invalidate(content_id).await;
    }

    async fn ask(&self, slot: &Slot, content_id: &str, version: u32) -> Result<Option<Arc<Seen>>> {
        let known = slot.newest.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|(_, seen)| seen.clone());
        let revision = known.as_ref().map_or(0, |seen| seen.presentation.revision);
        match self.source.newer_than(content_id, version, revision).await {
            Ok(Some(presentation)) => Ok(Some(Arc::new(seen(presentation)))),
            Ok(None) => Ok(known),
            Err(failure) if failure.kind == ErrorKind::NotFound => Ok(None),
            // Stored segments do not change: what is known plays on while the transcoder is away.
            Err(failure) if known.is_some() && failure.kind != ErrorKind::Internal => {
                tracing::debug!(content_id, reason = %failure.reason, "playing from what is known of the title");
                Ok(known)
            }
            Err(failure) => Err(Error::neighbour("ask what was made of a title")(failure)),
        }
    }

    /// The answer in memory, if it is new enough.
    fn fresh(&self, age: Duration, slot: &Slot) -> Option<Option<Arc<Seen>>> {
        let newest = slot.newest.read().unwrap_or_else(PoisonError::into_inner);
        let (asked, seen) = newest.as_ref()?;
        let whole = seen.as_ref().is_some_and(|seen| seen.presentation.complete);
        let limit = if whole { self.whole_fresh } else { self.growing_fresh };
        (asked.elapsed() < limit.min(age)).then(|| seen.clone())
    }
}

fn seen(presentation: Presentation) -> Seen {
    let firsts = renditions(&presentation).filter_map(Rendition::track).filter_map(first_ms);
    let first_length_ms = firsts.max().unwrap_or(0);
    let there_at = if presentation.playable_at_ms > 0 { presentation.playable_at_ms } else { now_ms() };
    Seen { available_from_ms: there_at - i64::try_from(first_length_ms).unwrap_or(0), first_length_ms, presentation }
}

/// Length of a track's first segment.
fn first_ms(track: &Track) -> Option<u64> {
    Some(track.segments.first()?.duration.saturating_mul(1000) / u64::from(track.timescale.max(1)))
}
