//! The services behind the edge, each as a plain gRPC channel that adds no credential of its own.

use std::{collections::HashMap, fmt, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use tonic::{Status, body::Body};
use tower::{BoxError, Service, ServiceExt as _, util::BoxCloneSyncService};

/// A gRPC channel to one service.
pub type Channel = BoxCloneSyncService<Request<Body>, Response<Body>, Status>;

/// Channels to the services behind the edge, and to its own one.
#[derive(Clone, Default)]
pub struct Backends {
    channels: Arc<HashMap<ServiceName, Channel>>,
}

impl Backends {
    /// The eight others over the mesh. No channel adds a credential of the mesh.
    #[must_use]
    pub fn over(mesh: &Mesh) -> Self {
        let others = ServiceName::ALL.into_iter().filter(|name| *name != ServiceName::ApiGateway);
        others.fold(Self::default(), |built, name| built.with(name, mesh.channel(name)))
    }

    /// The same backends with `channel` for `name`.
    #[must_use]
    pub fn with<S, B>(self, name: ServiceName, channel: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<B>> + Clone + Send + Sync + 'static,
        S::Error: Into<BoxError>,
        S::Future: Send + 'static,
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let plain = channel
            .map_response(|response: Response<B>| response.map(Body::new))
            .map_err(|error| Status::from_error(error.into()));
        let mut channels = (*self.channels).clone();
        channels.insert(name, BoxCloneSyncService::new(plain));
        Self { channels: Arc::new(channels) }
    }

    /// The channel to `name`.
    #[must_use]
    pub fn channel(&self, name: ServiceName) -> Channel {
        self.channels.get(&name).cloned().unwrap_or_else(|| absent(name))
    }
}

impl fmt::Debug for Backends {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.channels.keys()).finish()
    }
}

fn absent(name: ServiceName) -> Channel {
    BoxCloneSyncService::new(tower::service_fn(move |_: Request<Body>| async move {
        Err::<Response<Body>, Status>(Status::unavailable(format!("{name} is not configured")))
    }))
}
