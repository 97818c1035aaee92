//! What is noted about every request: id, span, counts, latency, one log line.

use std::{
    panic::AssertUnwindSafe,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use axum::body::Body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use opentelemetry::propagation::{Extractor, TextMapPropagator as _};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};
use streamgate_client::{
    RequestContext,
    context::{REQUEST_ID_HEADER, TRACEPARENT_HEADER},
};
use streamgate_core::ServiceName;
use streamgate_proto::METHOD_ACCESS;
use tonic::{Code, Status};
use tracing::{Instrument as _, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::{Metrics, tasks::panic_text};

/// Upper bounds of the latency histogram, in seconds.
const LATENCY_BUCKETS: [f64; 11] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0];

/// Label of questions that only look at a service, many a minute and without end: among calls, they would hide how those fare.
const PROBE: &str = "probe";
/// Where they are asked over HTTP, and over gRPC: reflection is open for as long as somebody looks.
const PROBED_PATHS: [&str; 3] = ["/health", "/ready", "/metrics"];
const PROBED_CONTRACTS: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

/// What a request speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    Grpc,
    GrpcWeb,
    Http,
}

impl Protocol {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::GrpcWeb => "grpc-web",
            Self::Http => "http",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    /// Path of the RPC, or the HTTP method, or that it is a probe: never a path that callers choose.
    method: &'static str,
    /// gRPC code or HTTP status.
    code: u16,
}

/// Notes requests of one service.
pub(crate) struct Observer {
    name: ServiceName,
    rpc_count: Family<Labels, Counter>,
    rpc_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    http_count: Family<Labels, Counter>,
    http_seconds: Family<Labels, Histogram, fn() -> Histogram>,
}

impl Observer {
    /// Registers the metrics.
    pub(crate) fn new(name: ServiceName, metrics: &Metrics) -> Self {
        let seconds = |metric: &str, help: &str| {
            let family: Family<Labels, Histogram, fn() -> Histogram> =
                Family::new_with_constructor(|| Histogram::new(LATENCY_BUCKETS));
            metrics.registry(|registry| registry.register(metric, help, family.clone()));
            family
        };
        Self {
            name,
            rpc_count: metrics.counters("rpc_handled", "RPCs answered, by method and gRPC code"),
            rpc_seconds: seconds("rpc_seconds", "Time until an RPC's answer was sent, by method and gRPC code"),
            http_count: metrics.counters("http_handled", "HTTP requests answered, by method and status"),
            http_seconds: seconds("http_seconds", "Time until an HTTP answer was sent, by method and status"),
        }
    }

    /// Runs a handler so that its request is noted. A panic in it becomes an internal error.
    pub(crate) async fn around<F, Fut>(
        self: Arc<Self>,
        protocol: Protocol,
        mut request: Request<Body>,
        handler: F,
    ) -> Response<Body>
    where
        F: FnOnce(Request<Body>, RequestContext) -> Fut,
        Fut: Future<Output = Response<Body>>,
    {
        let started = Instant::now();
        let context = RequestContext::from_headers(request.headers());
        let id = HeaderValue::from_str(&context.request_id).ok();
        if let Some(id) = &id {
            request.headers_mut().insert(REQUEST_ID_HEADER, id.clone());
        }
        let method = method_label(protocol, &request);
        let span = self.span(protocol, method, &context, request.headers());
        let context = context.in_trace_of(&span);
        request.extensions_mut().insert(context.clone());
        let work = context.clone().scope(handler(request, context.clone())).instrument(span.clone());
        let mut response = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(response) => response,
            Err(panic) => panicked(protocol, &span, panic.as_ref()),
        };
        if let Some(id) = id {
            response.headers_mut().insert(REQUEST_ID_HEADER, id);
        }
        let code = match protocol {
            Protocol::Http => None,
            Protocol::Grpc | Protocol::GrpcWeb => grpc_code(response.headers()),
        };
        let note = Note { observer: self, protocol, method, started, span, context, status: response.status(), code };
        response.map(|body| Body::new(Noted { body, note: Some(note) }))
    }

    fn span(&self, protocol: Protocol, method: &'static str, context: &RequestContext, headers: &HeaderMap) -> Span {
        // Of the gravest level, or a quiet log would lose whose lines these are.
        let span = tracing::error_span!(
            "request",
            otel.name = method,
            otel.kind = "server",
            otel.status_code = tracing::field::Empty,
            service = %self.name,
            method,
            protocol = protocol.as_str(),
            code = tracing::field::Empty,
            request_id = %context.request_id,
        );
        if headers.contains_key(TRACEPARENT_HEADER) {
            let parent = TraceContextPropagator::new().extract(&Headers(headers));
            // Fails when spans are not exported, and then nobody needs a parent.
            let _without_export = span.set_parent(parent);
        }
        span
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

fn panicked(protocol: Protocol, span: &Span, panic: &(dyn std::any::Any + Send)) -> Response<Body> {
    let panic = panic_text(panic);
    span.in_scope(|| tracing::error!(%panic, "a handler panicked"));
    if protocol == Protocol::Http {
        let mut response = Response::new(Body::from("internal error\n"));
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        return response;
    }
    Status::internal("internal error").into_http()
}

/// A label from a closed set.
fn method_label(protocol: Protocol, request: &Request<Body>) -> &'static str {
    let path = request.uri().path();
    if protocol == Protocol::Http {
        if PROBED_PATHS.contains(&path) {
            return PROBE;
        }
        let known = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
        return known.into_iter().find(|method| *method == request.method().as_str()).unwrap_or("other");
    }
    if PROBED_CONTRACTS.iter().any(|contract| path.starts_with(contract)) {
        return PROBE;
    }
    METHOD_ACCESS.binary_search_by(|(known, _)| (*known).cmp(path)).map_or("other", |row| METHOD_ACCESS[row].0)
}

fn grpc_code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

/// What is known of a request until its answer was sent.
struct Note {
    observer: Arc<Observer>,
    protocol: Protocol,
    method: &'static str,
    started: Instant,
    span: Span,
    context: RequestContext,
    status: StatusCode,
    code: Option<Code>,
}

impl Note {
    fn write(self, complete: bool) {
        let elapsed = self.started.elapsed();
        let (code, is_fine) = match self.protocol {
            Protocol::Http => (self.status.as_u16(), !self.status.is_server_error()),
            Protocol::Grpc | Protocol::GrpcWeb => {
                let unfinished = if complete { Code::Ok } else { Code::Cancelled };
                let code = self.code.unwrap_or(unfinished);
                (u16::try_from(code as i32).unwrap_or_default(), !matches!(code, Code::Internal | Code::Unknown | Code::DataLoss))
            }
        };
        let labels = Labels { method: self.method, code };
        let (count, seconds) = match self.protocol {
            Protocol::Http => (&self.observer.http_count, &self.observer.http_seconds),
            Protocol::Grpc | Protocol::GrpcWeb => (&self.observer.rpc_count, &self.observer.rpc_seconds),
        };
        count.get_or_create(&labels).inc();
        seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
        let latency_us = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.span.record("code", code);
        if !is_fine {
            self.span.record("otel.status_code", "ERROR");
        }
        let write = || {
            if is_fine {
                tracing::debug!(code, latency_us, complete, "answered");
            } else {
                tracing::info!(code, latency_us, complete, "answered with an error of ours");
            }
        };
        // The body outlives the handler, and with it the scope of the request.
        self.context.within(|| self.span.in_scope(write));
    }
}

/// A body that writes the note when it was sent, or dropped.
struct Noted {
    body: Body,
    note: Option<Note>,
}

impl http_body::Body for Noted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(trailers), Some(note)) = (frame.trailers_ref(), self.note.as_mut()) {
                    note.code = grpc_code(trailers).or(note.code);
                }
            }
            Some(Err(_)) => self.finish(false),
            None => self.finish(true),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Noted {
    fn finish(&mut self, complete: bool) {
        if let Some(note) = self.note.take() {
            note.write(complete);
        }
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        // An empty body is never polled, and trailers may be the last frame that is.
        let complete = http_body::Body::is_end_stream(&self.body) || self.note.as_ref().is_some_and(|note| note.code.is_some());
        self.finish(complete);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_only_looks_is_told_from_who_calls() {
        let of = |protocol, path: &str| method_label(protocol, &Request::builder().uri(path).body(Body::empty()).unwrap());
        for path in ["/health", "/ready?verbose", "/metrics"] {
            assert_eq!(of(Protocol::Http, path), "probe");
        }
        for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
            assert_eq!((of(Protocol::Grpc, path), of(Protocol::GrpcWeb, path)), ("probe", "probe"));
        }
        assert_eq!(of(Protocol::Grpc, "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"), "probe");
        assert_eq!(of(Protocol::Http, "/api/v1/health"), "GET");
        let login = "/streamgate.auth.v1.AuthService/Login";
        assert_eq!((of(Protocol::Grpc, login), of(Protocol::Grpc, "/metrics")), (login, "other"));
    }
}
