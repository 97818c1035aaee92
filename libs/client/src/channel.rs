//! One service's channel: deadline, retries, breaker, trace, credential.

use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Request, Response, header::HOST, request::Parts};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use streamgate_core::{ErrorKind, Failure, ServiceName, time::now_ms};
use tonic::{Status, body::Body, transport::Channel};
use tower::Service;

use crate::{
    breaker::Breaker,
    budget::RetryBudget,
    context,
    credential::{self, Acting, MeshSecret},
    endpoint::Broken,
    endpoints::{Endpoints, Unsent},
    methods::{Method, Methods},
};

/// How long a unary call may take, retries included, when the caller does not say.
const UNARY_DEADLINE: Duration = Duration::from_secs(10);
/// The most that a caller may ask for.
const LONGEST_DEADLINE: Duration = Duration::from_secs(300);
/// How often a call is sent again.
const RETRIES: u32 = 2;
/// Longest wait before the first retry; the next ones wait longer. The wait is random.
const FIRST_WAIT_MS: u64 = 40;
/// Largest unary message in either direction, with room for its frame.
const MAX_MESSAGE: usize = 4 * 1024 * 1024 + 1024;

/// Where one service is and how its connection fares; shared by all its channels.
pub(crate) struct Route {
    name: ServiceName,
    url: String,
    endpoints: Endpoints,
    methods: Arc<Methods>,
    retries: RetryBudget,
}

impl Route {
    pub(crate) fn new(name: ServiceName, url: String, endpoints: Endpoints, methods: Arc<Methods>) -> Self {
        Self { name, url, endpoints, methods, retries: RetryBudget::new() }
    }

    /// A route to one instance of the same service. Who takes it watches the instance at a pace of its own:
    /// a breaker would only hide that it is back.
    pub(crate) fn to_instance(&self, url: String, channel: Channel) -> Self {
        let endpoints = Endpoints::one(channel, Breaker::that_never_opens());
        Self::new(self.name, url, endpoints, Arc::clone(&self.methods))
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Who a channel says it is.
pub(crate) struct Credential {
    pub(crate) secret: MeshSecret,
    pub(crate) own: ServiceName,
    pub(crate) acting: Acting,
    pub(crate) request_id: Option<String>,
}

/// A channel to one service, for generated clients. Cheap to clone.
///
/// Unary calls end within ten seconds and are sent again when they never reached the service, or
/// when sending them twice does no harm and few others had to be. Streams are sent once and have no deadline.
#[derive(Clone)]
pub struct MeshChannel {
    route: Arc<Route>,
    credential: Option<Arc<Credential>>,
}

impl MeshChannel {
    pub(crate) const fn new(route: Arc<Route>, credential: Option<Arc<Credential>>) -> Self {
        Self { route, credential }
    }

    async fn run(self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let (mut parts, body) = request.into_parts();
        self.prepare(&mut parts.headers);
        let method = self.route.methods.of(parts.uri.path());
        if !method.unary {
            let sent = self.route.endpoints.send(Request::from_parts(parts, body), false).await;
            return sent.map_err(|unsent| self.failed(unsent));
        }
        let deadline = deadline_of(&mut parts.headers);
        match tokio::time::timeout(deadline, self.unary(method, parts, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(self.too_late()),
        }
    }

    fn prepare(&self, headers: &mut HeaderMap) {
        headers.remove(HOST);
        let request_id = self.credential.as_ref().and_then(|credential| credential.request_id.as_deref());
        context::inject(headers, request_id);
        if let Some(credential) = &self.credential {
            credential::attach(headers, &credential.secret, credential.own, &credential.acting, now_ms());
        }
    }

    async fn unary(&self, method: Method, parts: Parts, body: Body) -> Result<Response<Body>, Status> {
        let message = gather(body).await?.to_bytes();
        let mut attempt = 0;
        loop {
            let error = match self.attempt(method, parts.clone(), message.clone()).await {
                Ok(response) => {
                    self.route.retries.save();
                    return Ok(response);
                }
                Err(error) => error,
            };
            let may_repeat = || match error.again {
                Again::InVain => false,
                Again::Freely => true,
                Again::IfHarmless => method.repeatable && self.route.retries.take(),
            };
            if attempt == RETRIES || !may_repeat() {
                return Err(error.status);
            }
            let longest = FIRST_WAIT_MS << attempt;
            tokio::time::sleep(Duration::from_millis(rand::random_range(longest / 4..=longest))).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, method: Method, parts: Parts, message: Bytes) -> Result<Response<Body>, Attempt> {
        let request = Request::from_parts(parts, Body::new(Full::new(message)));
        let sent = self.route.endpoints.send(request, method.repeatable).await;
        let response = sent.map_err(|unsent| Attempt { again: Again::after(unsent), status: self.failed(unsent) })?;
        let (parts, body) = response.into_parts();
        let body = gather(body).await.map_err(|status| {
            let is_broken = status.code() == tonic::Code::Unavailable;
            Attempt { again: if is_broken { Again::IfHarmless } else { Again::InVain }, status }
        })?;
        Ok(Response::from_parts(parts, Body::new(body)))
    }

    fn failed(&self, unsent: Unsent) -> Status {
        tracing::debug!(service = %self.route.name, why = ?unsent, "call failed");
        match unsent {
            Unsent::NobodyAnswers | Unsent::LeftAlone | Unsent::Silent => self.unavailable("does not answer"),
            Unsent::Broken(Broken::Unreachable) => self.unavailable("can't be reached"),
            Unsent::Broken(Broken::Off) => self.unavailable("broke the connection off"),
            Unsent::Broken(Broken::TooLate) => self.too_late(),
        }
    }

    fn too_late(&self) -> Status {
        let message = format!("{} did not answer in time", self.route.name);
        Failure::new(ErrorKind::DeadlineExceeded, "deadline_exceeded", message).into()
    }

    fn unavailable(&self, what: &str) -> Status {
        let message = format!("the {} service {what}; try again soon", self.route.name);
        Failure::new(ErrorKind::Unavailable, "service_unavailable", message).retry_after(Duration::from_secs(1)).into()
    }
}

/// How one attempt failed.
struct Attempt {
    again: Again,
    status: Status,
}

/// Whether a call may be sent again.
enum Again {
    /// It would fail for the same reason.
    InVain,
    /// The service certainly saw nothing of it, so it is no load, however often it is sent.
    Freely,
    /// The connection failed, not the service, which may have seen it.
    IfHarmless,
}

impl Again {
    const fn after(unsent: Unsent) -> Self {
        match unsent {
            Unsent::LeftAlone | Unsent::Broken(Broken::TooLate) => Self::InVain,
            Unsent::NobodyAnswers | Unsent::Broken(Broken::Unreachable) => Self::Freely,
            Unsent::Silent | Unsent::Broken(Broken::Off) => Self::IfHarmless,
        }
    }
}

/// Reads a unary message, trailers included, up to the largest one taken.
async fn gather(body: Body) -> Result<http_body_util::Collected<Bytes>, Status> {
    Limited::new(body, MAX_MESSAGE).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            let message = "a message may be at most 4 MiB";
            return Failure::new(ErrorKind::ResourceExhausted, "message_too_large", message).into();
        }
        match error.downcast::<Status>() {
            Ok(status) if status.code() != tonic::Code::Unknown => *status,
            _ => Failure::new(ErrorKind::Unavailable, "connection_broken", "the connection broke off; try again").into(),
        }
    })
}

/// The caller's deadline or ours. The service is told of it.
fn deadline_of(headers: &mut HeaderMap) -> Duration {
    let given = headers.get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(context::parse_grpc_timeout);
    let deadline = given.unwrap_or(UNARY_DEADLINE).min(LONGEST_DEADLINE);
    if let Ok(value) = HeaderValue::from_str(&format!("{}m", deadline.as_millis())) {
        headers.insert("grpc-timeout", value);
    }
    deadline
}

impl Service<Request<Body>> for MeshChannel {
    type Response = Response<Body>;
    type Error = Status;
    type Future = BoxFuture<'static, Result<Response<Body>, Status>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().run(request))
    }
}

impl fmt::Debug for MeshChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MeshChannel").field("service", &self.route.name).field("url", &self.route.url).finish_non_exhaustive()
    }
}
