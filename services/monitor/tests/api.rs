//! The service over its handlers, with services that are faked.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_monitor::{
    Config, Handler, Metrics,
    engine::{Poller, Probe, Reachable, Seen},
};
use streamgate_proto::streamgate::monitor::v1::{self as pb, monitor_service_server::MonitorService};
use tonic::{Code, Request};

/// Services that serve unless said otherwise. One that is absent never answers.
#[derive(Default)]
struct Fake {
    health: Mutex<BTreeMap<ServiceName, Option<Result<Reachable, String>>>>,
    metrics: Mutex<BTreeMap<ServiceName, Result<String, String>>>,
}

#[async_trait]
impl Probe for Fake {
    async fn health(&self, service: ServiceName) -> Result<Reachable, String> {
        let answer = self.health.lock().unwrap().get(&service).cloned().unwrap_or(Some(Ok(Reachable::Serving)));
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn metrics(&self, service: ServiceName) -> Result<String, String> {
        self.metrics.lock().unwrap().get(&service).cloned().unwrap_or_else(|| Ok("up 1\n".into()))
    }
}

fn watch() -> (Arc<Fake>, Poller, Handler, Metrics) {
    let (fake, seen, metrics) = (Arc::new(Fake::default()), Seen::new(0), Metrics::default());
    let config = Config { health_timeout_ms: 50, ..Config::default() };
    (fake.clone(), Poller::new(fake, seen.clone(), metrics.clone(), config), Handler::new(seen), metrics)
}

async fn health(handler: &Handler) -> pb::GetHealthResponse {
    handler.get_health(Request::new(pb::GetHealthRequest {})).await.unwrap().into_inner()
}

async fn metrics_of(handler: &Handler, service: &str) -> Result<Vec<pb::ServiceMetrics>, tonic::Status> {
    Ok(handler.get_metrics(Request::new(pb::GetMetricsRequest { service: service.into() })).await?.into_inner().services)
}

fn exposed(metrics: &Metrics) -> String {
    let mut registry = prometheus_client::registry::Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

#[tokio::test]
async fn all_nine_are_asked_and_told() {
    let (_, poller, handler, metrics) = watch();
    assert_eq!(health(&handler).await.status, "degraded", "nothing was asked yet");
    poller.ask_health().await;
    let told = health(&handler).await;
    assert_eq!((told.status.as_str(), told.services.len()), ("healthy", 9));
    assert!(told.services.iter().all(|service| service.state() == pb::HealthState::Serving && service.detail.is_empty()));
    assert!(exposed(&metrics).contains("up{target=\"upload\"} 1"));
}

#[tokio::test]
async fn a_service_that_is_down_or_hangs_is_told_and_comes_back() {
    let (fake, poller, handler, metrics) = watch();
    fake.health.lock().unwrap().insert(ServiceName::Upload, Some(Err("it can't be reached".into())));
    fake.health.lock().unwrap().insert(ServiceName::Worker, None);
    poller.ask_health().await;
    let told = health(&handler).await;
    let of = |name: &str| told.services.iter().find(|service| service.service == name).unwrap().clone();
    assert_eq!(told.status, "degraded");
    assert_eq!((of("upload").state(), of("upload").detail.as_str()), (pb::HealthState::Unreachable, "it can't be reached"));
    assert_eq!((of("worker").state(), of("worker").detail.as_str()), (pb::HealthState::Unreachable, "it did not answer in time"));
    assert!(exposed(&metrics).contains("up{target=\"worker\"} 0"));
    fake.health.lock().unwrap().clear();
    poller.ask_health().await;
    assert_eq!(health(&handler).await.status, "healthy");
}

#[tokio::test]
async fn nobody_can_play_without_the_edge() {
    let (fake, poller, handler, _) = watch();
    fake.health.lock().unwrap().insert(ServiceName::ApiGateway, Some(Ok(Reachable::NotServing)));
    poller.ask_health().await;
    let told = health(&handler).await;
    assert_eq!((told.status.as_str(), told.services[0].state()), ("unhealthy", pb::HealthState::NotServing));
}

#[tokio::test]
async fn the_newest_metrics_stay_while_a_service_is_away() {
    let (fake, poller, handler, metrics) = watch();
    let text = "# TYPE jobs gauge\njobs{type=\"sweep\"} 3\nbroken {\n".to_owned();
    fake.metrics.lock().unwrap().insert(ServiceName::Worker, Ok(text));
    poller.read_metrics().await;
    let first = metrics_of(&handler, "worker").await.unwrap();
    assert_eq!(first[0].samples.len(), 1);
    assert_eq!(
        (first[0].samples[0].name.as_str(), first[0].samples[0].labels["type"].as_str(), first[0].samples[0].value),
        ("jobs", "sweep", 3.0)
    );
    fake.metrics.lock().unwrap().insert(ServiceName::Worker, Err("it can't be reached".into()));
    poller.read_metrics().await;
    assert_eq!(metrics_of(&handler, "worker").await.unwrap(), first);
    assert!(exposed(&metrics).contains("monitor_failed_scrapes_total{target=\"worker\"} 1"));
    assert_eq!(metrics_of(&handler, "").await.unwrap().len(), 9);
}

#[tokio::test]
async fn a_service_that_does_not_exist_is_refused() {
    let (_, _, handler, _) = watch();
    assert_eq!(metrics_of(&handler, "nope").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(metrics_of(&handler, "cache").await.unwrap()[0].scrape_time, None, "never read");
}
