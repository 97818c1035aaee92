//! A near cache of another service, over the real line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{future::ready, time::Duration};

use streamgate_cache::{App, Config};
use streamgate_client::{
    Mesh,
    near_cache::{Loaded, NearCache, NearCacheOptions},
};
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::cache::v1::{InvalidateRequest, invalidate_request::Target};
use streamgate_runtime::{App as _, RedisConfig, testing};
use streamgate_testkit::{eventually, free_port};
use tokio::time::{Instant, sleep};

const BOUND: Duration = Duration::from_secs(60);
/// What DESIGN promises.
const STALE: Duration = Duration::from_millis(50);
/// Invalidations in a row of which none may take longer.
const INVALIDATIONS: usize = 100;
/// How often an answer is looked at, and the longest time between two looks that is the cache's: what goes beyond, the
/// machine has let this thread stand still, and with it all that the test runs.
const LOOK: Duration = Duration::from_millis(1);
const LONGEST_LOOK: Duration = Duration::from_millis(4);

fn answer() -> Result<Loaded<u32>, Failure> {
    Ok(Loaded { value: 1, tags: vec!["title".into()] })
}

async fn watched(cache: &NearCache<u32>, wanted: bool) {
    eventually("the line is noticed", BOUND, || ready(Ok((cache.is_watched() == wanted).then_some(())))).await.unwrap();
}

/// How long an answer outlives the call that invalidates it, without the time in which nothing ran.
async fn time_of_one(near: &NearCache<u32>, mesh: &Mesh) -> Duration {
    near.get_with("a", || ready(answer())).await.unwrap();
    let target = Some(Target::Tag("title".into()));
    mesh.cache().invalidate(InvalidateRequest { target }).await.unwrap();
    let invalidated = Instant::now();
    let (mut stale, mut looked) = (Duration::ZERO, invalidated);
    while near.peek("a").is_some() {
        assert!(invalidated.elapsed() < BOUND, "the invalidation did not arrive");
        sleep(LOOK).await;
        stale += looked.elapsed().min(LONGEST_LOOK);
        looked = Instant::now();
    }
    stale
}

// On one thread, so that this test stands still when what it looks at does.
#[tokio::test]
async fn an_invalidation_reaches_a_near_cache_within_50_ms_and_a_lost_line_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let boot = testing::boot(ServiceName::Cache, Config::default(), folder.path()).unwrap();
    let stop = boot.stop.clone();
    let running = testing::serve(ServiceName::Cache, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    let near = NearCache::new(NearCacheOptions { unwatched: Duration::ZERO, ..NearCacheOptions::default() });
    tokio::spawn(near.clone().follow(mesh.clone()));
    watched(&near, true).await;

    for _ in 0..INVALIDATIONS {
        let stale = time_of_one(&near, &mesh).await;
        assert!(stale <= STALE, "stale for {stale:?}");
    }

    near.get_with("a", || ready(answer())).await.unwrap();
    assert!(near.peek("a").is_some());
    stop.cancel();
    running.stop().await;
    watched(&near, false).await;
    assert_eq!(near.peek("a"), None, "without its line nothing is believed for longer than that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lost_redis_is_not_believed_however_much_it_tells() {
    let folder = tempfile::tempdir().unwrap();
    let mut boot = testing::boot(ServiceName::Cache, Config::default(), folder.path()).unwrap();
    boot.common.redis = RedisConfig { host: "127.0.0.1".into(), port: free_port().unwrap(), ..RedisConfig::default() };
    let running = testing::serve(ServiceName::Cache, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    let near = NearCache::<u32>::new(NearCacheOptions::default());
    tokio::spawn(near.clone().follow(mesh.clone()));
    let news = || near.stats().invalidations;
    let heard = || async {
        let target = Some(Target::Tag("title".into()));
        let told = mesh.cache().invalidate(InvalidateRequest { target }).await;
        assert!(told.is_err(), "other replicas did not hear it");
        assert!(!near.is_watched(), "what others told was missed");
        Ok((news() > 5).then_some(()))
    };
    eventually("this replica's own news arrive", BOUND, heard).await.unwrap();
    running.stop().await;
}
