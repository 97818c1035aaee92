//! Values in Redis, shared by every instance of this service.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use deadpool_redis::{
    Connection, Manager, Pool, PoolError, Runtime, Timeouts,
    redis::{
        AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
        cmd,
    },
};
use futures::StreamExt as _;

use super::{
    Bus, CacheStore, Found, Invalidation, Stats,
    scripts::{ALL, CHANNEL, Scripts, TAGS, VALUES},
};
use streamgate_runtime::RedisConfig;

use crate::{Error, Metrics};

/// Connections at the most.
const CONNECTIONS: usize = 16;
/// How long each step may take: waiting for a connection, making one, and an answer. A caller of a
/// cache would rather ask the origin than wait.
const WAIT: Duration = Duration::from_millis(500);
/// Keys that one round of a scan looks at.
const SCAN_COUNT: usize = 1_000;
/// Waits before the news are listened to again.
const RELISTEN: Duration = Duration::from_millis(250);
/// How often the listening connection is asked whether it still lives.
const LISTEN_CHECK: Duration = Duration::from_secs(1);

/// The cache in Redis. Cheap to clone.
#[derive(Clone)]
pub struct RedisCache {
    pool: Pool,
    client: Client,
    scripts: Arc<Scripts>,
    metrics: Metrics,
    bus: Bus,
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache").field("bus", &self.bus).finish_non_exhaustive()
    }
}

impl RedisCache {
    /// A cache in the Redis at `target`. Nothing is connected yet.
    ///
    /// # Errors
    /// A target that is no address.
    pub fn new(target: &RedisConfig, metrics: Metrics) -> Result<Self, Error> {
        let info = connection_info(target).map_err(broken)?;
        let pool = pool_of(info.clone())?;
        let client = Client::open(info).map_err(broken)?;
        Ok(Self { pool, client, scripts: Arc::new(Scripts::new()), metrics, bus: Bus::new(false) })
    }

    /// Listens to the news of the other instances for as long as it is polled.
    pub async fn listen(self) {
        loop {
            if let Err(error) = self.listen_once().await {
                tracing::debug!(error = %error, "the news of the cache are not heard");
            }
            if self.bus.is_connected() {
                tracing::warn!("lost the connection to redis; trying again");
            }
            self.bus.disconnect();
            tokio::time::sleep(RELISTEN).await;
        }
    }

    async fn listen_once(&self) -> Result<(), RedisError> {
        let (mut sink, mut news) = tokio::time::timeout(WAIT, self.client.get_async_pubsub()).await.map_err(late)??.split();
        tokio::time::timeout(WAIT, sink.subscribe(CHANNEL)).await.map_err(late)??;
        tracing::info!("connected to redis");
        self.bus.reconnect();
        loop {
            match tokio::time::timeout(LISTEN_CHECK, news.next()).await {
                Ok(Some(message)) => self.bus.tell(decode(message.get_payload_bytes())),
                Ok(None) => return Ok(()),
                // A connection that is quiet is asked whether it is there; one that was cut off without a word is not.
                Err(_) => tokio::time::timeout(WAIT, sink.subscribe(CHANNEL)).await.map_err(late)??,
            }
        }
    }

    /// Whether Redis answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        self.run(async |connection| cmd("PING").query_async::<()>(connection).await).await
    }

    /// Runs commands on a connection of the pool, within their time.
    async fn run<T>(&self, work: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>) -> Result<T, Error> {
        let mut connection = self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => broken(error),
            other => Error::Unreachable(other.to_string()),
        })?;
        match work(&mut connection).await {
            Ok(done) => Ok(done),
            Err(error) => {
                if error.is_unrecoverable_error() || error.is_timeout() {
                    // It would fail for the next one too.
                    drop(Connection::take(connection));
                }
                Err(broken(error))
            }
        }
    }

    /// Tells watchers here at once, and those of other instances through Redis.
    async fn tell(&self, invalidation: Invalidation) -> Result<(), Error> {
        let message = encode(&invalidation);
        self.bus.tell(invalidation);
        self.run(async move |connection| cmd("PUBLISH").arg(CHANNEL).arg(message).query_async::<()>(connection).await).await
    }

    /// Every key that begins with `prefix`, in batches, each handed to `each`.
    async fn scan<F>(&self, prefix: &str, mut each: impl FnMut(Vec<Vec<u8>>) -> F) -> Result<(), Error>
    where
        F: Future<Output = Result<(), Error>>,
    {
        let pattern = format!("{}*", escape_glob(prefix));
        let mut cursor = "0".to_owned();
        loop {
            let (next, keys) = self
                .run(async |connection| {
                    let mut scan = cmd("SCAN");
                    scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(SCAN_COUNT);
                    scan.query_async::<(String, Vec<Vec<u8>>)>(connection).await
                })
                .await?;
            if !keys.is_empty() {
                each(keys).await?;
            }
            if next == "0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Removes every key that begins with `prefix`; says how many values were among them.
    async fn unlink_all(&self, prefix: &str) -> Result<u64, Error> {
        let removed = std::sync::atomic::AtomicU64::new(0);
        self.scan(prefix, |keys| {
            let removed = &removed;
            async move {
                let (values, others): (Vec<_>, Vec<_>) = keys.into_iter().partition(|key| key.starts_with(VALUES.as_bytes()));
                for (keys, counts) in [(values, true), (others, false)] {
                    if !keys.is_empty() {
                        let gone = self.run(async |redis| cmd("UNLINK").arg(&keys).query_async::<u64>(redis).await).await?;
                        removed.fetch_add(if counts { gone } else { 0 }, std::sync::atomic::Ordering::Relaxed);
                    }
                }
                Ok(())
            }
        })
        .await?;
        Ok(removed.into_inner())
    }
}

#[async_trait]
impl CacheStore for RedisCache {
    async fn get(&self, key: &str) -> Result<Option<Found>, Error> {
        let mut call = self.scripts.get.key(format!("{VALUES}{key}"));
        call.arg(TAGS);
        let found: Option<(Vec<u8>, i64)> = self.run(async |redis| call.invoke_async(redis).await).await?;
        if found.is_some() { &self.metrics.hits } else { &self.metrics.misses }.inc();
        Ok(found.map(|(value, left)| Found { value: value.into(), ttl: u64::try_from(left).ok().map(Duration::from_millis) }))
    }

    async fn set(&self, key: &str, value: Bytes, ttl: Option<Duration>, tags: &[String]) -> Result<(), Error> {
        let ttl_ms = ttl.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX).max(1));
        let mut call = self.scripts.set.key(format!("{VALUES}{key}"));
        // A mark that is never used again, not even after the tag was evicted.
        let mark = format!("{:032x}", rand::random::<u128>());
        call.arg(TAGS).arg(key).arg(value.as_ref()).arg(ttl_ms).arg(mark).arg(VALUES).arg(tags);
        self.run(async |redis| call.invoke_async::<()>(redis).await).await?;
        self.metrics.sets.inc();
        self.tell(Invalidation::Key(key.to_owned())).await
    }

    async fn delete(&self, key: &str) -> Result<bool, Error> {
        let mut call = self.scripts.delete.key(format!("{VALUES}{key}"));
        call.arg(TAGS).arg(key);
        let removed = self.run(async |redis| call.invoke_async::<u64>(redis).await).await;
        // Watchers hear of it also when Redis does not answer: what they hold is of the origin.
        self.tell(Invalidation::Key(key.to_owned())).await?;
        Ok(removed? > 0)
    }

    async fn clear(&self) -> Result<u64, Error> {
        let removed = self.unlink_all(ALL).await;
        self.tell(Invalidation::Everything).await?;
        removed
    }

    async fn invalidate_tag(&self, tag: &str) -> Result<u64, Error> {
        let mut call = self.scripts.drop_tag.key(format!("{TAGS}{tag}"));
        call.arg(TAGS).arg(tag).arg(VALUES);
        let removed = self.run(async |redis| call.invoke_async::<u64>(redis).await).await;
        self.tell(Invalidation::Tag(tag.to_owned())).await?;
        removed
    }

    async fn invalidate_prefix(&self, prefix: &str) -> Result<u64, Error> {
        let removed = self.unlink_all(&format!("{VALUES}{prefix}")).await;
        self.tell(Invalidation::Prefix(prefix.to_owned())).await?;
        removed
    }

    async fn stats(&self) -> Result<Stats, Error> {
        let entries = std::sync::atomic::AtomicU64::new(0);
        self.scan(VALUES, |keys| {
            entries.fetch_add(keys.len() as u64, std::sync::atomic::Ordering::Relaxed);
            std::future::ready(Ok(()))
        })
        .await?;
        let info: String = self.run(async |redis| cmd("INFO").query_async(redis).await).await?;
        Ok(Stats {
            entries: entries.into_inner(),
            size_bytes: number_of(&info, "used_memory"),
            capacity_bytes: number_of(&info, "maxmemory"),
            hits: self.metrics.hits.get(),
            misses: self.metrics.misses.get(),
            sets: self.metrics.sets.get(),
            evictions: number_of(&info, "evicted_keys"),
            engine: "redis",
        })
    }

    fn bus(&self) -> &Bus {
        &self.bus
    }
}

fn connection_info(target: &RedisConfig) -> Result<ConnectionInfo, RedisError> {
    let mut login = RedisConnectionInfo::default().set_db(target.database);
    if !target.username.is_empty() {
        login = login.set_username(&target.username);
    }
    if !target.password.is_empty() {
        login = login.set_password(&target.password);
    }
    Ok(ConnectionAddr::Tcp(target.host.clone(), target.port).into_connection_info()?.set_redis_settings(login))
}

fn pool_of(info: ConnectionInfo) -> Result<Pool, Error> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(WAIT)).set_connection_timeout(Some(WAIT));
    let manager = Manager::new_with_config(info, config).map_err(broken)?;
    Pool::builder(manager)
        .max_size(CONNECTIONS)
        .runtime(Runtime::Tokio1)
        .timeouts(Timeouts { wait: Some(WAIT), create: Some(WAIT), recycle: Some(WAIT) })
        .build()
        .map_err(|error| Error::Unreachable(error.to_string()))
}

fn broken(error: RedisError) -> Error {
    Error::Redis(error)
}

fn late(_: tokio::time::error::Elapsed) -> RedisError {
    RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut))
}

/// One letter for the kind, then the name.
fn encode(invalidation: &Invalidation) -> String {
    match invalidation {
        Invalidation::Key(key) => format!("k{key}"),
        Invalidation::Tag(tag) => format!("t{tag}"),
        Invalidation::Prefix(prefix) => format!("p{prefix}"),
        Invalidation::Everything => "*".to_owned(),
    }
}

/// What can't be read may mean anything.
fn decode(message: &[u8]) -> Invalidation {
    let Some((kind, name)) = std::str::from_utf8(message).ok().and_then(|text| text.split_at_checked(1)) else {
        return Invalidation::Everything;
    };
    match kind {
        "k" => Invalidation::Key(name.to_owned()),
        "t" => Invalidation::Tag(name.to_owned()),
        "p" => Invalidation::Prefix(name.to_owned()),
        _ => Invalidation::Everything,
    }
}

/// A text that matches itself and nothing else in Redis's patterns.
fn escape_glob(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

fn number_of(info: &str, name: &str) -> u64 {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_read_back_as_they_were_sent_and_strange_ones_mean_everything() {
        let sent = [
            Invalidation::Key("a:1".into()),
            Invalidation::Tag("t".into()),
            Invalidation::Prefix("pp/".into()),
            Invalidation::Everything,
        ];
        for invalidation in sent {
            assert_eq!(decode(encode(&invalidation).as_bytes()), invalidation);
        }
        for strange in [&b""[..], b"?", b"\xff", "é".as_bytes()] {
            assert_eq!(decode(strange), Invalidation::Everything);
        }
    }

    #[test]
    fn a_prefix_is_never_a_pattern() {
        assert_eq!(escape_glob(r"a*b?[c]\"), r"a\*b\?\[c\]\\");
    }

    #[test]
    fn numbers_are_read_from_what_redis_says_of_itself() {
        let info = "# Memory\r\nused_memory:1024\r\nused_memory_human:1K\r\nmaxmemory:0\r\n";
        assert_eq!((number_of(info, "used_memory"), number_of(info, "maxmemory"), number_of(info, "other")), (1024, 0, 0));
    }
}
