//! Who gets through, over a real connection.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use common::{backend, credulous_backend, edge};
use streamgate_core::{Account, Caller, Identity, Role, ServiceName, ids::AccountId};
use streamgate_proto::streamgate::{
    cache::v1::{GetStatsRequest, cache_service_client::CacheServiceClient},
    events::v1::{DeliverRequest, event_service_client::EventServiceClient},
    gateway::v1::{GetHealthRequest, GetVersionRequest, gateway_service_client::GatewayServiceClient},
};
use streamgate_runtime::{Running, testing};
use tonic::{Code, Request, Status};

fn signed<T>(message: T, authorization: &str) -> Request<T> {
    let mut request = Request::new(message);
    if !authorization.is_empty() {
        request.metadata_mut().insert("authorization", authorization.parse().unwrap());
    }
    request
}

fn reason(status: &Status) -> String {
    streamgate_core::Failure::from(status).reason.into_owned()
}

async fn stats(running: &Running, authorization: &str) -> Result<(), Status> {
    let mut client = CacheServiceClient::new(running.mesh().channel(ServiceName::Cache));
    client.get_stats(signed(GetStatsRequest {}, authorization)).await.map(drop)
}

async fn deliver(running: &Running, authorization: &str) -> Result<(), Status> {
    let mut client = EventServiceClient::new(running.mesh().channel(ServiceName::Cache));
    client.deliver(signed(DeliverRequest::default(), authorization)).await.map(drop)
}

#[tokio::test]
async fn each_rpc_is_open_to_those_its_contract_names_and_to_nobody_else() {
    let running = testing::serve(ServiceName::Cache, credulous_backend()).await.unwrap();
    for (who, operators_only, internal_only) in [
        ("", Code::Unauthenticated, Code::Unauthenticated),
        ("viewer", Code::PermissionDenied, Code::PermissionDenied),
        ("creator", Code::PermissionDenied, Code::PermissionDenied),
        ("operator", Code::Ok, Code::PermissionDenied),
        ("service", Code::Ok, Code::Ok),
    ] {
        let code = |outcome: Result<(), Status>| outcome.map_or_else(|status| status.code(), |()| Code::Ok);
        assert_eq!(code(stats(&running, who).await), operators_only, "stats as {who:?}");
        assert_eq!(code(deliver(&running, who).await), internal_only, "deliver as {who:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn the_meshs_own_calls_prove_the_service_and_the_account_it_acts_for() {
    let running = testing::serve(ServiceName::Cache, backend()).await.unwrap();
    let mesh = running.mesh();
    mesh.events(ServiceName::Cache).deliver(DeliverRequest::default()).await.unwrap();
    mesh.cache().get_stats(GetStatsRequest {}).await.unwrap();

    let viewer = Account { id: AccountId::new(), role: Role::Viewer, wallet: None };
    for (identity, expected) in
        [(Identity::Account(viewer), Code::PermissionDenied), (Identity::Anonymous, Code::Unauthenticated)]
    {
        let caller = Caller { identity, request_id: "r1".into() };
        let refused = mesh.on_behalf_of(&caller).cache().get_stats(GetStatsRequest {}).await.unwrap_err();
        assert_eq!(refused.code(), expected);
    }
    running.stop().await;
}

#[tokio::test]
async fn bad_credentials_are_refused_and_never_anonymous_and_unknown_ones_say_so() {
    let running = testing::serve(ServiceName::ApiGateway, edge()).await.unwrap();
    let call = async |authorization: &str| {
        let mut client = GatewayServiceClient::new(running.mesh().channel(ServiceName::ApiGateway));
        client.get_version(signed(GetVersionRequest {}, authorization)).await
    };
    assert!(call("").await.unwrap().into_inner().version.starts_with("Anonymous"));
    for bad in ["Basic dXNlcjpwYXNz", "Bearer", "Bearer ", "Bearer x.y.z", "nonsense"] {
        let status = call(bad).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "token_invalid"), "{bad}");
    }
    // Auth is away here, so an API key can be neither believed nor refused.
    let status = call("Bearer sgk_0123456789abcdef").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "identity_unknown"));
    running.stop().await;
}

#[tokio::test]
async fn a_request_keeps_its_id_and_a_panic_becomes_an_internal_error() {
    let running = testing::serve(ServiceName::ApiGateway, edge()).await.unwrap();
    let mut client = GatewayServiceClient::new(running.mesh().channel(ServiceName::ApiGateway));
    let mut request = Request::new(GetVersionRequest {});
    request.metadata_mut().insert("x-request-id", "my-id".parse().unwrap());
    let response = client.get_version(request).await.unwrap();
    assert_eq!(response.metadata().get("x-request-id").unwrap(), "my-id");
    assert!(response.into_inner().version.ends_with("my-id"));

    let status = client.get_health(GetHealthRequest {}).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::Internal, "internal error"));
    running.stop().await;
}
