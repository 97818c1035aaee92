//! The service over its handlers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::sync::Arc;

use streamgate_cache::{
    Handler, Metrics,
    engine::{MemoryCache, SteadyClock},
};
use streamgate_core::Failure;
use streamgate_proto::streamgate::cache::v1::{self as pb, cache_service_server::CacheService, invalidate_request::Target};
use streamgate_runtime::CancellationToken;
use tonic::{Code, Request, Status};

fn cache() -> Handler {
    let store = MemoryCache::new(8 * 1024 * 1024, Arc::new(SteadyClock::start()), Metrics::default());
    Handler::new(Arc::new(store), CancellationToken::new())
}

async fn set(cache: &Handler, key: &str, value: &'static str, tags: &[&str]) {
    let request = pb::SetRequest {
        key: key.into(),
        value: value.into(),
        ttl_ms: 0,
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
    };
    cache.set(Request::new(request)).await.unwrap();
}

async fn get(cache: &Handler, key: &str) -> Result<pb::GetResponse, Status> {
    Ok(cache.get(Request::new(pb::GetRequest { key: key.into() })).await?.into_inner())
}

async fn invalidate(cache: &Handler, target: Option<Target>) -> Result<u64, Status> {
    Ok(cache.invalidate(Request::new(pb::InvalidateRequest { target })).await?.into_inner().removed)
}

#[tokio::test]
async fn a_value_is_read_back_until_it_is_deleted() {
    let cache = cache();
    set(&cache, "a", "1", &[]).await;
    assert_eq!(get(&cache, "a").await.unwrap(), pb::GetResponse { value: "1".into(), ttl_ms: 0 });
    let delete = || Request::new(pb::DeleteRequest { key: "a".into() });
    assert!(cache.delete(delete()).await.unwrap().into_inner().existed);
    assert!(!cache.delete(delete()).await.unwrap().into_inner().existed);
    let gone = get(&cache, "a").await.unwrap_err();
    assert_eq!((gone.code(), Failure::from(&gone).reason.as_ref()), (Code::NotFound, "key_absent"));
}

#[tokio::test]
async fn a_time_to_live_is_told_with_the_value() {
    let cache = cache();
    let request = pb::SetRequest { key: "a".into(), value: "1".into(), ttl_ms: 60_000, tags: vec![] };
    cache.set(Request::new(request)).await.unwrap();
    assert!((1..=60_000).contains(&get(&cache, "a").await.unwrap().ttl_ms));
}

#[tokio::test]
async fn tags_and_prefixes_invalidate_what_they_name_and_nothing_else() {
    let cache = cache();
    set(&cache, "title/1", "a", &["owner-x"]).await;
    set(&cache, "title/2", "b", &["owner-y"]).await;
    set(&cache, "gate/1", "c", &["owner-x"]).await;
    assert_eq!(invalidate(&cache, Some(Target::Tag("owner-x".into()))).await.unwrap(), 2);
    assert!(get(&cache, "title/1").await.is_err());
    assert_eq!(invalidate(&cache, Some(Target::Prefix("title/".into()))).await.unwrap(), 1);
    for bad in [None, Some(Target::Prefix(String::new())), Some(Target::Tag("x".repeat(129)))] {
        assert_eq!(invalidate(&cache, bad).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn every_limit_is_told_by_its_field() {
    let cache = cache();
    let request = pb::SetRequest {
        key: "k".repeat(513),
        value: vec![0; 1024 * 1024 + 1].into(),
        ttl_ms: 30 * 24 * 60 * 60 * 1000 + 1,
        tags: vec![String::new(); 17],
    };
    let status = cache.set(Request::new(request)).await.unwrap_err();
    let fields: Vec<String> = Failure::from(&status).fields.into_iter().map(|field| field.field).collect();
    assert_eq!(fields[..5], ["key", "value", "ttl_ms", "tags", "tags[0]"]);
    let largest = pb::SetRequest {
        key: "k".repeat(512),
        value: vec![0; 1024 * 1024].into(),
        ttl_ms: 30 * 24 * 60 * 60 * 1000,
        tags: (0..16).map(|number| format!("{number:0128}")).collect(),
    };
    cache.set(Request::new(largest)).await.unwrap();
    assert!(get(&cache, &"k".repeat(512)).await.is_ok());
    assert_eq!(get(&cache, "").await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn stats_count_what_happened() {
    let cache = cache();
    set(&cache, "a", "1", &[]).await;
    set(&cache, "b", "2", &[]).await;
    get(&cache, "a").await.unwrap();
    get(&cache, "x").await.unwrap_err();
    let stats = cache.get_stats(Request::new(pb::GetStatsRequest {})).await.unwrap().into_inner();
    assert_eq!((stats.entries, stats.hits, stats.misses, stats.sets, stats.evictions), (2, 1, 1, 2, 0));
    assert!(stats.size_bytes > 0 && stats.capacity_bytes == 8 * 1024 * 1024);
    assert_eq!(cache.clear(Request::new(pb::ClearRequest {})).await.unwrap().into_inner().removed, 2);
    assert_eq!(cache.get_stats(Request::new(pb::GetStatsRequest {})).await.unwrap().into_inner().size_bytes, 0);
}
