//! Decode, call, encode.

use std::time::Duration;

use streamgate_core::{Failure, FieldViolation};
use streamgate_proto::streamgate::cache::v1::{self as pb, cache_service_server::CacheService, invalidate_request::Target};
use tonic::{Request, Response, Status};

use crate::{Error, engine::Store};

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

/// The service as gRPC sees it.
#[derive(Debug, Clone)]
pub struct Handler {
    store: Store,
}

impl Handler {
    /// Answers from `store`.
    #[must_use]
    pub const fn new(store: Store) -> Self {
        Self { store }
    }
}

#[tonic::async_trait]
impl CacheService for Handler {
    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let key = request.into_inner().key;
        refuse(length("key", &key, MAX_KEY_BYTES).into_iter().collect())?;
        let found = self.store.get(&key).ok_or(Error::Absent)?;
        let ttl_ms = found.ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        Ok(Response::new(pb::GetResponse { value: found.value, ttl_ms }))
    }

    async fn set(&self, request: Request<pb::SetRequest>) -> Result<Response<pb::SetResponse>, Status> {
        let request = request.into_inner();
        refuse(violations(&request))?;
        let ttl = (request.ttl_ms != 0).then(|| Duration::from_millis(request.ttl_ms));
        self.store.set(&request.key, &request.value, ttl, &request.tags);
        Ok(Response::new(pb::SetResponse {}))
    }

    async fn delete(&self, request: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        let key = request.into_inner().key;
        refuse(length("key", &key, MAX_KEY_BYTES).into_iter().collect())?;
        Ok(Response::new(pb::DeleteResponse { existed: self.store.delete(&key) }))
    }

    async fn clear(&self, _: Request<pb::ClearRequest>) -> Result<Response<pb::ClearResponse>, Status> {
        let removed = self.store.clear();
        tracing::info!(removed, "cache cleared");
        Ok(Response::new(pb::ClearResponse { removed }))
    }

    async fn invalidate(&self, request: Request<pb::InvalidateRequest>) -> Result<Response<pb::InvalidateResponse>, Status> {
        let removed = match request.into_inner().target {
            Some(Target::Tag(tag)) => {
                refuse(length("tag", &tag, MAX_TAG_BYTES).into_iter().collect())?;
                self.store.invalidate_tag(&tag)
            }
            Some(Target::Prefix(prefix)) => {
                refuse(length("prefix", &prefix, MAX_KEY_BYTES).into_iter().collect())?;
                self.store.invalidate_prefix(&prefix)
            }
            None => return Err(Failure::invalid_field("tag", "give a tag or a prefix; to remove everything, clear").into()),
        };
        Ok(Response::new(pb::InvalidateResponse { removed }))
    }

    async fn get_stats(&self, _: Request<pb::GetStatsRequest>) -> Result<Response<pb::GetStatsResponse>, Status> {
        let stats = self.store.stats();
        Ok(Response::new(pb::GetStatsResponse {
            entries: stats.entries,
            size_bytes: stats.size_bytes,
            capacity_bytes: stats.capacity_bytes,
            hits: stats.hits,
            misses: stats.misses,
            sets: stats.sets,
            evictions: stats.evictions,
        }))
    }
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
