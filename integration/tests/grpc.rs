//! gRPC by reflection on each of the nine ports and through the gateway, as `grpcurl` does it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::process::Command;

use serde_json::Value;
use streamgate_core::service::ServiceName;
use streamgate_testkit::{Platform, Shape, tool};

/// One harmless call of each service.
const CALLS: [(ServiceName, &str, &str); 9] = [
    (ServiceName::ApiGateway, "GetVersion", "{}"),
    (ServiceName::Upload, "ListUploads", "{}"),
    (ServiceName::Transcoder, "ListJobs", "{}"),
    (ServiceName::Streaming, "ListSessions", "{}"),
    (ServiceName::Metadata, "ListContents", "{}"),
    (ServiceName::Cache, "GetStats", "{}"),
    (ServiceName::Auth, "ListChains", "{}"),
    (ServiceName::Worker, "ListJobs", "{}"),
    (ServiceName::Monitor, "GetHealth", "{}"),
];

/// Calls a method by reflection alone, with no proto file at hand.
fn call(port: u16, method: &str, body: &str, key: &str) -> Value {
    let output = Command::new(tool("buf", "STREAMGATE_BUF").unwrap())
        .args([
            "curl",
            "--protocol",
            "grpc",
            "--http2-prior-knowledge",
            "-H",
            &format!("authorization: Bearer {key}"),
            "-d",
            body,
        ])
        .arg(format!("http://127.0.0.1:{port}/{method}"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{method} on {port}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn port_name(service: ServiceName) -> &'static str {
    if service == ServiceName::ApiGateway { "gateway" } else { service.as_str() }
}

async fn every_service_answers_by_reflection_on_its_port_and_through_the_gateway(platform: &Platform) {
    let key = platform.api_key("operator").unwrap();
    let gateway = platform.ports().of("gateway");
    for (service, method, body) in CALLS {
        let path = format!("{}/{method}", service.grpc_service());
        let direct = call(platform.ports().of(port_name(service)), &path, body, &key);
        let proxied = call(gateway, &path, body, &key);
        assert_eq!(direct.is_object(), proxied.is_object(), "{path}");
    }
}

async fn every_port_says_that_it_serves(platform: &Platform) {
    for service in ServiceName::ALL {
        let port = platform.ports().of(port_name(service));
        for name in ["", service.grpc_service()] {
            let answer = call(port, "grpc.health.v1.Health/Check", &format!(r#"{{"service":"{name}"}}"#), "");
            assert_eq!(answer["status"], "SERVING", "{service} {name:?}");
        }
        for path in ["health", "ready", "metrics"] {
            let answer = reqwest::get(format!("http://127.0.0.1:{port}/{path}")).await.unwrap();
            assert_eq!(answer.status(), 200, "{service} /{path}");
        }
    }
}

#[tokio::test]
async fn one_process_answers_on_nine_ports() {
    let platform = Platform::builder().shape(Shape::OneProcess).start().await.unwrap();
    every_service_answers_by_reflection_on_its_port_and_through_the_gateway(&platform).await;
    every_port_says_that_it_serves(&platform).await;
}

#[tokio::test]
async fn nine_processes_answer_on_nine_ports() {
    let platform = Platform::builder().shape(Shape::NineProcesses).start().await.unwrap();
    every_service_answers_by_reflection_on_its_port_and_through_the_gateway(&platform).await;
    every_port_says_that_it_serves(&platform).await;
}
