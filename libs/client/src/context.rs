//! What a request carries from service to service: its id and its place in a trace.

use std::{future::Future, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Instrument as _;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// Names a request in every log and answer.
pub const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");
/// W3C trace context.
pub const TRACEPARENT_HEADER: HeaderName = HeaderName::from_static("traceparent");

/// Longest request id taken from a caller.
const MAX_REQUEST_ID: usize = 64;

tokio::task_local! {
    static CURRENT: RequestContext;
}

/// The id of the request being served, and the trace it belongs to. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestContext {
    /// Letters, digits, `-`, `_` and `.`; at most 64.
    pub request_id: Arc<str>,
    trace_id: TraceId,
    flags: TraceFlags,
}

impl RequestContext {
    /// Takes both from the headers; what is missing or malformed is made new.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        let request_id = text(REQUEST_ID_HEADER).filter(|id| is_request_id(id));
        let trace = text(TRACEPARENT_HEADER).and_then(parse_traceparent);
        let (trace_id, flags) = trace.unwrap_or_else(|| (rand::random::<u128>().max(1).into(), TraceFlags::default()));
        let request_id = request_id.map_or_else(|| uuid::Uuid::now_v7().simple().to_string().into(), Into::into);
        Self { request_id, trace_id, flags }
    }

    /// Runs `future` so that calls it makes belong to this request.
    pub async fn scope<F: Future>(self, future: F) -> F::Output {
        CURRENT.scope(self, future).await
    }

    /// The same for work that does not wait.
    pub fn within<R>(self, work: impl FnOnce() -> R) -> R {
        CURRENT.sync_scope(self, work)
    }

    /// The request the current task serves, if any.
    #[must_use]
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// The trace that the request belongs to; written, it is 32 hex digits.
    #[must_use]
    pub const fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// The same request in the trace of `span`, when spans are exported: its id is then the one that
    /// the collector knows.
    #[must_use]
    pub fn in_trace_of(mut self, span: &tracing::Span) -> Self {
        let context = span.context();
        let span = context.span();
        let span = span.span_context();
        if span.is_valid() {
            (self.trace_id, self.flags) = (span.trace_id(), span.trace_flags());
        }
        self
    }

    /// The request's place in its trace, as W3C writes it, with a new span id.
    #[must_use]
    pub fn traceparent(&self) -> String {
        written(self.trace_id, rand::random::<u64>().max(1).into(), self.flags)
    }
}

/// The place in its trace of what runs now, as W3C writes it; empty outside of a request.
#[must_use]
pub fn current_traceparent() -> String {
    span_traceparent().or_else(|| RequestContext::current().map(|request| request.traceparent())).unwrap_or_default()
}

/// Runs work that a request has caused and that is done after its answer, such as handling an event: in the
/// trace of that request, which `traceparent` names, and under an `id` of its own. Without a usable
/// `traceparent` it is a trace of its own.
pub async fn caused_by<F: Future>(traceparent: &str, id: &str, name: &str, work: F) -> F::Output {
    let mut headers = HeaderMap::new();
    for (header, value) in [(REQUEST_ID_HEADER, id), (TRACEPARENT_HEADER, traceparent)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(header, value);
        }
    }
    let request = RequestContext::from_headers(&headers);
    // As severe as can be, so that lines of every level that is logged have the request's id.
    let span = tracing::error_span!("caused", otel.name = name, otel.kind = "consumer", request_id = %request.request_id);
    // Fails when spans are not exported, and then nobody needs a parent.
    let _without_export = span.set_parent(remote(traceparent));
    let request = request.in_trace_of(&span);
    request.scope(work).instrument(span).await
}

/// The span of another process that `traceparent` names.
fn remote(traceparent: &str) -> Context {
    let Some((trace, flags)) = parse_traceparent(traceparent) else { return Context::new() };
    let span = traceparent.split('-').nth(2).and_then(|span| SpanId::from_hex(span).ok());
    let Some(span) = span else { return Context::new() };
    Context::new().with_remote_span_context(SpanContext::new(trace, span, flags, true, TraceState::default()))
}

fn is_request_id(id: &str) -> bool {
    (1..=MAX_REQUEST_ID).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn parse_traceparent(value: &str) -> Option<(TraceId, TraceFlags)> {
    let mut parts = value.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |text: &str, length| text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_set = |text: &str| text.bytes().any(|b| b != b'0');
    let known = version == "00" && parts.next().is_none();
    let is_whole = known && is_hex(trace, 32) && is_set(trace) && is_hex(span, 16) && is_set(span) && is_hex(flags, 2);
    is_whole.then_some(())?;
    Some((TraceId::from_hex(trace).ok()?, TraceFlags::new(u8::from_str_radix(flags, 16).ok()?)))
}

/// As W3C writes a place in a trace.
fn written(trace: TraceId, span: SpanId, flags: TraceFlags) -> String {
    format!("00-{trace}-{span}-{:02x}", flags.to_u8())
}

/// Reads a `grpc-timeout`, such as `10S` or `250m`.
#[must_use]
pub fn parse_grpc_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    // The gRPC specification allows eight digits.
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(amount * 3600)),
        "M" => Some(Duration::from_secs(amount * 60)),
        "S" => Some(Duration::from_secs(amount)),
        "m" => Some(Duration::from_millis(amount)),
        "u" => Some(Duration::from_micros(amount)),
        "n" => Some(Duration::from_nanos(amount)),
        _ => None,
    }
}

/// Writes the current request's id and trace into the headers of a call, unless they are there.
pub(crate) fn inject(headers: &mut HeaderMap, request_id: Option<&str>) {
    let current = RequestContext::current();
    let id = request_id.or(current.as_ref().map(|context| &*context.request_id));
    if let Some(value) = id.and_then(|id| HeaderValue::from_str(id).ok()) {
        headers.entry(REQUEST_ID_HEADER).or_insert(value);
    }
    let trace = span_traceparent().or_else(|| current.map(|context| context.traceparent()));
    if let Some(value) = trace.and_then(|trace| HeaderValue::from_str(&trace).ok()) {
        headers.insert(TRACEPARENT_HEADER, value);
    }
}

/// The current span's place in its trace, when spans are exported.
fn span_traceparent() -> Option<String> {
    let context = tracing::Span::current().context();
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| written(span.trace_id(), span.span_id(), span.trace_flags()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_call_made_while_serving_a_request_carries_its_id_and_trace() {
        let mut incoming = HeaderMap::new();
        incoming.insert(REQUEST_ID_HEADER, HeaderValue::from_static("abc-1"));
        incoming.insert(TRACEPARENT_HEADER, HeaderValue::from_static("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        let outgoing = RequestContext::from_headers(&incoming)
            .scope(async {
                let mut headers = HeaderMap::new();
                inject(&mut headers, None);
                headers
            })
            .await;
        assert_eq!(outgoing[REQUEST_ID_HEADER], "abc-1");
        let trace = outgoing[TRACEPARENT_HEADER].to_str().unwrap();
        assert!(trace.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && trace.ends_with("-01"), "{trace}");
        assert!(!trace.contains("00f067aa0ba902b7"));
    }

    #[tokio::test]
    async fn what_a_request_has_caused_goes_on_in_its_trace_under_a_name_of_its_own() {
        let (trace, span) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
        let seen = caused_by(&format!("00-{trace}-{span}-01"), "evt_1", "handle", async { RequestContext::current() }).await;
        let seen = seen.unwrap();
        assert_eq!((&*seen.request_id, seen.trace_id().to_string().as_str()), ("evt_1", trace));
        let alone = caused_by("", "evt_2", "handle", async { RequestContext::current() }).await.unwrap();
        assert_eq!(&*alone.request_id, "evt_2");
        assert_ne!(alone.trace_id(), TraceId::INVALID);
    }

    #[test]
    fn a_grpc_timeout_is_digits_and_a_unit() {
        assert_eq!(parse_grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_grpc_timeout("2H"), Some(Duration::from_secs(7200)));
        for bad in ["", "S", "1", "1s", "-1S", "123456789S", "1\u{e9}"] {
            assert_eq!(parse_grpc_timeout(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_malformed_id_or_trace_is_replaced() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID_HEADER, HeaderValue::from_static("a b\"c"));
        headers.insert(TRACEPARENT_HEADER, HeaderValue::from_static("00-00000000000000000000000000000000-00f067aa0ba902b7-01"));
        let context = RequestContext::from_headers(&headers);
        assert!(is_request_id(&context.request_id));
        assert_ne!(context.trace_id, TraceId::INVALID);
    }
}
