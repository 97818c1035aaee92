//! Tells gRPC from plain HTTP on one port, and sends each request where it belongs.

use std::{collections::HashSet, convert::Infallible, sync::Arc};

use axum::{Router, body::Body};
use http::{HeaderMap, Request, Response, header::CONTENT_TYPE};
use streamgate_client::{RequestContext, context::parse_grpc_timeout};
use streamgate_core::{ErrorKind, Failure};
use tonic::Status;
use tower::Service as _;

use crate::{
    access::{Gatekeeper, Refused},
    audit::{Auditor, Watched},
    observe::{Observer, Protocol},
};

/// Where the requests of one service go.
pub(crate) struct Dispatch {
    pub(crate) grpc: Router,
    pub(crate) grpc_names: HashSet<&'static str>,
    pub(crate) grpc_fallback: Option<Router>,
    pub(crate) http: Router,
    pub(crate) gatekeeper: Gatekeeper,
    /// Absent where nothing is noted: a service that a test built by hand.
    pub(crate) auditor: Option<Auditor>,
    pub(crate) observer: Arc<Observer>,
}

impl Dispatch {
    /// Answers one request.
    pub(crate) async fn handle<B>(self: Arc<Self>, request: Request<B>) -> Result<Response<Body>, Infallible>
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let request = request.map(Body::new);
        let observer = Arc::clone(&self.observer);
        let protocol = protocol(request.headers());
        // In a box, or each layer above moves the whole of it.
        let handler = move |request, context| Box::pin(self.route(protocol, request, context));
        Ok(observer.around(protocol, request, handler).await)
    }

    async fn route(self: Arc<Self>, protocol: Protocol, request: Request<Body>, context: RequestContext) -> Response<Body> {
        let is_local = self.grpc_names.contains(service_of(request.uri().path()));
        match (protocol, &self.grpc_fallback) {
            (Protocol::Http, _) => answer(self.http.clone(), request).await,
            (Protocol::Grpc, Some(fallback)) if !is_local => answer(fallback.clone(), request).await,
            (Protocol::GrpcWeb, Some(fallback)) => answer(fallback.clone(), request).await,
            (Protocol::GrpcWeb, None) => {
                let message = "this port speaks gRPC; gRPC-Web is spoken at the gateway";
                Status::from(Failure::new(ErrorKind::NotFound, "grpc_web_elsewhere", message)).into_http()
            }
            (Protocol::Grpc, _) => rpc(self.grpc.clone(), &self.gatekeeper, self.auditor.as_ref(), request, &context).await,
        }
    }
}

async fn rpc(
    routes: Router,
    gatekeeper: &Gatekeeper,
    auditor: Option<&Auditor>,
    request: Request<Body>,
    context: &RequestContext,
) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let watched = auditor.and_then(|auditor| Watched::new(auditor, parts.uri.path(), &context.request_id));
    let caller = match gatekeeper.admit(&mut parts, context).await {
        Ok(caller) => caller,
        Err(Refused { caller, failure }) => {
            if let Some(watched) = watched {
                watched.refused(caller, failure.clone(), body).await;
            }
            return Status::from(failure).into_http();
        }
    };
    let Some(mut watched) = watched else { return within_deadline(routes, Request::from_parts(parts, body)).await };
    let request = Request::from_parts(parts, watched.admitted(caller, body));
    let response = within_deadline(routes, request).await;
    watched.answered(response).await
}

/// The caller does not wait longer than it says, so neither does the handler.
async fn within_deadline(routes: Router, request: Request<Body>) -> Response<Body> {
    let timeout = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_grpc_timeout);
    let answer = answer(routes, request);
    let Some(timeout) = timeout else { return answer.await };
    tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
        Status::from(Failure::new(ErrorKind::DeadlineExceeded, "deadline_exceeded", "the call took longer than its deadline"))
            .into_http()
    })
}

async fn answer(mut routes: Router, request: Request<Body>) -> Response<Body> {
    // A router is always ready.
    routes.call(request).await.unwrap_or_else(|never| match never {})
}

fn protocol(headers: &HeaderMap) -> Protocol {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    match content_type.strip_prefix(b"application/grpc") {
        Some(rest) if rest.starts_with(b"-web") => Protocol::GrpcWeb,
        Some(rest) if rest.is_empty() || rest.starts_with(b"+") || rest.starts_with(b";") => Protocol::Grpc,
        _ => Protocol::Http,
    }
}

/// The service in a path such as `/streamgate.auth.v1.AuthService/Login`.
fn service_of(path: &str) -> &str {
    path.strip_prefix('/').and_then(|rest| rest.split_once('/')).map_or("", |(service, _)| service)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, panic::AssertUnwindSafe};

    use async_trait::async_trait;
    use axum::routing::any;
    use futures::FutureExt as _;
    use http::HeaderValue;
    use streamgate_client::Authenticator;
    use streamgate_core::{Account, Identity, Role, ServiceName, ids::AccountId};
    use streamgate_proto::streamgate::audit::v1::{AuditEntry, AuditOutcome};

    use super::*;
    use crate::Metrics;

    /// Takes everybody for an operator.
    #[derive(Debug)]
    struct Operators;

    #[async_trait]
    impl Authenticator for Operators {
        async fn authenticate(&self, _: &HeaderMap) -> Result<Identity, Failure> {
            Ok(Identity::Account(Account { id: AccountId::new(), role: Role::Operator, wallet: None }))
        }
    }

    /// What is noted of a call that hangs and is dropped, and of one whose handler panics.
    async fn noted_of(method: &str) -> [Vec<AuditEntry>; 2] {
        let path = format!("/streamgate.cache.v1.CacheService/{method}");
        let hanging = Router::new().route(&path, any(pending::<()>));
        let panicking = Router::new().route(&path, any(async || -> () { panic!("a bug in a handler") }));
        let gatekeeper = Gatekeeper::new(Arc::new(Operators));
        let context = RequestContext::from_headers(&HeaderMap::new());
        let mut noted = [Vec::new(), Vec::new()];
        for (routes, entries) in [hanging, panicking].into_iter().zip(&mut noted) {
            let folder = tempfile::tempdir().unwrap();
            let auditor = Auditor::open(folder.path(), ServiceName::Cache, &Metrics::new(ServiceName::Cache)).unwrap();
            let request = Request::builder().uri(&path).body(Body::empty()).unwrap();
            let call = AssertUnwindSafe(rpc(routes, &gatekeeper, Some(&auditor), request, &context)).catch_unwind();
            assert!(call.now_or_never().is_none_or(|panicked| panicked.is_err()));
            *entries = auditor.entries();
        }
        noted
    }

    #[tokio::test]
    async fn a_change_whose_caller_breaks_off_or_whose_handler_panics_is_noted_once_as_unknown() {
        for entries in noted_of("Clear").await {
            let noted: Vec<_> = entries.iter().map(|entry| (entry.outcome(), entry.reason.as_str())).collect();
            assert_eq!(noted, [(AuditOutcome::Failed, "outcome_unknown")]);
            assert!(entries[0].actor.starts_with("account:"), "{}", entries[0].actor);
        }
        assert_eq!(noted_of("GetStats").await, [Vec::new(), Vec::new()], "it changes nothing");
    }

    #[test]
    fn the_content_type_tells_grpc_from_grpc_web_and_from_the_rest() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(value));
            protocol(&headers)
        };
        assert_eq!(of("application/grpc"), Protocol::Grpc);
        assert_eq!(of("application/grpc+proto"), Protocol::Grpc);
        assert_eq!(of("application/grpc-web-text"), Protocol::GrpcWeb);
        assert_eq!(of("application/grpcx"), Protocol::Http);
        assert_eq!(of("application/json"), Protocol::Http);
        assert_eq!(protocol(&HeaderMap::new()), Protocol::Http);
    }
}
