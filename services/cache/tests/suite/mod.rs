//! What every engine of the cache must do, one case for each sentence of its contract.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{sync::Arc, time::Duration};

use futures::{FutureExt as _, StreamExt as _};
use streamgate_cache::engine::{CacheStore, Invalidation};

pub type Engine = Arc<dyn CacheStore>;

async fn put(engine: &Engine, key: &str, value: &'static str, tags: &[&str]) {
    let tags: Vec<String> = tags.iter().map(|tag| (*tag).to_owned()).collect();
    engine.set(key, value.into(), None, &tags).await.unwrap();
}

async fn value(engine: &Engine, key: &str) -> Option<String> {
    let found = engine.get(key).await.unwrap()?;
    Some(String::from_utf8(found.value.to_vec()).unwrap())
}

async fn held(engine: &Engine, keys: &[&str]) -> Vec<String> {
    let mut held = Vec::new();
    for key in keys {
        if value(engine, key).await.is_some() {
            held.push((*key).to_owned());
        }
    }
    held
}

/// Runs every case, each on an empty cache.
pub async fn run(engine: Engine) {
    for case in 0.. {
        engine.clear().await.unwrap();
        match case {
            0 => a_value_is_read_back_until_it_is_deleted(&engine).await,
            1 => any_bytes_are_kept_as_they_are(&engine).await,
            2 => a_value_is_over_when_its_time_is(&engine).await,
            3 => setting_again_replaces_value_time_and_tags(&engine).await,
            4 => a_tag_removes_what_has_it(&engine).await,
            5 => a_prefix_removes_what_begins_so_and_is_no_pattern(&engine).await,
            6 => clearing_removes_everything(&engine).await,
            7 => stats_count_what_happened(&engine).await,
            8 => every_change_is_told(&engine).await,
            9 => many_at_once_lose_nothing(&engine).await,
            _ => return,
        }
    }
}

async fn a_value_is_read_back_until_it_is_deleted(engine: &Engine) {
    assert_eq!(value(engine, "a").await, None);
    put(engine, "a", "1", &["t"]).await;
    let found = engine.get("a").await.unwrap().unwrap();
    assert_eq!((found.value.as_ref(), found.ttl), (b"1".as_slice(), None));
    assert!(engine.delete("a").await.unwrap());
    assert!(!engine.delete("a").await.unwrap());
    assert_eq!(value(engine, "a").await, None);
    assert_eq!(engine.invalidate_tag("t").await.unwrap(), 0, "a deleted value has no tags");
}

async fn any_bytes_are_kept_as_they_are(engine: &Engine) {
    let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let key = "ключ / \"quoted\" {x} \\ *";
    engine.set(key, bytes.clone().into(), None, &[]).await.unwrap();
    assert_eq!(engine.get(key).await.unwrap().unwrap().value, bytes);
    engine.set("empty", Vec::new().into(), None, &[]).await.unwrap();
    assert_eq!(engine.get("empty").await.unwrap().unwrap().value.len(), 0);
}

async fn a_value_is_over_when_its_time_is(engine: &Engine) {
    let (short, long) = (Duration::from_millis(80), Duration::from_secs(60));
    engine.set("short", "1".into(), Some(short), &["t".into()]).await.unwrap();
    engine.set("long", "2".into(), Some(long), &["t".into()]).await.unwrap();
    assert!(engine.get("long").await.unwrap().unwrap().ttl.unwrap() <= long);
    let over = async || Ok(value(engine, "short").await.is_none().then_some(()));
    streamgate_testkit::eventually("the short one is over", Duration::from_secs(60), over).await.unwrap();
    assert_eq!(value(engine, "long").await.as_deref(), Some("2"));
    assert_eq!(engine.invalidate_tag("t").await.unwrap(), 1, "what is over is not removed again");
}

async fn setting_again_replaces_value_time_and_tags(engine: &Engine) {
    engine.set("a", "1".into(), Some(Duration::from_secs(60)), &["old".into()]).await.unwrap();
    put(engine, "a", "2", &["new"]).await;
    assert_eq!(engine.get("a").await.unwrap().unwrap().ttl, None);
    assert_eq!(engine.invalidate_tag("old").await.unwrap(), 0);
    assert_eq!(value(engine, "a").await.as_deref(), Some("2"));
    assert_eq!(engine.invalidate_tag("new").await.unwrap(), 1);
    assert_eq!(value(engine, "a").await, None);
}

async fn a_tag_removes_what_has_it(engine: &Engine) {
    put(engine, "a", "1", &["x", "y"]).await;
    put(engine, "b", "2", &["y"]).await;
    put(engine, "c", "3", &[]).await;
    assert_eq!(engine.invalidate_tag("x").await.unwrap(), 1);
    assert_eq!(held(engine, &["a", "b", "c"]).await, ["b", "c"]);
    put(engine, "d", "4", &["x"]).await;
    assert_eq!(engine.invalidate_tag("y").await.unwrap(), 1);
    assert_eq!(held(engine, &["a", "b", "c", "d"]).await, ["c", "d"], "a tag removes nothing that came after it");
}

async fn a_prefix_removes_what_begins_so_and_is_no_pattern(engine: &Engine) {
    for key in ["a*/1", "ab/1", "a*/2", "a"] {
        put(engine, key, "1", &[]).await;
    }
    assert_eq!(engine.invalidate_prefix("a*/").await.unwrap(), 2);
    assert_eq!(held(engine, &["a*/1", "ab/1", "a*/2", "a"]).await, ["ab/1", "a"]);
    assert_eq!(engine.invalidate_prefix("nothing").await.unwrap(), 0);
}

async fn clearing_removes_everything(engine: &Engine) {
    put(engine, "a", "1", &["x"]).await;
    put(engine, "b", "2", &["x", "y"]).await;
    assert_eq!(engine.clear().await.unwrap(), 2);
    assert!(held(engine, &["a", "b"]).await.is_empty());
    assert_eq!((engine.clear().await.unwrap(), engine.stats().await.unwrap().entries), (0, 0));
}

async fn stats_count_what_happened(engine: &Engine) {
    let before = engine.stats().await.unwrap();
    put(engine, "a", "1", &[]).await;
    put(engine, "b", "2", &[]).await;
    value(engine, "a").await.unwrap();
    assert_eq!(value(engine, "x").await, None);
    let after = engine.stats().await.unwrap();
    assert_eq!((after.entries, after.sets - before.sets), (2, 2));
    assert_eq!((after.hits - before.hits, after.misses - before.misses), (1, 1));
    assert!(after.size_bytes > 0);
}

async fn every_change_is_told(engine: &Engine) {
    let mut news = engine.bus().watch();
    put(engine, "a", "1", &[]).await;
    engine.delete("absent").await.unwrap();
    engine.invalidate_tag("unknown").await.unwrap();
    engine.invalidate_prefix("p").await.unwrap();
    engine.clear().await.unwrap();
    let expected = [
        Invalidation::Key("a".into()),
        Invalidation::Key("absent".into()),
        Invalidation::Tag("unknown".into()),
        Invalidation::Prefix("p".into()),
        Invalidation::Everything,
    ];
    let mut heard: Vec<Invalidation> = Vec::new();
    while let Some(Some(next)) = news.next().now_or_never() {
        // A channel that has just been joined may have missed anything, and says so first.
        let has_just_joined = heard.is_empty() && next == Invalidation::Everything;
        // Between instances news come twice: once at once, and once from the shared channel.
        if !has_just_joined && !heard.contains(&next) {
            heard.push(next);
        }
    }
    assert_eq!(heard, expected);
}

async fn many_at_once_lose_nothing(engine: &Engine) {
    let writers: Vec<_> = (0..20)
        .map(|writer| {
            let engine = Arc::clone(engine);
            tokio::spawn(async move {
                for number in 0..20 {
                    let tag = format!("w{writer}");
                    engine.set(&format!("{writer}/{number}"), "v".into(), None, &[tag, "all".into()]).await.unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(engine.stats().await.unwrap().entries, 400);
    assert_eq!(engine.invalidate_tag("w7").await.unwrap(), 20);
    assert_eq!(engine.invalidate_tag("all").await.unwrap(), 380);
}
