//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::{ServiceName, time::now_ms};
use streamgate_proto::streamgate::monitor::v1::monitor_service_server::MonitorServiceServer;
use streamgate_runtime::{Boot, BoxError, OnFailure, Service};

use crate::{
    Config, Handler, Metrics,
    engine::{MeshProbe, Poller, Seen},
};

/// The monitor service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Monitor;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. What was seen, and who looks.
        let seen = Seen::new(now_ms());
        let probe = Arc::new(MeshProbe::new(boot.mesh)?);
        let poller = Poller::new(probe, seen.clone(), metrics, boot.config);

        // 3. RPCs and the two rounds. Neither fails: a service that can't be asked is an answer too.
        Ok(Service::new()
            .grpc(MonitorServiceServer::new(Handler::new(seen)))
            .task("health", OnFailure::StopProcess, poller.clone().watch_health(boot.stop.clone()))
            .task("metrics", OnFailure::StopProcess, poller.watch_metrics(boot.stop)))
    }
}
