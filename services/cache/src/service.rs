//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::cache::v1::cache_service_server::CacheServiceServer;
use streamgate_runtime::{Boot, BoxError, Service};

use crate::{
    Config, Handler, Metrics,
    engine::{SteadyClock, Store},
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

        // 2. The store, empty, and its RPCs.
        let store = Store::new(boot.config.capacity_bytes, Arc::new(SteadyClock::start()), metrics);
        Ok(Service::new().grpc(CacheServiceServer::new(Handler::new(store))))
    }
}
