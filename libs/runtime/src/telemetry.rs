//! The log, and spans over OTLP.

use std::{io::IsTerminal as _, time::Duration};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use streamgate_core::ServiceName;
use tracing::{Level, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    EnvFilter, Layer as _, Registry,
    filter::{Targets, filter_fn},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    config::{ConfigError, LogConfig, LogFormat, TelemetryConfig},
    logs::{self, Waiting},
};

/// Libraries that log every frame at debug.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,tower=info,tonic=info,opentelemetry=warn,sqlx=warn,reqwest=info";
/// Spans and lines of ours: what leaves the process.
const OURS: &str = "streamgate";
/// Patience with the collector when the process stops: with the last log lines before, it stays below the 5 s
/// that config.prod.yaml leaves.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Sends what is left when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs the log for the whole process; gives the lines that wait for the monitor, unless it
    /// is to have none. Only a process of ours does this, never a test.
    pub(crate) fn install(
        log: &LogConfig,
        telemetry: &TelemetryConfig,
        process: &str,
        service: ServiceName,
    ) -> Result<(Self, Option<Waiting>), ConfigError> {
        let filter = filter(&log.level)?;
        // Colours are for people who look on, and not for files.
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
        let lines = match log.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let spans = (!telemetry.otlp_endpoint.is_empty()).then(|| exporter(&telemetry.otlp_endpoint, process)).transpose()?;
        let exported = spans.as_ref().map(|provider| {
            let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("streamgate"));
            layer.with_filter(filter_fn(is_exported))
        });
        let (tap, waiting) = match shipped(&telemetry.ship_logs)? {
            LevelFilter::OFF => (None, None),
            level => {
                let (tap, waiting) = logs::tap(service);
                (Some(tap.with_filter(Targets::new().with_target(OURS, level).with_default(LevelFilter::WARN))), Some(waiting))
            }
        };
        // Each has a filter of its own: a quiet log must not make an empty trace.
        let subscriber = Registry::default().with(exported).with(tap).with(lines.with_filter(filter));
        // Fails only when the embedding program has installed its own, which then is the better one.
        let _installed = subscriber.try_init();
        Ok((Self { spans }, waiting))
    }

    /// Sends the spans that are still here.
    pub(crate) async fn flush(self) {
        let Some(spans) = self.spans else { return };
        let flushed = tokio::task::spawn_blocking(move || spans.shutdown_with_timeout(LAST_SPANS)).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::info!("the last spans could not be sent");
        }
    }
}

/// Spans of requests and what is inside them. A background task runs for weeks: its span would be a
/// trace that never ends, so what it does for others are traces of their own.
fn is_exported(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(OURS) && *metadata.level() <= Level::INFO && metadata.name() != "task"
}

fn shipped(level: &str) -> Result<LevelFilter, ConfigError> {
    match level {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        _ => Err(ConfigError(format!("telemetry.ship_logs must be debug, info, warn, error or off, not {level:?}"))),
    }
}

fn filter(level: &str) -> Result<EnvFilter, ConfigError> {
    let is_plain = level.bytes().all(|b| b.is_ascii_alphabetic());
    let directives = if is_plain { format!("{level},{QUIET}") } else { level.to_owned() };
    let known = !is_plain || matches!(level, "trace" | "debug" | "info" | "warn" | "error" | "off");
    let parsed = EnvFilter::try_new(directives).ok().filter(|_| known);
    parsed.ok_or_else(|| ConfigError(format!("log.level must be trace, debug, info, warn, error or off, not {level:?}")))
}

fn exporter(endpoint: &str, process: &str) -> Result<SdkTracerProvider, ConfigError> {
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build();
    let exporter =
        exporter.map_err(|error| ConfigError(format!("telemetry.otlp_endpoint {endpoint:?} can't be used: {error}")))?;
    let resource = Resource::builder().with_service_name(process.to_owned()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}
