//! Titles as the metadata service told of them, kept near.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_client::{
    Mesh,
    near_cache::{Invalidation, Loaded, NearCache, NearCacheOptions},
};
use streamgate_core::{Caller, ErrorKind, Failure};

use crate::engine::neighbours::{Title, Titles};

/// Titles kept at the most.
const MOST_TITLES: u64 = 10_000;
/// How a load says that there is no such title: the one answer that nothing could invalidate is not kept.
const ABSENT: &str = "title_absent";

/// Asks another for each title once, until the title changes or what is known of it has become old.
///
/// While the cache service can't say what changes, nothing is believed: many who ask at once still share one answer.
#[derive(Debug)]
pub struct NearTitles<T> {
    origin: Arc<T>,
    near: NearCache<Title>,
}

impl<T: Titles> NearTitles<T> {
    /// Titles of `origin`, each believed for `fresh`.
    #[must_use]
    pub fn new(origin: Arc<T>, fresh: Duration) -> Self {
        let options = NearCacheOptions { capacity: MOST_TITLES, fresh, unwatched: Duration::ZERO };
        Self { origin, near: NearCache::new(options) }
    }

    /// What is kept, for those who count.
    #[must_use]
    pub fn kept(&self) -> NearCache<Title> {
        self.near.clone()
    }

    /// Hears from the cache service which titles change, for as long as it is polled.
    pub async fn follow(&self, mesh: Mesh) {
        self.near.clone().follow(mesh).await;
    }
}

#[async_trait]
impl<T: Titles> Titles for NearTitles<T> {
    async fn resolve(&self, playback_id: &str) -> Result<Option<Title>, Failure> {
        let (origin, id) = (Arc::clone(&self.origin), playback_id.to_owned());
        let load = || async move {
            let absent = || Failure::new(ErrorKind::NotFound, ABSENT, "there is no such title");
            let title = origin.resolve(&id).await?.ok_or_else(absent)?;
            Ok(Loaded { tags: vec![title.content_id.clone()], value: title })
        };
        match self.near.get_with(playback_id, load).await {
            Ok(title) => Ok(Some(title)),
            Err(failure) if failure.reason == ABSENT => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    async fn playback_id(&self, caller: &Caller, content_id: &str) -> Result<Option<String>, Failure> {
        self.origin.playback_id(caller, content_id).await
    }

    fn forget(&self, content_id: &str) {
        self.near.apply(&Invalidation::Tag(content_id.to_owned()));
        self.origin.forget(content_id);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    /// Counts who asks, and answers when it is let.
    struct Origin {
        asked: AtomicUsize,
        open: Semaphore,
    }

    #[async_trait]
    impl Titles for Origin {
        async fn resolve(&self, playback_id: &str) -> Result<Option<Title>, Failure> {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            let _turn = self.open.acquire().await.unwrap();
            let title =
                || Title { content_id: "cnt".into(), owner: "acc".into(), gate: None, gate_hash: format!("answer {asked}") };
            Ok((playback_id != "absent").then(title))
        }

        async fn playback_id(&self, _caller: &Caller, _content_id: &str) -> Result<Option<String>, Failure> {
            Ok(None)
        }
    }

    fn titles() -> NearTitles<Origin> {
        let origin = Origin { asked: AtomicUsize::new(0), open: Semaphore::new(0) };
        NearTitles::new(Arc::new(origin), Duration::from_secs(10))
    }

    #[tokio::test]
    async fn many_who_ask_at_once_share_one_answer_even_while_nothing_is_believed() {
        let titles = titles();
        let all = join_all((0..1_000).map(|_| titles.resolve("pbk")));
        let (answers, ()) = tokio::join!(all, async { titles.origin.open.add_permits(1) });
        assert!(answers.into_iter().all(|answer| answer.unwrap().unwrap().gate_hash == "answer 0"));
        assert_eq!(titles.resolve("pbk").await.unwrap().unwrap().gate_hash, "answer 1", "the line to the cache is broken");
    }

    #[tokio::test]
    async fn who_comes_after_a_change_is_not_given_what_was_asked_before_it() {
        let titles = titles();
        let mut early = Box::pin(titles.resolve("pbk"));
        assert!(futures::poll!(&mut early).is_pending());
        while titles.origin.asked.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        titles.forget("cnt");
        titles.origin.open.add_permits(2);
        assert_eq!(titles.resolve("pbk").await.unwrap().unwrap().gate_hash, "answer 1");
        assert_eq!(early.await.unwrap().unwrap().gate_hash, "answer 0");
    }

    #[tokio::test]
    async fn an_absent_title_is_absent_and_looked_for_again() {
        let titles = titles();
        titles.origin.open.add_permits(1);
        for _ in 0..2 {
            assert_eq!(titles.resolve("absent").await.unwrap(), None);
        }
        assert_eq!(titles.origin.asked.load(Ordering::SeqCst), 2);
    }
}
