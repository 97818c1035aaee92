//! Decode, call, encode.

use std::{sync::Arc, time::Duration};

use futures::{StreamExt as _, stream::BoxStream};
use streamgate_core::{Failure, FieldViolation};
use streamgate_proto::streamgate::cache::v1::{
    self as pb, cache_service_server::CacheService, invalidate_request::Target, watch_response::Event,
};
use streamgate_runtime::CancellationToken;
use tokio_stream::wrappers::IntervalStream;
use tonic::{Request, Response, Status};

use crate::{
    Error,
    engine::{Bus, CacheStore, Invalidation},
};

/// Bytes of a key at the most: a path or a hash with a prefix.
const MAX_KEY_BYTES: usize = 512;
/// Bytes of a value at the most: larger things belong into the blob store.
const MAX_VALUE_BYTES: usize = 1024 * 1024;
/// Days a value may live: what lives longer is no cache.
const MAX_TTL_MS: u64 = 30 * 24 * 60 * 60 * 1000;
/// Tags of a value at the most.
const MAX_TAGS: usize = 16;
/// Bytes of a tag at the most.
const MAX_TAG_BYTES: usize = 128;

/// Watchers at the most: every instance of every service, several times over.
const MAX_WATCHERS: usize = 1_000;
/// How often a watcher hears that its line is alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    store: Arc<dyn CacheStore>,
    stop: CancellationToken,
}

impl Handler {
    /// Answers from `store`. Watchers are let go at `stop`: they would hold the process up.
    #[must_use]
    pub fn new(store: Arc<dyn CacheStore>, stop: CancellationToken) -> Self {
        Self { store, stop }
    }
}

#[tonic::async_trait]
impl CacheService for Handler {
    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let key = request.into_inner().key;
        refuse(length("key", &key, MAX_KEY_BYTES).into_iter().collect())?;
        let found = self.store.get(&key).await?.ok_or(Error::Absent)?;
        let ttl_ms = found.ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        Ok(Response::new(pb::GetResponse { value: found.value, ttl_ms }))
    }

    async fn set(&self, request: Request<pb::SetRequest>) -> Result<Response<pb::SetResponse>, Status> {
        let request = request.into_inner();
        refuse(violations(&request))?;
        let ttl = (request.ttl_ms != 0).then(|| Duration::from_millis(request.ttl_ms));
        self.store.set(&request.key, request.value, ttl, &request.tags).await?;
        Ok(Response::new(pb::SetResponse {}))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        let key = request.into_inner().key;
        refuse(length("key", &key, MAX_KEY_BYTES).into_iter().collect())?;
        Ok(Response::new(pb::DeleteResponse { existed: self.store.delete(&key).await? }))
    }

    async fn clear(&self, _: Request<pb::ClearRequest>) -> Result<Response<pb::ClearResponse>, Status> {
        let removed = self.store.clear().await?;
        tracing::info!(removed, "cache cleared");
        Ok(Response::new(pb::ClearResponse { removed }))
    }

    async fn invalidate(&self, request: Request<pb::InvalidateRequest>) -> Result<Response<pb::InvalidateResponse>, Status> {
        let removed = match request.into_inner().target {
            Some(Target::Tag(tag)) => {
                refuse(length("tag", &tag, MAX_TAG_BYTES).into_iter().collect())?;
                self.store.invalidate_tag(&tag).await?
            }
            Some(Target::Prefix(prefix)) => {
                refuse(length("prefix", &prefix, MAX_KEY_BYTES).into_iter().collect())?;
                self.store.invalidate_prefix(&prefix).await?
            }
            None => return Err(Failure::invalid_field("tag", "give a tag or a prefix; to remove everything, clear").into()),
        };
        Ok(Response::new(pb::InvalidateResponse { removed }))
    }

    async fn get_stats(&self, _: Request<pb::GetStatsRequest>) -> Result<Response<pb::GetStatsResponse>, Status> {
        let stats = self.store.stats().await?;
        Ok(Response::new(pb::GetStatsResponse {
            entries: stats.entries,
            size_bytes: stats.size_bytes,
            capacity_bytes: stats.capacity_bytes,
            hits: stats.hits,
            misses: stats.misses,
            sets: stats.sets,
            evictions: stats.evictions,
            engine: stats.engine.to_owned(),
        }))
    }

    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let bus = self.store.bus();
        if bus.watchers() >= MAX_WATCHERS {
            return Err(Error::TooManyWatchers(MAX_WATCHERS).into());
        }
        Ok(Response::new(news(bus).take_until(self.stop.clone().cancelled_owned()).boxed()))
    }
}

/// News as they come, and a sign of life every second for as long as none can be missed.
fn news(bus: &Bus) -> BoxStream<'static, Result<pb::WatchResponse, Status>> {
    let heard = bus.watch().map(|invalidation| match invalidation {
        Invalidation::Key(key) => Event::Key(key),
        Invalidation::Tag(tag) => Event::Tag(tag),
        Invalidation::Prefix(prefix) => Event::Prefix(prefix),
        Invalidation::Everything => Event::Everything(pb::Everything {}),
    });
    let bus = bus.clone();
    let alive = IntervalStream::new(tokio::time::interval(HEARTBEAT))
        .filter_map(move |_| std::future::ready(bus.is_connected().then_some(Event::Alive(pb::Alive {}))));
    futures::stream::select(heard, alive).map(|event| Ok(pb::WatchResponse { event: Some(event) })).boxed()
}

fn violations(request: &pb::SetRequest) -> Vec<FieldViolation> {
    let mut found: Vec<FieldViolation> = length("key", &request.key, MAX_KEY_BYTES).into_iter().collect();
    if request.value.len() > MAX_VALUE_BYTES {
        found.push(FieldViolation::new("value", format!("must be at most {MAX_VALUE_BYTES} bytes")));
    }
    if request.ttl_ms > MAX_TTL_MS {
        found.push(FieldViolation::new("ttl_ms", format!("must be at most {MAX_TTL_MS}")));
    }
    if request.tags.len() > MAX_TAGS {
        found.push(FieldViolation::new("tags", format!("must be at most {MAX_TAGS}")));
    }
    let tags = request.tags.iter().take(MAX_TAGS).enumerate();
    found.extend(tags.filter_map(|(place, tag)| length(&format!("tags[{place}]"), tag, MAX_TAG_BYTES)));
    found
}

fn length(field: &str, text: &str, max: usize) -> Option<FieldViolation> {
    let is_fine = (1..=max).contains(&text.len());
    (!is_fine).then(|| FieldViolation::new(field, format!("must be 1 to {max} bytes")))
}

fn refuse(fields: Vec<FieldViolation>) -> Result<(), Failure> {
    if fields.is_empty() { Ok(()) } else { Err(Failure::invalid(fields)) }
}
