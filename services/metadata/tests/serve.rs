//! The service as it is built and served, over a real port.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_core::ServiceName;
use streamgate_metadata::{App, Config};
use streamgate_proto::streamgate::metadata::v1::{self as pb, metadata_service_client::MetadataServiceClient};
use streamgate_runtime::{App as _, testing};
use tonic::Code;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_starts_answers_its_callers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let boot = testing::boot(ServiceName::Metadata, Config::default(), folder.path()).unwrap();
    let (metrics, stop) = (boot.metrics.clone(), boot.stop.clone());
    let running = testing::serve(ServiceName::Metadata, App::build(boot).await.unwrap()).await.unwrap();
    let mesh = running.mesh().clone();
    mesh.metadata().list_contents(pb::ListContentsRequest::default()).await.unwrap();
    let stranger = pb::GetPlaybackInfoRequest { playback_id: streamgate_core::ids::PlaybackId::new().into() };
    let open = MetadataServiceClient::new(mesh.channel(ServiceName::Metadata)).get_playback_info(stranger).await;
    assert_eq!(open.unwrap_err().code(), Code::NotFound, "public, and unknown");
    let refused = MetadataServiceClient::new(mesh.channel(ServiceName::Metadata))
        .list_contents(pb::ListContentsRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "nobody may ask that without credentials");
    assert!(metrics.encode().unwrap().contains("# HELP streamgate_metadata_searches "), "its metrics are registered");
    stop.cancel();
    running.stop().await;
}
