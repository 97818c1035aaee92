//! The service as it is built and served, over a real port.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_core::ServiceName;
use streamgate_proto::streamgate::worker::v1::{self as pb, worker_service_client::WorkerServiceClient};
use streamgate_runtime::{App as _, testing};
use streamgate_worker::{App, Config};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_answers_its_callers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let boot = testing::boot(ServiceName::Worker, Config::default(), folder.path()).unwrap();
    let (metrics, stop) = (boot.metrics.clone(), boot.stop.clone());
    let running = testing::serve(ServiceName::Worker, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    let jobs = mesh.worker().list_jobs(pb::ListJobsRequest::default()).await.unwrap().into_inner().jobs;
    assert!(
        jobs.iter().all(|job| ["sweep_uploads", "purge_titles", "verify_objects"].contains(&job.r#type.as_str())),
        "only the clock has queued anything"
    );
    let refused =
        WorkerServiceClient::new(mesh.channel(ServiceName::Worker)).list_jobs(pb::ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "nobody may ask that without credentials");
    assert!(metrics.encode().unwrap().contains("# HELP streamgate_worker_jobs_running "), "its metrics are registered");
    stop.cancel();
    running.stop().await;
}
