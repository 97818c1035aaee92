//! Hands gRPC calls through to the service they are for, unchanged, streams too.

use std::{collections::HashSet, str::FromStr as _, sync::Arc};

use axum::{body::Body, extract::Request, response::Response};
use http::{HeaderMap, Uri, header, uri::PathAndQuery};
use prost_reflect::DescriptorPool;
use streamgate_core::{Access, ErrorKind, Failure, ServiceName};
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, ServiceExt as _};

use crate::{backends::Backends, context::strip_mesh_headers, ending::Ending};

/// Hands gRPC and gRPC-Web calls through.
#[derive(Debug, Clone)]
pub struct Proxy {
    backends: Backends,
    ending: Ending,
    /// Paths of the RPCs whose answer is a stream.
    streams: Arc<HashSet<String>>,
}

impl Proxy {
    /// Hands calls of the contracts in `pool` to `backends`.
    #[must_use]
    pub fn new(backends: Backends, pool: &DescriptorPool, ending: Ending) -> Self {
        let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
        let streams = methods.filter(prost_reflect::MethodDescriptor::is_server_streaming);
        let paths = streams.map(|rpc| format!("/{}/{}", rpc.parent_service().full_name(), rpc.name()));
        Self { backends, ending, streams: Arc::new(paths.collect()) }
    }

    /// Answers one call, which [`is_grpc`].
    pub async fn answer(&self, request: Request) -> Response {
        let proxy = self.clone();
        let inner = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let proxy = proxy.clone();
            async move { Ok::<_, std::convert::Infallible>(proxy.forward(request).await) }
        });
        match GrpcWebLayer::new().layer(inner).oneshot(request).await {
            Ok(response) => response.map(Body::new),
            Err(never) => match never {},
        }
    }

    /// What a caller sends may take as long as the edge has to stop; what it only hears would take all of that.
    async fn forward(&self, request: http::Request<tonic::body::Body>) -> http::Response<tonic::body::Body> {
        let is_stream = self.streams.contains(request.uri().path());
        let call = forward(&self.backends, request);
        if is_stream { self.ending.of(call).await } else { call.await }
    }
}

/// Whether a request speaks gRPC or gRPC-Web.
#[must_use]
pub fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

async fn forward(backends: &Backends, request: http::Request<tonic::body::Body>) -> http::Response<tonic::body::Body> {
    let name = match target(request.uri().path()) {
        Ok(name) => name,
        Err(failure) => return tonic::Status::from(failure).into_http(),
    };
    let (mut parts, body) = request.into_parts();
    strip_mesh_headers(&mut parts.headers);
    // The channel puts the service's own address in; what the caller wrote there is of no use.
    parts.headers.remove(header::HOST);
    parts.uri = path_only(&parts.uri);
    match backends.channel(name).oneshot(http::Request::from_parts(parts, body)).await {
        Ok(response) => response,
        Err(status) => status.into_http(),
    }
}

fn path_only(uri: &Uri) -> Uri {
    let path = PathAndQuery::from_str(uri.path()).unwrap_or_else(|_| PathAndQuery::from_static("/"));
    Uri::from(path)
}

/// The service that a path's RPC belongs to, if a stranger may reach it at all.
fn target(path: &str) -> Result<ServiceName, Failure> {
    let unknown = || Failure::new(ErrorKind::NotFound, "unknown_rpc", "no contract has this RPC");
    let access = Access::of_method(path).ok_or_else(unknown)?;
    if access == Access::Internal {
        return Err(Failure::new(ErrorKind::PermissionDenied, "internal_only", "only services of the mesh may make this call"));
    }
    let service = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    ServiceName::of_grpc_service(service).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn internal_calls_never_leave_the_mesh() {
        let kind = |path| target(path).map_err(|failure| failure.kind);
        assert_eq!(kind("/streamgate.metadata.v1.MetadataService/GetContent"), Ok(ServiceName::Metadata));
        assert_eq!(kind("/streamgate.metadata.v1.MetadataService/ResolvePlayback"), Err(ErrorKind::PermissionDenied));
        assert_eq!(kind("/streamgate.events.v1.EventService/Deliver"), Err(ErrorKind::PermissionDenied));
        assert_eq!(kind("/streamgate.metadata.v1.MetadataService/Nope"), Err(ErrorKind::NotFound));
        assert_eq!(kind("/grpc.health.v1.Health/Check"), Err(ErrorKind::NotFound));
    }

    #[test]
    fn only_the_path_of_a_callers_address_goes_along() {
        let uri = path_only(&Uri::from_static("http://evil.example:1/streamgate.x/Y?z=1"));
        assert_eq!(uri, Uri::from_static("/streamgate.x/Y"));
    }
}
