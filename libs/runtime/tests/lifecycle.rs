//! Services go up in order, say whether they are ready, and go down in order.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use common::{Backend, Edge, backend, with_tasks};
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::{
    events::v1::DeliverRequest,
    upload::v1::{GetUploadRequest, upload_service_client::UploadServiceClient},
};
use streamgate_runtime::{CancellationToken, ConfigSource, Host, Service, StartError, testing};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::Notify,
    time::{Instant, timeout},
};
use tokio_stream::StreamExt as _;
use tonic_health::{ServingStatus, pb::HealthCheckRequest};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

/// Status and body of a plain HTTP/1.1 request.
async fn get(addr: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

#[tokio::test]
async fn several_services_start_on_ports_of_their_own_and_reach_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let source = ConfigSource::for_tests(folder.path()).yaml("api_gateway: {greeting: hello}");
    let running = Host::new().add::<Edge>().add::<Backend>().start(source).await.unwrap();
    running.mesh().events(ServiceName::Cache).deliver(DeliverRequest::default()).await.unwrap();

    let edge = running.addr(ServiceName::ApiGateway).unwrap();
    assert_eq!(get(edge, "/greet").await.1, "hello");
    assert_eq!(get(edge, "/health").await.0, 200);
    assert_eq!(get(edge, "/ready").await.0, 200);
    assert_eq!(get(edge, "/nothing").await.0, 404);
    let cache = running.addr(ServiceName::Cache).unwrap();
    let (status, metrics) = get(cache, "/metrics").await;
    assert_eq!(status, 200);
    let counted =
        metrics.lines().any(|line| line.starts_with("streamgate_rpc_handled_total{") && line.contains("EventService/Deliver"));
    assert!(counted, "{metrics}");
    running.stop().await;
    assert!(TcpStream::connect(edge).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn an_unknown_rpc_is_unimplemented_and_reflection_lists_what_there_is() {
    let running = testing::serve(ServiceName::Cache, backend()).await.unwrap();
    let channel = running.mesh().internal_channel(ServiceName::Cache);
    let mut upload = UploadServiceClient::new(channel.clone());
    let status = upload.get_upload(GetUploadRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);

    let ask = ServerReflectionRequest { host: String::new(), message_request: Some(MessageRequest::ListServices(String::new())) };
    let mut answers =
        ServerReflectionClient::new(channel).server_reflection_info(tokio_stream::iter([ask])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.next().await.unwrap().unwrap().message_response else {
        panic!("no list");
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    for wanted in ["streamgate.cache.v1.CacheService", "streamgate.events.v1.EventService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == wanted), "{wanted} in {names:?}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_missing_need_makes_a_service_not_ready_with_the_reason() {
    let service = backend().ready_check("database", || async { Err("it is locked".to_owned()) });
    let running = testing::serve(ServiceName::Cache, service).await.unwrap();
    let (status, body) = get(running.addr(ServiceName::Cache).unwrap(), "/ready").await;
    assert_eq!(status, 503);
    assert!(body.contains("it is locked"), "{body}");
    let health = running.mesh().health(ServiceName::Cache).check(HealthCheckRequest::default()).await.unwrap();
    assert_eq!(health.into_inner().status, ServingStatus::NotServing as i32);
    running.stop().await;
}

#[tokio::test]
async fn health_turns_to_not_serving_before_connections_end_and_tasks_end_before_the_last_step() {
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let stop = CancellationToken::new();
    let service = with_tasks(backend(), stop.clone(), &said);
    drop(said);
    let running = testing::serve(ServiceName::Cache, service).await.unwrap();
    let mut watch = running.mesh().health(ServiceName::Cache).watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
    let stopped = tokio::spawn(running.stop());
    assert_eq!(watch.message().await.unwrap().unwrap().status, ServingStatus::NotServing as i32);
    drop(watch);
    stop.cancel();
    stopped.await.unwrap();
    assert_eq!((heard.recv().await, heard.recv().await, heard.recv().await), (Some("task"), Some("last"), None));
}

#[tokio::test]
async fn a_request_under_way_is_finished_though_the_port_is_closed_already() {
    let (entered, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (enter, wait) = (Arc::clone(&entered), Arc::clone(&release));
    let slow = axum::routing::get(move || async move {
        enter.notify_one();
        wait.notified().await;
        "finished"
    });
    let service = Service::new().http(axum::Router::new().route("/slow", slow));
    let running = testing::serve(ServiceName::Cache, service).await.unwrap();
    let addr = running.addr(ServiceName::Cache).unwrap();
    let request = tokio::spawn(get(addr, "/slow"));
    entered.notified().await;
    let stopped = tokio::spawn(running.stop());
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    release.notify_one();
    assert_eq!(request.await.unwrap(), (200, "finished".to_owned()));
    stopped.await.unwrap();
}

#[tokio::test]
async fn a_task_that_fails_for_good_stops_the_process_and_one_that_may_restart_does() {
    let (said, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let service = Service::new().restarting_task("flaky", move || {
        let said = said.clone();
        async move {
            said.send(()).unwrap();
            Err::<(), _>("not yet")
        }
    });
    let running = testing::serve(ServiceName::Cache, service).await.unwrap();
    heard.recv().await.unwrap();
    heard.recv().await.unwrap();
    running.stop().await;

    let doomed = Service::new().task("doomed", async {
        let healthy = false;
        assert!(healthy, "broken for good");
    });
    let running = testing::serve(ServiceName::Cache, doomed).await.unwrap();
    running.failed().await;
    running.stop().await;
}

#[tokio::test]
async fn what_keeps_services_from_starting_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let start = async |source: ConfigSource| Host::new().add::<Edge>().start(source).await.unwrap_err();

    let error = start(ConfigSource::for_tests(folder.path()).yaml("api_gateway: {greting: x}")).await;
    assert!(matches!(&error, StartError::Config(reason) if reason.to_string().contains("greting")), "{error}");

    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().port();
    let source = ConfigSource::new().yaml("server: {host: 127.0.0.1}").env("SERVER_PORT", port.to_string());
    let error = start(source.env("STREAMGATE_DATA_DIR", folder.path().to_string_lossy())).await;
    assert!(matches!(error, StartError::Port(_)) && error.to_string().contains(&port.to_string()), "{error}");

    let file = tempfile::NamedTempFile::new().unwrap();
    let error = start(ConfigSource::for_tests(file.path())).await;
    assert!(matches!(error, StartError::DataFolder(_)), "{error}");

    let error = start(ConfigSource::for_tests(folder.path()).yaml("api_gateway: {fail: true}")).await;
    assert_eq!(error.to_string(), "api-gateway could not start: told to fail");
}

#[tokio::test]
async fn a_service_that_waits_for_ever_does_not_hide_that_another_can_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let source = ConfigSource::for_tests(folder.path()).yaml("api_gateway: {fail: true}\ncache: {wait: true}");
    let started = Host::new().add::<Backend>().add::<Edge>().start(source);
    let error = timeout(Duration::from_secs(30), started).await.expect("it ends").unwrap_err();
    assert_eq!(error.to_string(), "api-gateway could not start: told to fail");
}

#[tokio::test]
async fn a_service_that_waits_for_ever_does_not_hide_that_a_task_of_another_failed() {
    let folder = tempfile::tempdir().unwrap();
    let source = ConfigSource::for_tests(folder.path()).yaml("api_gateway: {doomed: true}\ncache: {wait: true}");
    let started = Host::new().add::<Backend>().add::<Edge>().start(source);
    let error = timeout(Duration::from_secs(30), started).await.expect("it ends").unwrap_err();
    assert!(matches!(error, StartError::Task), "{error}");
}

#[tokio::test]
async fn services_that_are_up_stop_when_another_can_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = free.local_addr().unwrap();
    drop(free);
    let yaml = format!("server: {{ports: {{cache: {}}}, notice_ms: 3600000}}\napi_gateway: {{fail: true}}", addr.port());
    let source = ConfigSource::for_tests(folder.path()).yaml(yaml);
    let started = Host::new().add::<Backend>().add::<Edge>().start(source);
    let error = timeout(Duration::from_secs(30), started).await.expect("nobody needs notice").unwrap_err();
    assert!(matches!(error, StartError::Build { name: ServiceName::ApiGateway, .. }), "{error}");
    assert!(TcpListener::bind(addr).await.is_ok(), "the port is free again");
}

#[tokio::test]
async fn the_grace_is_granted_once_whatever_hangs_and_whichever_service() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "server: {grace_ms: 20000}\napi_gateway: {hang: true}\ncache: {hang: true}";
    let source = ConfigSource::for_tests(folder.path()).yaml(yaml);
    let running = Host::new().add::<Edge>().add::<Backend>().start(source).await.unwrap();
    let mut stuck = TcpStream::connect(running.addr(ServiceName::ApiGateway).unwrap()).await.unwrap();
    stuck.write_all(b"GET /endless HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    stuck.read_exact(&mut [0; 12]).await.unwrap();
    tokio::time::pause();
    let began = Instant::now();
    running.stop().await;
    let took = began.elapsed();
    assert!(took <= Duration::from_millis(20_100), "{took:?}");
}
