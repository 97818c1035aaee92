//! Takes a copy of each line for the monitor, and never waits.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use streamgate_client::RequestContext;
use streamgate_core::{
    ServiceName,
    error::chain,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::monitor::v1::{LogLevel, LogLine};
use tokio::sync::mpsc;
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::redact;

/// Lines that wait to be sent. More are dropped and counted: a log must not hold up a request.
const MAX_WAITING: usize = 4_096;
/// Fields of one line, and bytes of one text.
const MAX_FIELDS: usize = 32;
const MAX_TEXT: usize = 4 * 1024;

/// Lines that wait, and how many found no room.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) lines: mpsc::Receiver<LogLine>,
    /// Lines of the next batch.
    pub(super) gathered: Vec<LogLine>,
    pub(super) dropped: Arc<AtomicU64>,
}

/// The layer that takes the copies.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    lines: mpsc::Sender<LogLine>,
    dropped: Arc<AtomicU64>,
    /// Whose line it is when nothing says so.
    service: ServiceName,
}

/// What a span says of the lines inside it. Its other fields are not read: spans are many, lines are few.
#[derive(Default)]
struct SpanNotes {
    service: Option<ServiceName>,
    request_id: String,
}

/// A tap, and where its lines come out.
pub(crate) fn tap(service: ServiceName) -> (Tap, Waiting) {
    let (sender, lines) = mpsc::channel(MAX_WAITING);
    let dropped = Arc::new(AtomicU64::new(0));
    (Tap { lines: sender, dropped: Arc::clone(&dropped), service }, Waiting { lines, gathered: Vec::new(), dropped })
}

impl<S> Layer<S> for Tap
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut notes = SpanNotes::default();
        attributes.record(&mut notes);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(notes);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut read = Fields::default();
        event.record(&mut read);
        let mut service = read.fields.get("service").and_then(|name| name.parse().ok());
        let mut request_id = String::new();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(notes) = span.extensions().get::<SpanNotes>() {
                service = service.or(notes.service);
                if request_id.is_empty() {
                    request_id.clone_from(&notes.request_id);
                }
            }
        }
        let current = RequestContext::current();
        let line = LogLine {
            time: Some(to_timestamp(now_ms())),
            service: service.unwrap_or(self.service).to_string(),
            level: level(*event.metadata().level()).into(),
            target: event.metadata().target().to_owned(),
            message: read.message,
            fields: read.fields.into_iter().collect(),
            request_id,
            trace_id: current.map(|context| context.trace_id().to_string()).unwrap_or_default(),
        };
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

const fn level(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE => LogLevel::Trace,
    }
}

impl Visit for SpanNotes {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "service" => self.service = value.parse().ok(),
            "request_id" => self.request_id = cut(&redact::clean(value)),
            _ => {}
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if matches!(field.name(), "service" | "request_id") {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}

/// Reads fields without their secrets.
#[derive(Default)]
struct Fields {
    message: String,
    fields: BTreeMap<String, String>,
}

impl Fields {
    fn note(&mut self, field: &Field, text: &str) {
        if field.name() == "message" {
            self.message = cut(&redact::clean(text));
        } else if self.fields.len() < MAX_FIELDS && !redact::is_secret_name(field.name()) {
            self.fields.insert(field.name().to_owned(), cut(&redact::clean(text)));
        }
    }
}

fn cut(text: &str) -> String {
    let end = (0..=MAX_TEXT.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    text[..end].to_owned()
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.note(field, value);
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.note(field, &chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.note(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures::FutureExt as _;
    use http::{Request, Response};
    use streamgate_client::context::REQUEST_ID_HEADER;
    use tracing_subscriber::{filter::LevelFilter, layer::SubscriberExt as _};

    use super::*;
    use crate::{
        Metrics,
        observe::{Observer, Protocol},
    };

    fn caught(write: impl FnOnce()) -> Vec<LogLine> {
        let (tap, mut waiting) = tap(ServiceName::Cache);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(tap), write);
        std::iter::from_fn(|| waiting.lines.try_recv().ok()).collect()
    }

    #[test]
    fn a_line_knows_its_service_its_request_and_its_fields_and_no_secret() {
        let lines = caught(|| {
            let span = tracing::info_span!("request", service = %ServiceName::Upload, request_id = "r-1");
            span.in_scope(|| tracing::warn!(upload_id = "upl_1", access_token = "abc", "failed with sgk_0123456789abcdef"));
            tracing::info!("alone");
        });
        assert_eq!((lines[0].service.as_str(), lines[0].request_id.as_str()), ("upload", "r-1"));
        assert_eq!((lines[0].level(), lines[0].message.as_str()), (LogLevel::Warn, "failed with [redacted]"));
        assert_eq!(lines[0].fields.keys().collect::<Vec<_>>(), ["upload_id"]);
        assert_eq!((lines[1].service.as_str(), lines[1].request_id.as_str()), ("cache", ""));
    }

    #[test]
    fn a_line_of_a_quiet_log_knows_its_service_and_its_request_too() {
        let (tap, mut waiting) = tap(ServiceName::Cache);
        let quiet = tracing_subscriber::registry().with(tap.with_filter(LevelFilter::WARN));
        let observer = Arc::new(Observer::new(ServiceName::Upload, &Metrics::new(ServiceName::Upload)));
        let request = Request::builder().header(REQUEST_ID_HEADER, "r-1").body(Body::empty()).unwrap();
        let handler = |_, _| async {
            tracing::warn!("x");
            Response::new(Body::empty())
        };
        tracing::subscriber::with_default(quiet, || observer.around(Protocol::Http, request, handler).now_or_never()).unwrap();
        let line = waiting.lines.try_recv().unwrap();
        assert_eq!((line.service.as_str(), line.request_id.as_str()), ("upload", "r-1"));
    }

    #[test]
    fn lines_without_room_are_dropped_and_counted_and_nobody_waits() {
        let (tap, waiting) = tap(ServiceName::Cache);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(tap), || {
            for _ in 0..MAX_WAITING + 3 {
                tracing::info!("x");
            }
        });
        assert_eq!(waiting.dropped.load(Ordering::Relaxed), 3);
    }
}
