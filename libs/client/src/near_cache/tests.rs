#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    future::ready,
    sync::atomic::{AtomicUsize, Ordering as Relation},
};

use tokio::sync::{Notify, oneshot};

use super::*;

fn cache() -> NearCache<u32> {
    let cache = NearCache::new(NearCacheOptions::default());
    cache.0.line.heard();
    cache
}

fn answer(value: u32, tags: &[&str]) -> Result<Loaded<u32>, Failure> {
    Ok(Loaded { value, tags: tags.iter().map(|tag| (*tag).to_owned()).collect() })
}

async fn put(cache: &NearCache<u32>, key: &str, value: u32, tags: &[&str]) {
    let answer = answer(value, tags);
    assert_eq!(cache.get_with(key, || ready(answer)).await.unwrap(), value);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_callers_that_miss_at_once_ask_the_origin_once() {
    const CALLERS: u32 = 10_000;
    let cache = cache();
    let (asked, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (cache, asked, gate) = (cache.clone(), Arc::clone(&asked), Arc::clone(&gate));
            tokio::spawn(async move {
                let load = || async move {
                    asked.fetch_add(1, Relation::SeqCst);
                    gate.notified().await;
                    answer(7, &[])
                };
                cache.get_with("title", load).await
            })
        })
        .collect();
    while cache.stats().misses < u64::from(CALLERS) {
        tokio::task::yield_now().await;
    }
    gate.notify_one();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap(), 7);
    }
    assert_eq!((asked.load(Relation::SeqCst), cache.stats().loads), (1, 1));
}

#[tokio::test]
async fn an_invalidation_drops_what_it_names_and_nothing_else() {
    let cache = cache();
    let fill = async || {
        for (key, value, tag) in [("a/1", 1, "x"), ("a/2", 2, "y"), ("b/1", 3, "x")] {
            put(&cache, key, value, &[tag]).await;
        }
    };
    let held = || ["a/1", "a/2", "b/1"].into_iter().filter(|key| cache.peek(key).is_some()).collect::<Vec<_>>();
    let cases: [(Invalidation, &[&str]); 4] = [
        (Invalidation::Key("a/1".into()), &["a/2", "b/1"]),
        (Invalidation::Prefix("a/".into()), &["b/1"]),
        (Invalidation::Tag("x".into()), &["a/2"]),
        (Invalidation::Everything, &[]),
    ];
    for (invalidation, left) in cases {
        fill().await;
        assert_eq!(held().len(), 3);
        cache.apply(&invalidation);
        assert_eq!(held(), left, "{invalidation:?}");
        cache.apply(&Invalidation::Everything);
    }
}

#[tokio::test]
async fn an_answer_asked_for_before_an_invalidation_is_not_given_after_it() {
    let invalidations = [
        Invalidation::Key("k".into()),
        Invalidation::Prefix("k".into()),
        Invalidation::Tag("x".into()),
        Invalidation::Everything,
    ];
    for invalidation in invalidations {
        let cache = cache();
        let (send, old) = oneshot::channel();
        let early = cache.get_with("k", || async move { old.await.unwrap() });
        let mut early = Box::pin(early);
        assert!(futures::poll!(&mut early).is_pending());
        cache.apply(&invalidation);
        put(&cache, "k", 2, &["x"]).await;
        send.send(answer(1, &["x"])).unwrap();
        assert_eq!(early.await.unwrap(), 1, "the early caller asked before");
        assert_eq!(cache.peek("k"), Some(2), "{invalidation:?}");
    }
}

#[tokio::test]
async fn without_its_line_an_answer_is_believed_for_a_short_time_only() {
    let options = NearCacheOptions { unwatched: Duration::ZERO, ..NearCacheOptions::default() };
    let cache = NearCache::new(options);
    put(&cache, "k", 1, &[]).await;
    assert_eq!(cache.peek("k"), None);
    cache.0.line.heard();
    put(&cache, "j", 2, &[]).await;
    assert_eq!(cache.peek("j"), Some(2));
    cache.0.line.broke();
    assert_eq!(cache.peek("j"), None);
}

#[tokio::test]
async fn a_failure_reaches_all_who_wait_and_is_not_kept() {
    let cache = cache();
    let refused = Failure::new(ErrorKind::Unavailable, "away", "the origin is away");
    let failing = refused.clone();
    let (first, second) =
        tokio::join!(cache.get_with("k", || async move { Err(failing) }), cache.get_with("k", || async move { answer(1, &[]) }),);
    assert_eq!((first, second), (Err(refused.clone()), Err(refused)));
    put(&cache, "k", 2, &[]).await;
}

#[tokio::test]
async fn a_load_that_panics_fails_its_callers_and_no_later_one() {
    let cache = cache();
    let crash = || async move {
        assert!(std::hint::black_box(false), "a load that breaks off");
        answer(1, &[])
    };
    assert_eq!(cache.get_with("k", crash).await.unwrap_err().kind, ErrorKind::Internal);
    put(&cache, "k", 2, &[]).await;
}

#[tokio::test]
async fn a_load_goes_on_when_its_caller_goes_away() {
    let cache = cache();
    let (send, answered) = oneshot::channel();
    {
        let mut caller = Box::pin(cache.get_with("k", || async move { answered.await.unwrap() }));
        assert!(futures::poll!(&mut caller).is_pending());
    }
    send.send(answer(1, &[])).unwrap();
    assert_eq!(cache.get_with("k", || async { answer(2, &[]) }).await.unwrap(), 1);
}

#[tokio::test]
async fn no_more_is_held_than_there_is_room_for() {
    let cache = NearCache::new(NearCacheOptions { capacity: 10, ..NearCacheOptions::default() });
    cache.0.line.heard();
    for number in 0..200 {
        put(&cache, &number.to_string(), number, &[]).await;
    }
    cache.0.entries.run_pending_tasks();
    assert!(cache.0.entries.entry_count() <= 10);
}
