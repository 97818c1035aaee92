//! The same contract, proved for each engine; and what only Redis can do: be away.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod suite;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use streamgate_cache::{
    Error, Metrics,
    engine::{CacheStore as _, Invalidation, MemoryCache, RedisCache, SteadyClock},
};
use streamgate_core::ErrorKind;
use streamgate_runtime::RedisConfig;
use streamgate_testkit::{
    engines::{Engine as _, Redis},
    eventually,
};

const BOUND: Duration = Duration::from_secs(10);

fn target(redis: &Redis) -> RedisConfig {
    let env: BTreeMap<String, String> = redis.env().into_iter().collect();
    RedisConfig {
        host: env["REDIS_HOST"].clone(),
        port: env["REDIS_PORT"].parse().unwrap(),
        password: env["REDIS_PASSWORD"].clone(),
        ..RedisConfig::default()
    }
}

async fn command(redis: &Redis, words: &[&str]) {
    let client = deadpool_redis::redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut command = deadpool_redis::redis::cmd(words[0]);
    command.arg(&words[1..]).query_async::<()>(&mut connection).await.unwrap();
}

/// An instance of the service's engine, listening to the others.
fn instance(redis: &Redis) -> RedisCache {
    let cache = RedisCache::new(&target(redis), Metrics::default()).unwrap();
    tokio::spawn(cache.clone().listen());
    cache
}

async fn is_connected(cache: &RedisCache, wanted: bool) {
    let look = || std::future::ready(Ok((cache.bus().is_connected() == wanted).then_some(())));
    eventually(&format!("connected is {wanted}"), BOUND, look).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_keeps_the_contract() {
    let memory = MemoryCache::new(64 * 1024 * 1024, Arc::new(SteadyClock::start()), Metrics::default());
    suite::run(Arc::new(memory)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_keeps_the_contract() {
    let redis = Redis::start().await.unwrap();
    let cache = instance(&redis);
    is_connected(&cache, true).await;
    suite::run(Arc::new(cache)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_share_values_and_hear_of_each_others_changes() {
    let redis = Redis::start().await.unwrap();
    let (one, other) = (instance(&redis), instance(&redis));
    is_connected(&other, true).await;
    let mut news = other.bus().watch();
    one.set("a", "1".into(), None, &["t".into()]).await.unwrap();
    assert_eq!(other.get("a").await.unwrap().unwrap().value, "1");
    assert_eq!(tokio::time::timeout(BOUND, news.next()).await.unwrap(), Some(Invalidation::Key("a".into())));
    assert_eq!(other.invalidate_tag("t").await.unwrap(), 1);
    assert_eq!(one.get("a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_stopped_calls_are_refused_and_it_catches_up_alone() {
    let mut redis = Redis::start().await.unwrap();
    let cache = instance(&redis);
    is_connected(&cache, true).await;
    cache.set("a", "1".into(), None, &[]).await.unwrap();
    redis.stop().await.unwrap();
    let refused = cache.get("a").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused}");
    is_connected(&cache, false).await;

    let mut news = cache.bus().watch();
    assert!(cache.invalidate_tag("t").await.is_err());
    assert_eq!(news.next().await, Some(Invalidation::Tag("t".into())), "watchers here hear of it all the same");

    redis.restart().await.unwrap();
    assert_eq!(news.next().await, Some(Invalidation::Everything), "something may have been missed");
    is_connected(&cache, true).await;
    cache.set("a", "2".into(), None, &[]).await.unwrap();
    assert_eq!(cache.get("a").await.unwrap().unwrap().value, "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_hangs_calls_end_soon_and_it_goes_on_alone() {
    let redis = Redis::start().await.unwrap();
    let cache = instance(&redis);
    is_connected(&cache, true).await;
    redis.pause();
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.get("a").await })
        })
        .collect();
    for call in calls {
        let refused: Result<_, Error> = tokio::time::timeout(BOUND, call).await.expect("it hangs too").unwrap();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unavailable);
    }
    is_connected(&cache, false).await;
    redis.resume();
    is_connected(&cache, true).await;
    eventually("it answers", BOUND, || async { Ok(cache.get("a").await.ok()) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tag_that_redis_lost_takes_its_values_with_it() {
    let redis = Redis::start().await.unwrap();
    let cache = instance(&redis);
    cache.set("a", "1".into(), None, &["t".into()]).await.unwrap();
    cache.set("b", "1".into(), None, &[]).await.unwrap();
    command(&redis, &["UNLINK", "streamgate:{cache}:t:t"]).await;
    assert_eq!(cache.get("a").await.unwrap(), None, "it could never be invalidated by its tag again");
    assert!(cache.get("b").await.unwrap().is_some());
    command(&redis, &["FLUSHALL", "SYNC"]).await;
    assert_eq!(cache.get("b").await.unwrap(), None);
    cache.set("b", "2".into(), None, &["t".into()]).await.unwrap();
    assert_eq!(cache.invalidate_tag("t").await.unwrap(), 1);
}
