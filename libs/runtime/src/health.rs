//! Whether a service is alive and ready, over HTTP and over `grpc.health.v1`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use futures::future::join_all;
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Serialize;
use streamgate_core::ServiceName;
use tokio_util::sync::CancellationToken;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{Metrics, service::ReadyCheck};

/// How long a readiness check may take.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// How often `grpc.health.v1` follows the readiness checks.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(2);

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// Health of one service.
pub(crate) struct Health {
    name: ServiceName,
    phase: AtomicU8,
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
        let health = Self { name, phase: AtomicU8::new(STARTING), checks, metrics, reporter, grpc_names };
        health.report(ServingStatus::NotServing).await;
        Arc::new(health)
    }

    pub(crate) async fn serving(&self) {
        self.phase.store(SERVING, Ordering::Release);
        self.follow().await;
    }

    pub(crate) async fn stopping(&self) {
        self.phase.store(STOPPING, Ordering::Release);
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
        // A drain that began meanwhile must not be undone.
        if self.phase.load(Ordering::Acquire) == SERVING {
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
        let phase = match self.phase.load(Ordering::Acquire) {
            SERVING => "",
            STOPPING => "the service is stopping",
            _ => "the service is starting",
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
