//! The outermost layer: names the request, writes errors out in the caller's protocol, counts answers.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Router,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use tower::{Layer as _, ServiceExt as _, service_fn};
use tower_http::cors::CorsLayer;

use crate::{
    context::REQUEST_ID,
    edge::{cors, entry, headers, limit::Limits, request_id},
    metrics::{Answer, EdgeMetrics},
    problem,
    proxy::is_grpc,
};

/// `routes` with all that the edge does around every request.
pub fn around(routes: Router, limits: Limits, metrics: EdgeMetrics) -> Router {
    // One service around all routes: layers of a router are boxes in boxes, and copied for each request.
    let edge = Arc::new(Edge { routes, cors: cors::layer(), limits, metrics });
    Router::new().fallback_service(service_fn(move |request| {
        let edge = Arc::clone(&edge);
        async move { Ok::<_, Infallible>(edge.answer(request).await) }
    }))
}

struct Edge {
    routes: Router,
    cors: CorsLayer,
    limits: Limits,
    metrics: EdgeMetrics,
}

impl Edge {
    async fn answer(&self, mut request: Request) -> Response {
        let id = request_id::assign(request.headers_mut());
        let grpc = is_grpc(request.headers());
        let surface = surface(grpc, request.uri().path());
        let in_flight = InFlight::begin(&self.metrics);
        let inner = service_fn(|request| self.admitted(request));
        let response = self.cors.layer(inner).oneshot(request).await.unwrap_or_else(|never: Infallible| match never {});
        drop(in_flight);
        let mut response =
            if grpc { problem::render_grpc(response) } else { problem::render(response, id.to_str().unwrap_or_default()) };
        headers::add(response.headers_mut());
        response.headers_mut().insert(REQUEST_ID, id);
        self.metrics.answers.get_or_create(&Answer { surface, status: response.status().as_u16() }).inc();
        response
    }

    async fn admitted(&self, request: Request) -> Result<Response, Infallible> {
        match entry::admit(request) {
            Ok(request) => self.limits.around(self.routes.clone(), request).await,
            Err(error) => Ok(error.into_response()),
        }
    }
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
