//! The outermost layer: names the request, writes errors out in the caller's protocol, counts answers.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};

use crate::{
    context::REQUEST_ID,
    edge::{headers, request_id},
    metrics::{Answer, EdgeMetrics},
    problem,
    proxy::is_grpc,
};

/// Runs around every request.
pub async fn finish(State(metrics): State<Arc<EdgeMetrics>>, mut request: Request, next: Next) -> Response {
    let id = request_id::assign(request.headers_mut());
    let grpc = is_grpc(request.headers());
    let surface = surface(grpc, request.uri().path());
    let in_flight = InFlight::begin(&metrics);
    let response = next.run(request).await;
    drop(in_flight);
    let mut response =
        if grpc { problem::render_grpc(response) } else { problem::render(response, id.to_str().unwrap_or_default()) };
    headers::add(response.headers_mut());
    response.headers_mut().insert(REQUEST_ID, id);
    metrics.answers.get_or_create(&Answer { surface, status: response.status().as_u16() }).inc();
    response
}

fn surface(grpc: bool, path: &str) -> &'static str {
    match path {
        _ if grpc => "grpc",
        path if path.starts_with("/play/") => "media",
        path if path == "/api/v1/upload" || path == "/api/v1/upload/chunk" || path.starts_with("/api/v1/uploads/") => "upload",
        path if path.starts_with("/api/") || path.starts_with("/.well-known/") || path == "/openapi.json" => "rest",
        _ => "page",
    }
}

/// Counts a request while it is being answered, also when its caller goes away.
struct InFlight<'a>(&'a EdgeMetrics);

impl<'a> InFlight<'a> {
    fn begin(metrics: &'a EdgeMetrics) -> Self {
        metrics.in_flight.inc();
        Self(metrics)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.dec();
    }
}
