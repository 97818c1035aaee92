//! Answers for a service that is still being built, because what it needs is not there yet: alive, not
//! ready, and why.

use axum::{Json, Router, extract::State, response::IntoResponse, routing::get};
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use streamgate_core::ServiceName;
use tokio::{net::TcpListener, task::JoinHandle};

use crate::stores::Needs;

/// `UNAVAILABLE` in `grpc-status`.
const UNAVAILABLE: &str = "14";

/// Answers on a listener for as long as it lives.
pub(crate) struct Starting {
    task: JoinHandle<()>,
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to answer on `listener`, and gives it back for the service itself.
pub(crate) fn answer(listener: TcpListener, name: ServiceName, needs: Needs) -> std::io::Result<(TcpListener, Starting)> {
    let own = listener.into_std()?;
    let lent = TcpListener::from_std(own.try_clone()?)?;
    let routes = Router::new()
        .route("/health", get(async move || Json(serde_json::json!({ "status": "ok", "service": name.as_str() }))))
        .route("/ready", get(ready))
        .fallback(unavailable)
        .with_state((name, needs));
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(lent, routes).await {
            tracing::debug!(%error, "nobody answers while the service starts");
        }
    });
    Ok((TcpListener::from_std(own)?, Starting { task }))
}

async fn ready(State((name, needs)): State<(ServiceName, Needs)>) -> impl IntoResponse {
    let reason = needs.waiting_for().unwrap_or_else(|| "the service is starting".to_owned());
    let check = serde_json::json!({ "name": "phase", "ok": false, "reason": reason });
    let body = serde_json::json!({ "status": "not_ready", "service": name.as_str(), "checks": [check] });
    (StatusCode::SERVICE_UNAVAILABLE, Json(body))
}

async fn unavailable(headers: HeaderMap) -> impl IntoResponse {
    let is_grpc = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if is_grpc {
        let fields = [("content-type", "application/grpc"), ("grpc-status", UNAVAILABLE), ("grpc-message", "starting")];
        return (StatusCode::OK, fields).into_response();
    }
    StatusCode::SERVICE_UNAVAILABLE.into_response()
}
