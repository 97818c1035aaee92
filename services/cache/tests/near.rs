//! A near cache of another service, over the real line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    future::ready,
    time::{Duration, Instant},
};

use streamgate_cache::{App, Config};
use streamgate_client::near_cache::{Loaded, NearCache, NearCacheOptions};
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::cache::v1::{InvalidateRequest, invalidate_request::Target};
use streamgate_runtime::{App as _, testing};
use streamgate_testkit::eventually;

const BOUND: Duration = Duration::from_secs(10);
/// What DESIGN promises.
const STALE: Duration = Duration::from_millis(50);

fn answer() -> Result<Loaded<u32>, Failure> {
    Ok(Loaded { value: 1, tags: vec!["title".into()] })
}

async fn watched(cache: &NearCache<u32>, wanted: bool) {
    eventually("the line is noticed", BOUND, || ready(Ok((cache.is_watched() == wanted).then_some(())))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalidation_reaches_a_near_cache_within_50_ms_and_a_lost_line_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let boot = testing::boot(ServiceName::Cache, Config::default(), folder.path()).unwrap();
    let stop = boot.stop.clone();
    let running = testing::serve(ServiceName::Cache, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    let near = NearCache::new(NearCacheOptions { unwatched: Duration::ZERO, ..NearCacheOptions::default() });
    tokio::spawn(near.clone().follow(mesh.clone()));
    watched(&near, true).await;

    let mut stale: Vec<Duration> = Vec::new();
    for _ in 0..21 {
        near.get_with("a", || ready(answer())).await.unwrap();
        let target = Some(Target::Tag("title".into()));
        let asked = Instant::now();
        mesh.cache().invalidate(InvalidateRequest { target }).await.unwrap();
        while near.peek("a").is_some() {
            assert!(asked.elapsed() < BOUND, "the invalidation did not arrive");
            tokio::task::yield_now().await;
        }
        stale.push(asked.elapsed());
    }
    stale.sort_unstable();
    assert!(stale[stale.len() / 2] <= STALE, "stale for {stale:?}");

    near.get_with("a", || ready(answer())).await.unwrap();
    assert!(near.peek("a").is_some());
    stop.cancel();
    running.stop().await;
    watched(&near, false).await;
    assert_eq!(near.peek("a"), None, "without its line nothing is believed for longer than that");
}
