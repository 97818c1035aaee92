//! Builds the edge.

use streamgate_core::ServiceName;
use streamgate_proto::streamgate::gateway::v1::gateway_service_server::GatewayServiceServer;
use streamgate_runtime::{Boot, BoxError, Service};
use tonic::service::Routes;

use crate::{backends::Backends, config::Config, ending::Ending, grpc::Gateway, metrics::EdgeMetrics, router::router};

/// The api-gateway.
#[derive(Debug)]
pub struct App;

#[async_trait::async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::ApiGateway;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        let metrics = EdgeMetrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));
        // The edge's own RPCs ask the others for their health; REST reaches them without the network.
        let others = Backends::over(&boot.mesh);
        let gateway = Gateway::new(others.clone());
        let own = Routes::new(GatewayServiceServer::new(gateway.clone())).prepare();
        let backends = others.with(ServiceName::ApiGateway, own);
        let routes = router(&backends, &boot.config, &boot.common.public_url, &metrics, Ending::with(boot.stop))?;
        Ok(Service::new().grpc(GatewayServiceServer::new(gateway)).grpc_fallback(routes.clone()).http(routes))
    }
}
