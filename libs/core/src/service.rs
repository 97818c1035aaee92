//! The nine services by name.

use std::{fmt, str::FromStr};

/// One of the nine services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceName {
    /// The edge.
    ApiGateway,
    /// Takes files in.
    Upload,
    /// Makes ladders.
    Transcoder,
    /// Plays titles.
    Streaming,
    /// Keeps titles.
    Metadata,
    /// Shared cache.
    Cache,
    /// Identities and gates.
    Auth,
    /// Background jobs.
    Worker,
    /// Health and metrics of all.
    Monitor,
}

impl ServiceName {
    /// All nine, in the order they are shown.
    pub const ALL: [Self; 9] = [
        Self::ApiGateway,
        Self::Upload,
        Self::Transcoder,
        Self::Streaming,
        Self::Metadata,
        Self::Cache,
        Self::Auth,
        Self::Worker,
        Self::Monitor,
    ];

    /// The name as it stands in configuration, logs and DNS.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ApiGateway => "api-gateway",
            Self::Upload => "upload",
            Self::Transcoder => "transcoder",
            Self::Streaming => "streaming",
            Self::Metadata => "metadata",
            Self::Cache => "cache",
            Self::Auth => "auth",
            Self::Worker => "worker",
            Self::Monitor => "monitor",
        }
    }

    /// The port it listens on unless configured otherwise.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            Self::ApiGateway => 9090,
            Self::Upload => 9091,
            Self::Transcoder => 9092,
            Self::Streaming => 9093,
            Self::Metadata => 9005,
            Self::Cache => 9006,
            Self::Auth => 9007,
            Self::Worker => 9008,
            Self::Monitor => 9009,
        }
    }

    /// The gRPC service it is known by, such as `streamgate.upload.v1.UploadService`.
    #[must_use]
    pub const fn grpc_service(self) -> &'static str {
        self.grpc_services()[0]
    }

    /// Every contract it serves that callers from outside may use; the first is [`Self::grpc_service`].
    #[must_use]
    pub const fn grpc_services(self) -> &'static [&'static str] {
        match self {
            Self::ApiGateway => &["streamgate.gateway.v1.GatewayService"],
            Self::Upload => &["streamgate.upload.v1.UploadService"],
            Self::Transcoder => &["streamgate.transcoder.v1.TranscoderService"],
            Self::Streaming => &["streamgate.streaming.v1.StreamingService"],
            Self::Metadata => &["streamgate.metadata.v1.MetadataService"],
            Self::Cache => &["streamgate.cache.v1.CacheService"],
            Self::Auth => &["streamgate.auth.v1.AuthService"],
            Self::Worker => &["streamgate.worker.v1.WorkerService", "streamgate.worker.v1.WebhookService"],
            Self::Monitor => &[
                "streamgate.monitor.v1.MonitorService",
                "streamgate.audit.v1.AuditService",
                "streamgate.events.v1.EventAdminService",
            ],
        }
    }

    /// The service that serves a contract such as `streamgate.upload.v1.UploadService`.
    #[must_use]
    pub fn of_grpc_service(service: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.grpc_services().contains(&service))
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of the nine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no service called {0:?}")]
pub struct UnknownService(pub String);

impl FromStr for ServiceName {
    type Err = UnknownService;

    fn from_str(text: &str) -> Result<Self, UnknownService> {
        Self::ALL.into_iter().find(|name| name.as_str() == text).ok_or_else(|| UnknownService(text.to_owned()))
    }
}
