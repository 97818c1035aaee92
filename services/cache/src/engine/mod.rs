//! The behaviour: one contract, two engines, and the news of what stops being true.

mod bus;
mod clock;
mod index;
mod memory;
mod redis;
mod scripts;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

pub use bus::{Bus, Invalidation, News};
pub use clock::{Clock, SteadyClock};
pub use memory::{ENTRY_OVERHEAD_BYTES, MemoryCache};
pub use redis::RedisCache;

use crate::Error;

/// A value that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value.
    pub value: Bytes,
    /// Time left; absent when it does not run out.
    pub ttl: Option<Duration>,
}

/// Counters since start, and what is held now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Values held.
    pub entries: u64,
    /// Bytes held.
    pub size_bytes: u64,
    /// Bytes held at the most; 0 without a bound.
    pub capacity_bytes: u64,
    /// Reads that found a value.
    pub hits: u64,
    /// Reads that found none.
    pub misses: u64,
    /// Values stored.
    pub sets: u64,
    /// Values removed to make room.
    pub evictions: u64,
    /// Which engine says so.
    pub engine: &'static str,
}

/// Keeps values until their time is over, room is needed, or they are invalidated. Every change is
/// told to who watches the engine's [`Bus`], also when there was nothing to remove: near caches hold
/// what was never here. Each sentence has a case in `tests/engines.rs`, which runs for both engines.
#[async_trait]
pub trait CacheStore: fmt::Debug + Send + Sync + 'static {
    /// The value of a key, unless its time is over.
    async fn get(&self, key: &str) -> Result<Option<Found>, Error>;
    /// Stores a value in place of any other, for `ttl` or until room is needed.
    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>, tags: &[String]) -> Result<(), Error>;
    /// Removes a key; false when it was not there.
    async fn delete(&self, key: &str) -> Result<bool, Error>;
    /// Removes everything; says how many values.
    async fn clear(&self) -> Result<u64, Error>;
    /// Removes what has a tag; says how many values.
    async fn invalidate_tag(&self, tag: &str) -> Result<u64, Error>;
    /// Removes what has a key that begins so; says how many values.
    async fn invalidate_prefix(&self, prefix: &str) -> Result<u64, Error>;
    /// Counters since start, and what is held now.
    async fn stats(&self) -> Result<Stats, Error>;
    /// Where the engine tells what stops being true.
    fn bus(&self) -> &Bus;
}
