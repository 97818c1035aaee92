//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::cache::v1::cache_service_server::CacheServiceServer;
use streamgate_runtime::{Boot, BoxError, CancellationToken, Service};

use crate::{
    Config, Error, Handler, Metrics,
    engine::{CacheStore, MemoryCache, RedisCache, SteadyClock},
};

/// The cache service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Cache;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. Without Redis, an empty store in memory.
        if !boot.common.redis.is_set() {
            let store = MemoryCache::new(boot.config.capacity_bytes, Arc::new(SteadyClock::start()), metrics);
            return Ok(serve(Arc::new(store), boot.stop));
        }

        // 3. With it, what all instances share. It may be away: calls are refused until it is back.
        let store = RedisCache::new(&boot.common.redis, metrics)?;
        let (listener, checked, stop) = (store.clone(), store.clone(), boot.stop.clone());
        Ok(serve(Arc::new(store), boot.stop)
            .restarting_task("news", move || {
                let (listener, stop) = (listener.clone(), stop.clone());
                async move {
                    stop.run_until_cancelled(listener.listen()).await;
                    Ok::<(), Error>(())
                }
            })
            .ready_check("redis", move || {
                let store = checked.clone();
                async move { store.ping().await.map_err(|error| error.to_string()) }
            }))
    }
}

fn serve(store: Arc<dyn CacheStore>, stop: CancellationToken) -> Service {
    Service::new().grpc(CacheServiceServer::new(Handler::new(store, stop)))
}
