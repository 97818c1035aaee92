//! The mesh as one service sees it.

use std::{collections::BTreeMap, fmt, sync::Arc};

use streamgate_core::{Caller, Identity, ServiceName};
use streamgate_proto::streamgate::{
    auth::v1::auth_service_client::AuthServiceClient, cache::v1::cache_service_client::CacheServiceClient,
    events::v1::event_service_client::EventServiceClient, gateway::v1::gateway_service_client::GatewayServiceClient,
    metadata::v1::metadata_service_client::MetadataServiceClient, monitor::v1::monitor_service_client::MonitorServiceClient,
    streaming::v1::streaming_service_client::StreamingServiceClient,
    transcoder::v1::transcoder_service_client::TranscoderServiceClient, upload::v1::upload_service_client::UploadServiceClient,
    worker::v1::worker_service_client::WorkerServiceClient,
};

use crate::{
    channel::{Credential, MeshChannel, Route},
    credential::{Acting, MeshSecret},
    endpoints::Endpoints,
    keys::{ApiKeys, Keyring, api_keys},
    methods::Methods,
};

/// Client of a service's `grpc.health.v1`.
pub type HealthClient = tonic_health::pb::health_client::HealthClient<MeshChannel>;

/// A target that is no URL of a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the target of {name} must be http://host:port or dns://name:port, not {url:?}")]
pub struct BadTarget {
    /// Whose target.
    pub name: ServiceName,
    /// What was given.
    pub url: String,
}

/// Makes a [`Mesh`].
#[derive(Debug)]
pub struct MeshBuilder {
    own: ServiceName,
    secret: MeshSecret,
    targets: BTreeMap<ServiceName, String>,
}

impl MeshBuilder {
    /// Says where a service is, such as `http://upload:9091`, or `dns://upload:9091` for all
    /// instances that the name stands for.
    #[must_use]
    pub fn target(mut self, name: ServiceName, url: impl Into<String>) -> Self {
        self.targets.insert(name, url.into());
        self
    }

    /// Makes the channels. Nothing is connected yet. Must run inside a tokio runtime.
    ///
    /// # Errors
    /// A target that is no URL.
    pub fn build(self) -> Result<Mesh, BadTarget> {
        let methods = Arc::new(Methods::of_contracts());
        let mut routes = BTreeMap::new();
        for name in ServiceName::ALL {
            let url = self.targets.get(&name).cloned();
            let url = url.unwrap_or_else(|| format!("http://127.0.0.1:{}", name.default_port()));
            let url = url.trim_end_matches('/').to_owned();
            let endpoints = Endpoints::of(&url).ok_or_else(|| BadTarget { name, url: url.clone() })?;
            routes.insert(name, Arc::new(Route::new(name, url, endpoints, Arc::clone(&methods))));
        }
        let shared = Arc::new(Shared { secret: self.secret, routes, keyring: Arc::new(Keyring::new()), api_keys: api_keys() });
        Ok(Mesh { shared, own: self.own, acting: Acting::Itself, request_id: None })
    }
}

struct Shared {
    secret: MeshSecret,
    routes: BTreeMap<ServiceName, Arc<Route>>,
    keyring: Arc<Keyring>,
    api_keys: ApiKeys,
}

/// The nine services, as one of them calls them. Cheap to clone.
#[derive(Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    own: ServiceName,
    acting: Acting,
    request_id: Option<String>,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mesh").field("own", &self.own).field("acting", &self.acting).finish_non_exhaustive()
    }
}

impl Mesh {
    /// A mesh as the service `own` sees it. Targets not given are at their default port here.
    #[must_use]
    pub const fn builder(own: ServiceName, secret: MeshSecret) -> MeshBuilder {
        MeshBuilder { own, secret, targets: BTreeMap::new() }
    }

    /// The same mesh with the same connections, as another service sees it.
    #[must_use]
    pub fn as_service(&self, own: ServiceName) -> Self {
        Self { own, ..self.clone().into_itself() }
    }

    /// The same, acting for the caller's account. A caller who is nobody stays nobody: the
    /// service does not lend its own rights. A service that called for itself is replaced by us.
    #[must_use]
    pub fn on_behalf_of(&self, caller: &Caller) -> Self {
        let acting = match (&caller.identity, caller.account()) {
            (_, Some(account)) => Acting::Account(account.clone()),
            (Identity::Service { .. }, None) => Acting::Itself,
            _ => Acting::Anonymous,
        };
        Self { acting, request_id: Some(caller.request_id.clone()), ..self.clone() }
    }

    /// The same, acting for the service itself.
    pub(crate) fn into_itself(self) -> Self {
        Self { acting: Acting::Itself, request_id: None, ..self }
    }

    pub(crate) fn secret(&self) -> &MeshSecret {
        &self.shared.secret
    }

    pub(crate) fn keyring(&self) -> &Arc<Keyring> {
        &self.shared.keyring
    }

    pub(crate) fn api_keys(&self) -> &ApiKeys {
        &self.shared.api_keys
    }

    pub(crate) fn route(&self, name: ServiceName) -> &Arc<Route> {
        // `build` makes a route for each of `ServiceName::ALL`.
        &self.shared.routes[&name]
    }

    /// Where the service is, such as `http://127.0.0.1:9091`.
    #[must_use]
    pub fn target(&self, name: ServiceName) -> &str {
        self.route(name).url()
    }

    /// A channel that adds no credential: the edge passes the caller's own on.
    #[must_use]
    pub fn channel(&self, name: ServiceName) -> MeshChannel {
        MeshChannel::new(Arc::clone(self.route(name)), None)
    }

    /// A channel with this service's credential, for clients not listed here.
    #[must_use]
    pub fn internal_channel(&self, name: ServiceName) -> MeshChannel {
        let credential = Credential {
            secret: self.shared.secret.clone(),
            own: self.own,
            acting: self.acting.clone(),
            request_id: self.request_id.clone(),
        };
        MeshChannel::new(Arc::clone(self.route(name)), Some(Arc::new(credential)))
    }

    /// Takes files in.
    #[must_use]
    pub fn upload(&self) -> UploadServiceClient<MeshChannel> {
        UploadServiceClient::new(self.internal_channel(ServiceName::Upload))
    }

    /// Makes ladders.
    #[must_use]
    pub fn transcoder(&self) -> TranscoderServiceClient<MeshChannel> {
        TranscoderServiceClient::new(self.internal_channel(ServiceName::Transcoder))
    }

    /// Plays titles.
    #[must_use]
    pub fn streaming(&self) -> StreamingServiceClient<MeshChannel> {
        StreamingServiceClient::new(self.internal_channel(ServiceName::Streaming))
    }

    /// Keeps titles.
    #[must_use]
    pub fn metadata(&self) -> MetadataServiceClient<MeshChannel> {
        MetadataServiceClient::new(self.internal_channel(ServiceName::Metadata))
    }

    /// The shared cache.
    #[must_use]
    pub fn cache(&self) -> CacheServiceClient<MeshChannel> {
        CacheServiceClient::new(self.internal_channel(ServiceName::Cache))
    }

    /// Identities and gates.
    #[must_use]
    pub fn auth(&self) -> AuthServiceClient<MeshChannel> {
        AuthServiceClient::new(self.internal_channel(ServiceName::Auth))
    }

    /// Background jobs.
    #[must_use]
    pub fn worker(&self) -> WorkerServiceClient<MeshChannel> {
        WorkerServiceClient::new(self.internal_channel(ServiceName::Worker))
    }

    /// Health and metrics of all.
    #[must_use]
    pub fn monitor(&self) -> MonitorServiceClient<MeshChannel> {
        MonitorServiceClient::new(self.internal_channel(ServiceName::Monitor))
    }

    /// The edge.
    #[must_use]
    pub fn gateway(&self) -> GatewayServiceClient<MeshChannel> {
        GatewayServiceClient::new(self.internal_channel(ServiceName::ApiGateway))
    }

    /// Where a service hears of events.
    #[must_use]
    pub fn events(&self, name: ServiceName) -> EventServiceClient<MeshChannel> {
        EventServiceClient::new(self.internal_channel(name))
    }

    /// Health of a service.
    #[must_use]
    pub fn health(&self, name: ServiceName) -> HealthClient {
        HealthClient::new(self.internal_channel(name))
    }
}
