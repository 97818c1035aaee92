//! How a service is asked.

use std::time::Duration;

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::Error;

/// Bytes of metrics that are read of one service.
const MAX_METRICS_BYTES: usize = 2 * 1024 * 1024;
/// Patience with one reading of metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(3);

/// An answer to the question for health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// It serves.
    Serving,
    /// It is there, and does not serve now.
    NotServing,
}

/// Asks services. A failure is told in words that an operator may see.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Asks for health, as a whole.
    async fn health(&self, service: ServiceName) -> Result<Reachable, String>;
    /// Reads the metrics as text.
    async fn metrics(&self, service: ServiceName) -> Result<String, String>;
}

/// Asks over the mesh.
#[derive(Debug, Clone)]
pub struct MeshProbe {
    mesh: Mesh,
    http: reqwest::Client,
}

impl MeshProbe {
    /// Asks the services of `mesh`.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new(mesh: Mesh) -> Result<Self, Error> {
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(METRICS_TIMEOUT)
            .build()
            .map_err(Error::Client)?;
        Ok(Self { mesh, http })
    }
}

#[async_trait]
impl Probe for MeshProbe {
    async fn health(&self, service: ServiceName) -> Result<Reachable, String> {
        let whole = HealthCheckRequest { service: String::new() };
        let answer = self.mesh.health(service).check(whole).await.map_err(|status| say(status.code()).to_owned())?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok(Reachable::Serving),
            ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => Ok(Reachable::NotServing),
        }
    }

    async fn metrics(&self, service: ServiceName) -> Result<String, String> {
        let url = format!("{}/metrics", self.mesh.target(service));
        let mut answer = self.http.get(url).send().await.map_err(|_| "it can't be reached".to_owned())?;
        if !answer.status().is_success() {
            return Err(format!("it answered {}", answer.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|_| "its answer broke off".to_owned())? {
            if body.len() + chunk.len() > MAX_METRICS_BYTES {
                return Err(format!("it exposes more than {MAX_METRICS_BYTES} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        String::from_utf8(body).map_err(|_| "its metrics are not UTF-8".to_owned())
    }
}

/// A code in words; the message of the status may hold what is nobody's business.
const fn say(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "it can't be reached",
        Code::DeadlineExceeded | Code::Cancelled => "it did not answer in time",
        Code::Unauthenticated | Code::PermissionDenied => "it refused the question",
        Code::Unimplemented => "it has no health service",
        _ => "it answered with an error",
    }
}
