//! The service as it is built and served, over a real port.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_core::ServiceName;
use streamgate_monitor::{App, Config};
use streamgate_proto::streamgate::monitor::v1::{self as pb, monitor_service_client::MonitorServiceClient};
use streamgate_runtime::{App as _, testing};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_answers_its_callers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let boot = testing::boot(ServiceName::Monitor, Config::default(), folder.path()).unwrap();
    let (metrics, stop) = (boot.metrics.clone(), boot.stop.clone());
    let running = testing::serve(ServiceName::Monitor, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    let health = mesh.monitor().get_health(pb::GetHealthRequest {}).await.unwrap().into_inner();
    assert_eq!(health.services.len(), 9);
    let refused =
        MonitorServiceClient::new(mesh.channel(ServiceName::Monitor)).get_health(pb::GetHealthRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "nobody may ask that without credentials");
    assert!(metrics.encode().unwrap().contains("# HELP streamgate_up "), "its metrics are registered");
    stop.cancel();
    running.stop().await;
}
