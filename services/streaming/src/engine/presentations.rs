//! What was made of titles, kept for a moment: many viewers of one title cost one question.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use streamgate_core::{
    ErrorKind,
    time::{UnixMillis, now_ms},
};
use streamgate_media::presentation::span_seconds;
use streamgate_proto::streamgate::media::v1::Presentation;

use super::neighbours::Presentations;
use crate::{Config, Error, Result};

/// Titles in memory. A title of two hours and four rungs takes about 2 MB.
const MOST_TITLES: u64 = 256;

/// A presentation, and how it looked when this process first saw it.
#[derive(Debug)]
pub struct Seen {
    /// What was made.
    pub presentation: Presentation,
    /// When the beginning of the title counts as available: its length before the moment it was first seen.
    pub available_from_ms: UnixMillis,
    /// Its length when it was first seen.
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

    /// What was made of a title.
    ///
    /// # Errors
    /// `NotReady` when nothing was, `Neighbour` when that can't be told.
    pub async fn get(&self, content_id: &str) -> Result<Arc<Seen>> {
        let slot = self.slots.get_with_by_ref(content_id, async { Arc::default() }).await;
        if let Some(known) = self.fresh(&slot) {
            return known.ok_or(Error::NotReady);
        }
        let _one_question = slot.asking.lock().await;
        if let Some(known) = self.fresh(&slot) {
            return known.ok_or(Error::NotReady);
        }
        let newest = self.ask(&slot, content_id).await?;
        *slot.newest.write().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), newest.clone()));
        newest.ok_or(Error::NotReady)
    }

    /// Forgets a title.
    pub async fn forget(&self, content_id: &str) {
        self.slots.invalidate(content_id).await;
    }

    async fn ask(&self, slot: &Slot, content_id: &str) -> Result<Option<Arc<Seen>>> {
        let known = slot.newest.read().unwrap_or_else(PoisonError::into_inner).as_ref().and_then(|(_, seen)| seen.clone());
        let revision = known.as_ref().map_or(0, |seen| seen.presentation.revision);
        match self.source.newer_than(content_id, revision).await {
            Ok(Some(presentation)) => Ok(Some(Arc::new(seen(presentation, known.as_deref())))),
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
    fn fresh(&self, slot: &Slot) -> Option<Option<Arc<Seen>>> {
        let newest = slot.newest.read().unwrap_or_else(PoisonError::into_inner);
        let (asked, seen) = newest.as_ref()?;
        let whole = seen.as_ref().is_some_and(|seen| seen.presentation.complete);
        let limit = if whole { self.whole_fresh } else { self.growing_fresh };
        (asked.elapsed() < limit).then(|| seen.clone())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length in milliseconds is small and not negative")]
fn seen(presentation: Presentation, before: Option<&Seen>) -> Seen {
    let same_job = before.filter(|before| before.presentation.job_id == presentation.job_id && before.first_length_ms > 0);
    if let Some(before) = same_job {
        return Seen { presentation, available_from_ms: before.available_from_ms, first_length_ms: before.first_length_ms };
    }
    let first_length_ms = (span_seconds(&presentation) * 1000.0) as u64;
    let available_from_ms = now_ms() - i64::try_from(first_length_ms).unwrap_or(0);
    Seen { presentation, available_from_ms, first_length_ms }
}
