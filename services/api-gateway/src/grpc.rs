//! What the edge can say of itself.

use std::time::Duration;

use futures::future;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::gateway::v1::{
    GetHealthRequest, GetHealthResponse, GetVersionRequest, GetVersionResponse, gateway_service_server::GatewayService,
};
use tonic::{Request, Response, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::backends::Backends;

/// How long a service may take to say that it is well.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);

/// The edge's own RPCs.
#[derive(Debug, Clone)]
pub struct Gateway {
    backends: Backends,
}

impl Gateway {
    /// Asks `backends` for their health.
    #[must_use]
    pub const fn new(backends: Backends) -> Self {
        Self { backends }
    }

    async fn answers(&self, name: ServiceName) -> bool {
        let mut client = HealthClient::new(self.backends.channel(name));
        let check = client.check(HealthCheckRequest { service: String::new() });
        match tokio::time::timeout(HEALTH_TIMEOUT, check).await {
            Ok(Ok(answer)) => answer.get_ref().status() == ServingStatus::Serving,
            Ok(Err(_)) | Err(_) => false,
        }
    }
}

#[async_trait::async_trait]
impl GatewayService for Gateway {
    async fn get_version(&self, _: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        Ok(Response::new(GetVersionResponse { version: env!("CARGO_PKG_VERSION").into(), name: "streamgate".into() }))
    }

    async fn get_health(&self, _: Request<GetHealthRequest>) -> Result<Response<GetHealthResponse>, Status> {
        let others = ServiceName::ALL.into_iter().filter(|name| *name != ServiceName::ApiGateway);
        let checks = others.map(|name| async move { (!self.answers(name).await).then(|| name.to_string()) });
        let unavailable: Vec<String> = future::join_all(checks).await.into_iter().flatten().collect();
        let status = if unavailable.is_empty() { "ok" } else { "degraded" };
        Ok(Response::new(GetHealthResponse { status: status.into(), unavailable }))
    }
}
