//! Whether a service is alive and ready, over HTTP and over `grpc.health.v1`.

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use futures::future::join_all;
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use streamgate_core::ServiceName;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{Metrics, service::ReadyCheck};

/// How long a readiness check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often `grpc.health.v1` follows the readiness checks.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

/// Health of one service.
pub(crate) struct Health {
    name: ServiceName,
    /// Locked while `grpc.health.v1` is told: what it says last is then true of the phase.
    phase: Mutex<Phase>,
    checks: Vec<ReadyCheck>,
    metrics: Metrics,
    reporter: HealthReporter,
    grpc_names: Vec<&'static str>,
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    service: &'static str,
    checks: Vec<CheckOutcome>,
}

#[derive(Serialize)]
struct CheckOutcome {
    name: String,
    ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl Health {
    /// Health of a service that is starting.
    pub(crate) async fn starting(
        name: ServiceName,
        checks: Vec<ReadyCheck>,
        grpc_names: Vec<&'static str>,
        metrics: Metrics,
        reporter: HealthReporter,
    ) -> Arc<Self> {
        let health = Self { name, phase: Mutex::new(Phase::Starting), checks, metrics, reporter, grpc_names };
        health.report(ServingStatus::NotServing).await;
        Arc::new(health)
    }

    pub(crate) async fn serving(&self) {
        *self.phase.lock().await = Phase::Serving;
        self.follow().await;
    }

    pub(crate) async fn stopping(&self) {
        let mut phase = self.phase.lock().await;
        *phase = Phase::Stopping;
        self.report(ServingStatus::NotServing).await;
    }

    /// Ends the streams that watch, which would keep their connections open.
    pub(crate) async fn end_watches(&self) {
        let mut reporter = self.reporter.clone();
        for name in std::iter::once(&"").chain(&self.grpc_names) {
            reporter.clear_service_status(name).await;
        }
    }

    /// Keeps `grpc.health.v1` in step with the readiness checks.
    pub(crate) async fn keep_following(self: Arc<Self>, stop: CancellationToken) {
        if self.checks.is_empty() {
            return;
        }
        while stop.run_until_cancelled(tokio::time::sleep(FOLLOW_INTERVAL)).await.is_some() {
            self.follow().await;
        }
    }

    async fn follow(&self) {
        let ready = self.readiness().await.status == "ready";
        // A drain that began meanwhile must not be undone, nor one that begins while this is told.
        let phase = self.phase.lock().await;
        if *phase == Phase::Serving {
            self.report(if ready { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
        }
    }

    async fn report(&self, status: ServingStatus) {
        for name in std::iter::once(&"").chain(&self.grpc_names) {
            self.reporter.set_service_status(*name, status).await;
        }
    }

    async fn readiness(&self) -> Readiness {
        let mut checks = join_all(self.checks.iter().map(outcome)).await;
        let phase = match *self.phase.lock().await {
            Phase::Serving => "",
            Phase::Stopping => "the service is stopping",
            Phase::Starting => "the service is starting",
        };
        checks.push(CheckOutcome { name: "phase".to_owned(), ok: phase.is_empty(), reason: phase.to_owned() });
        let status = if checks.iter().all(|check| check.ok) { "ready" } else { "not_ready" };
        Readiness { status, service: self.name.as_str(), checks }
    }

    /// `/health`, `/ready` and `/metrics`.
    pub(crate) fn routes(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/health", get(alive))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .with_state(Arc::clone(self))
    }
}

async fn outcome(check: &ReadyCheck) -> CheckOutcome {
    let answer = tokio::time::timeout(CHECK_TIMEOUT, (check.ask)()).await;
    let answer = answer.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
    CheckOutcome { name: check.name.to_string(), ok: answer.is_ok(), reason: answer.err().unwrap_or_default() }
}

async fn alive(State(health): State<Arc<Health>>) -> impl IntoResponse {
    Json(Alive { status: "ok", service: health.name.as_str(), version: env!("CARGO_PKG_VERSION") })
}

async fn ready(State(health): State<Arc<Health>>) -> impl IntoResponse {
    let readiness = health.readiness().await;
    let status = if readiness.status == "ready" { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(readiness))
}

async fn metrics(State(health): State<Arc<Health>>) -> Result<impl IntoResponse, StatusCode> {
    let text = health.metrics.encode().map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text))
}

#[cfg(test)]
mod tests {
    use tonic_health::pb::{HealthCheckRequest, health_server::Health as _};

    use super::*;

    /// Names that are told one after the other: time for the two to meet.
    const NAMES: usize = 200;
    const ROUNDS: usize = 50;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_drain_is_never_undone_by_a_check_under_way() {
        let names: Vec<&'static str> = (0..NAMES).map(|number| &*format!("contract{number}").leak()).collect();
        for _ in 0..ROUNDS {
            let (reporter, _server) = tonic_health::server::health_reporter();
            let asked = tonic_health::server::HealthService::from_health_reporter(reporter.clone());
            let metrics = Metrics::new(ServiceName::Cache);
            let health = Health::starting(ServiceName::Cache, Vec::new(), names.clone(), metrics, reporter).await;
            *health.phase.lock().await = Phase::Serving;
            let (follower, stopper) = (Arc::clone(&health), Arc::clone(&health));
            let followed = tokio::spawn(async move { follower.follow().await });
            let stopped = tokio::spawn(async move { stopper.stopping().await });
            followed.await.unwrap();
            stopped.await.unwrap();
            for name in &names {
                let request = tonic::Request::new(HealthCheckRequest { service: (*name).to_owned() });
                let status = asked.check(request).await.unwrap().into_inner().status;
                assert_eq!(status, ServingStatus::NotServing as i32, "{name}");
            }
        }
    }
}
