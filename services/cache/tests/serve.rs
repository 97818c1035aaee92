//! The service as it is built and served, over a real port.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_cache::{App, Config};
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::cache::v1::{self as pb, cache_service_client::CacheServiceClient};
use streamgate_runtime::{App as _, testing};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_answers_its_callers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let boot = testing::boot(ServiceName::Cache, Config::default(), folder.path()).unwrap();
    let (metrics, stop) = (boot.metrics.clone(), boot.stop.clone());
    let running = testing::serve(ServiceName::Cache, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    mesh.cache().get_stats(pb::GetStatsRequest {}).await.unwrap();
    let refused = CacheServiceClient::new(mesh.channel(ServiceName::Cache)).get_stats(pb::GetStatsRequest {}).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "nobody may ask that without credentials");
    assert!(metrics.encode().unwrap().contains("# HELP streamgate_cache_hits "), "its metrics are registered");
    stop.cancel();
    running.stop().await;
}
