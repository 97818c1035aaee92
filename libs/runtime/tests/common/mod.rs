//! Two small services to start, stop and call.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use streamgate_core::{Account, Caller, Failure, Identity, Role, ServiceName, ids::AccountId};
use streamgate_proto::streamgate::{
    cache::v1::{
        self as pb,
        cache_service_server::{CacheService, CacheServiceServer},
    },
    events::v1::{
        DeliverRequest, DeliverResponse,
        event_service_server::{EventService, EventServiceServer},
    },
    gateway::v1::{
        GetHealthRequest, GetHealthResponse, GetVersionRequest, GetVersionResponse,
        gateway_service_server::{GatewayService, GatewayServiceServer},
    },
};
use streamgate_runtime::{App, Authenticator, Boot, BoxError, Service, ServiceConfig};
use tokio::sync::mpsc::UnboundedSender;
use tonic::{Request, Response, Status};

/// The edge: says who calls, in its version.
#[derive(Debug)]
pub struct Edge;

/// Receives events; only other services may send them. Panics when told to.
#[derive(Debug)]
pub struct Backend;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EdgeConfig {
    pub greeting: String,
    pub fail: bool,
    pub hang: bool,
    pub doomed: bool,
}

impl ServiceConfig for EdgeConfig {}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BackendConfig {
    /// Waits for ever for something that it needs.
    pub wait: bool,
    pub hang: bool,
}

impl ServiceConfig for BackendConfig {}

#[async_trait]
impl GatewayService for Edge {
    async fn get_version(&self, request: Request<GetVersionRequest>) -> Result<Response<GetVersionResponse>, Status> {
        let caller = Caller::of(&request)?;
        let version = format!("{:?} {}", caller.identity, caller.request_id);
        Ok(Response::new(GetVersionResponse { version, ..GetVersionResponse::default() }))
    }

    async fn get_health(&self, _: Request<GetHealthRequest>) -> Result<Response<GetHealthResponse>, Status> {
        panic!("a bug in a handler")
    }
}

#[async_trait]
impl EventService for Backend {
    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>, Status> {
        Caller::of(&request)?;
        Ok(Response::new(DeliverResponse {}))
    }
}

/// Everything here needs an operator.
#[async_trait]
impl CacheService for Backend {
    async fn get(&self, _: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        Ok(Response::new(pb::GetResponse::default()))
    }

    async fn set(&self, _: Request<pb::SetRequest>) -> Result<Response<pb::SetResponse>, Status> {
        Ok(Response::new(pb::SetResponse {}))
    }

    async fn delete(&self, _: Request<pb::DeleteRequest>) -> Result<Response<pb::DeleteResponse>, Status> {
        Ok(Response::new(pb::DeleteResponse::default()))
    }

    async fn clear(&self, _: Request<pb::ClearRequest>) -> Result<Response<pb::ClearResponse>, Status> {
        Ok(Response::new(pb::ClearResponse::default()))
    }

    async fn invalidate(&self, _: Request<pb::InvalidateRequest>) -> Result<Response<pb::InvalidateResponse>, Status> {
        Ok(Response::new(pb::InvalidateResponse::default()))
    }

    async fn get_stats(&self, _: Request<pb::GetStatsRequest>) -> Result<Response<pb::GetStatsResponse>, Status> {
        Ok(Response::new(pb::GetStatsResponse::default()))
    }

    type WatchStream = futures::stream::Empty<Result<pb::WatchResponse, Status>>;

    async fn watch(&self, _: Request<pb::WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(futures::stream::empty()))
    }
}

#[async_trait]
impl App for Edge {
    const NAME: ServiceName = ServiceName::ApiGateway;
    type Config = EdgeConfig;

    async fn build(boot: Boot<EdgeConfig>) -> Result<Service, BoxError> {
        if boot.config.fail {
            return Err("told to fail".into());
        }
        let greeting = boot.config.greeting.clone();
        let routes = axum::Router::new()
            .route("/greet", axum::routing::get(move || async move { greeting }))
            .route("/endless", axum::routing::get(async || axum::body::Body::from_stream(endless())));
        let service = Service::new().grpc(GatewayServiceServer::new(Self)).http(routes);
        let service = if boot.config.doomed { doomed(service) } else { service };
        Ok(if boot.config.hang { hanging(service) } else { service })
    }
}

#[async_trait]
impl App for Backend {
    const NAME: ServiceName = ServiceName::Cache;
    type Config = BackendConfig;

    async fn build(boot: Boot<BackendConfig>) -> Result<Service, BoxError> {
        if boot.config.wait {
            std::future::pending::<()>().await;
        }
        Ok(if boot.config.hang { hanging(backend()) } else { backend() })
    }
}

/// The backend without a host.
pub fn backend() -> Service {
    Service::new().grpc(EventServiceServer::new(Backend)).grpc(CacheServiceServer::new(Backend))
}

/// A body that begins and never ends.
fn endless() -> impl futures::Stream<Item = Result<bytes::Bytes, std::convert::Infallible>> {
    futures::stream::pending()
}

/// A service with a task that fails at once.
pub fn doomed(service: Service) -> Service {
    service.task("doomed", async { Err::<(), _>("broken for good") })
}

/// A service whose task and last step never end.
fn hanging(service: Service) -> Service {
    service.task("hanging", std::future::pending::<()>()).on_stop(std::future::pending())
}

/// The edge without a host.
pub fn edge() -> Service {
    Service::new().grpc(GatewayServiceServer::new(Edge))
}

/// Believes whatever role the caller claims in its authorization header.
#[derive(Debug)]
pub struct Credulous;

#[async_trait]
impl Authenticator for Credulous {
    async fn authenticate(&self, headers: &http::HeaderMap) -> Result<Identity, Failure> {
        let Some(role) = headers.get("authorization").and_then(|value| value.to_str().ok()) else {
            return Ok(Identity::Anonymous);
        };
        if role == "service" {
            return Ok(Identity::Service { name: ServiceName::Upload, on_behalf_of: None });
        }
        let role: Role = role.parse().map_err(|_| Failure::invalid_field("role", "is unknown"))?;
        Ok(Identity::Account(Account { id: AccountId::new(), role, wallet: None }))
    }
}

/// The backend, believing everybody.
pub fn credulous_backend() -> Service {
    backend().authenticator(Arc::new(Credulous))
}

/// Tells `said` when it stops, and what stopped before it.
pub fn with_tasks(service: Service, stop: tokio_util::sync::CancellationToken, said: &UnboundedSender<&'static str>) -> Service {
    let (task, last) = (said.clone(), said.clone());
    service
        .task("worker", async move {
            stop.cancelled().await;
            let _heard = task.send("task");
        })
        .on_stop(async move {
            let _heard = last.send("last");
        })
}
