//! How a service is asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use streamgate_client::{HealthClient, Mesh};
use streamgate_core::ServiceName;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus};

use crate::Error;

/// Bytes of metrics that are read of one instance.
const MAX_METRICS_BYTES: usize = 2 * 1024 * 1024;
/// Patience with one reading of metrics.
const METRICS_TIMEOUT: Duration = Duration::from_secs(3);
/// Instances of one service that are watched at the most.
const MAX_INSTANCES: usize = 100;

/// An answer to the question for health.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reachable {
    /// It serves.
    Serving,
    /// It is there, and does not serve now.
    NotServing,
}

/// What an instance says, again and again.
pub type Watching = BoxStream<'static, Result<Reachable, String>>;

/// Asks services. A failure is told in words that an operator may see.
#[async_trait]
pub trait Probe: Send + Sync + 'static {
    /// Host and port of each instance of a service.
    async fn instances(&self, service: ServiceName) -> Result<Vec<String>, String>;
    /// Health of an instance now.
    async fn check(&self, service: ServiceName, address: &str) -> Result<Reachable, String>;
    /// Health of an instance, told whenever it changes; ends when the connection does.
    fn watch(&self, service: ServiceName, address: &str) -> Watching;
    /// Reads the metrics of an instance as text.
    async fn metrics(&self, service: ServiceName, address: &str) -> Result<String, String>;
}

/// Asks over the mesh.
#[derive(Debug)]
pub struct MeshProbe {
    mesh: Mesh,
    http: reqwest::Client,
    clients: Mutex<HashMap<(ServiceName, String), HealthClient>>,
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
        Ok(Self { mesh, http, clients: Mutex::default() })
    }

    /// A client that keeps its connection to the instance.
    fn client(&self, service: ServiceName, address: &str) -> Result<HealthClient, String> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (service, address.to_owned());
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let parsed: Option<SocketAddr> = address.parse().ok();
        let client = parsed.and_then(|address| self.mesh.instance_health(service, address));
        let client = client.ok_or_else(|| "its address can't be used".to_owned())?;
        clients.insert(key, client.clone());
        Ok(client)
    }
}

#[async_trait]
impl Probe for MeshProbe {
    async fn instances(&self, service: ServiceName) -> Result<Vec<String>, String> {
        let found = self.mesh.instances(service).await.map_err(|_| "its name can't be looked up".to_owned())?;
        let addresses: Vec<String> = found.iter().take(MAX_INSTANCES).map(ToString::to_string).collect();
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        clients.retain(|(of, address), _| *of != service || addresses.contains(address));
        Ok(addresses)
    }

    async fn check(&self, service: ServiceName, address: &str) -> Result<Reachable, String> {
        let mut client = self.client(service, address)?;
        let answer = client.check(whole()).await.map_err(|status| say(status.code()).to_owned())?;
        Ok(reachable(&answer.into_inner()))
    }

    fn watch(&self, service: ServiceName, address: &str) -> Watching {
        let client = self.client(service, address);
        let begun = async move {
            match client?.watch(whole()).await {
                Ok(answer) => Ok(answer.into_inner().map(|told| told.map_err(|status| say(status.code()).to_owned()))),
                Err(status) => Err(say(status.code()).to_owned()),
            }
        };
        stream::once(begun)
            .flat_map(|begun| match begun {
                Ok(told) => told.map(|told| told.map(|told| reachable(&told))).boxed(),
                Err(words) => stream::iter([Err(words)]).boxed(),
            })
            .boxed()
    }

    async fn metrics(&self, _: ServiceName, address: &str) -> Result<String, String> {
        let url = format!("http://{address}/metrics");
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

/// The question for the health of a service as a whole.
fn whole() -> HealthCheckRequest {
    HealthCheckRequest { service: String::new() }
}

fn reachable(answer: &HealthCheckResponse) -> Reachable {
    match answer.status() {
        ServingStatus::Serving => Reachable::Serving,
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => Reachable::NotServing,
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
