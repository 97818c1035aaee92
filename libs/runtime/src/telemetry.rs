//! The log, and spans over OTLP.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{EnvFilter, Layer as _, Registry, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::config::{ConfigError, LogConfig, LogFormat, TelemetryConfig};

/// Libraries that log every frame at debug.
const QUIET: &str = "h2=info,hyper=info,hyper_util=info,tower=info,tonic=info,opentelemetry=warn,sqlx=warn,reqwest=info";

/// Sends what is left when it is told to.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    spans: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs the log for the whole process. Only a process of ours does this, never a test.
    pub(crate) fn install(log: &LogConfig, telemetry: &TelemetryConfig, process: &str) -> Result<Self, ConfigError> {
        let filter = filter(&log.level)?;
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
        let lines = match log.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().flatten_event(true).boxed(),
        };
        let spans = (!telemetry.otlp_endpoint.is_empty()).then(|| exporter(&telemetry.otlp_endpoint, process)).transpose()?;
        let exported = spans.as_ref().map(|provider| tracing_opentelemetry::layer().with_tracer(provider.tracer("streamgate")));
        let subscriber = Registry::default().with(exported).with(filter).with(lines);
        // Fails only when the embedding program has installed its own, which then is the better one.
        let _installed = subscriber.try_init();
        Ok(Self { spans })
    }

    /// Sends the spans that are still here.
    pub(crate) async fn flush(self) {
        let Some(spans) = self.spans else { return };
        let flushed = tokio::task::spawn_blocking(move || spans.shutdown()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::info!("the last spans could not be sent");
        }
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
