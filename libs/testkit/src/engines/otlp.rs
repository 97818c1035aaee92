//! A receiver of OpenTelemetry spans, from the Python package `rotel`.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use async_trait::async_trait;

use super::server::{Kind, Place, Server, engine};
use crate::{free_port, paths::repository};

/// A span as the receiver has printed it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReceivedSpan {
    /// The trace it belongs to, in hex.
    pub trace_id: String,
    /// Its id, in hex.
    pub span_id: String,
    /// The span it lies in; empty for the first of a trace.
    pub parent_id: String,
    /// Its name.
    pub name: String,
    /// The service that sent it, or the one that its attributes name.
    pub service: String,
}

/// A running receiver; what it receives is printed, and read from there.
#[derive(Debug)]
pub struct OtlpReceiver {
    server: Server<Kit>,
}

engine!(OtlpReceiver, "the OTLP receiver");

impl OtlpReceiver {
    /// Starts a receiver.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        Ok(Self { server: Server::start(Kit { http_port: free_port()? }).await? })
    }

    /// Where spans are sent to over gRPC.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.place.address())
    }

    /// Everything it has printed.
    #[must_use]
    pub fn output(&self) -> String {
        self.server.output()
    }

    /// The spans it has received.
    #[must_use]
    pub fn spans(&self) -> Vec<ReceivedSpan> {
        spans(&self.output())
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![("STREAMGATE_TELEMETRY__OTLP_ENDPOINT", self.url())]
    }
}

/// Reads what is printed of each span, one line for each part.
fn spans(output: &str) -> Vec<ReceivedSpan> {
    let mut found: Vec<ReceivedSpan> = Vec::new();
    for line in output.lines() {
        let line = line.trim();
        let value = |prefix: &str| line.strip_prefix(prefix).map(|rest| rest.trim_start_matches([' ', ':']).trim().to_owned());
        if let Some(trace_id) = value("Trace ID") {
            found.push(ReceivedSpan { trace_id, ..ReceivedSpan::default() });
        }
        let Some(span) = found.last_mut() else { continue };
        if let Some(parent_id) = value("Parent ID") {
            span.parent_id = parent_id;
        } else if let Some(name) = value("Name") {
            span.name = name;
        } else if let Some(span_id) = value("ID") {
            span.span_id = span_id;
        } else if let Some(service) = value("-> service:") {
            span.service = service.trim_start_matches("Str(").trim_end_matches(')').trim_matches('"').to_owned();
        }
    }
    found
}

#[derive(Debug)]
struct Kit {
    http_port: u16,
}

/// The program inside the Python package: its own launcher would stay between us and it.
fn agent() -> Result<PathBuf> {
    let libraries = repository().join(".tools/rotel/lib");
    let versions = fs::read_dir(&libraries).ok().into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("site-packages/rotel/rotel-agent")).find(|path| path.is_file());
    found.context("rotel is not there: run scripts/install-for-tests")
}

#[async_trait]
impl Kind for Kit {
    const NAME: &'static str = "the OTLP receiver";

    fn prepare(&self, _: &Place) -> Result<()> {
        Ok(())
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(agent()?);
        command.args(["start", "--exporter", "blackhole", "--debug-log", "traces", "--debug-log-verbosity", "detailed"]);
        command.args(["--otlp-grpc-endpoint", &place.address()]);
        command.args(["--otlp-http-endpoint", &format!("127.0.0.1:{}", self.http_port)]);
        Ok(command)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        tokio::net::TcpStream::connect(place.address()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_span_is_read_with_its_place_in_the_trace() {
        let printed = "ScopeSpans #0\nSpan #0\n    Trace ID       : aa\n    Parent ID      : bb\n    ID             : cc\n    \
                       Name           : /a.B/C\n    Kind           : SPAN_KIND_SERVER\nAttributes:\n     -> service: Str(upload)\n";
        let span = spans(printed).remove(0);
        assert_eq!((span.trace_id.as_str(), span.parent_id.as_str(), span.span_id.as_str()), ("aa", "bb", "cc"));
        assert_eq!((span.name.as_str(), span.service.as_str()), ("/a.B/C", "upload"));
    }
}
