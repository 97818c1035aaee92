//! What a built service consists of.

use std::{borrow::Cow, convert::Infallible, fmt, future::Future, sync::Arc};

use axum::{Router, response::IntoResponse};
use futures::future::BoxFuture;
use http::Request;
use streamgate_client::Authenticator;
use streamgate_store::EventBus;
use tokio_util::sync::CancellationToken;
use tonic::{body::Body, server::NamedService, service::RoutesBuilder};

use crate::tasks::{Task, TaskOutcome};

type ReadyOutcome = BoxFuture<'static, Result<(), String>>;

/// A named question whose answer decides whether the service is ready.
pub(crate) struct ReadyCheck {
    pub(crate) name: Cow<'static, str>,
    pub(crate) ask: Box<dyn Fn() -> ReadyOutcome + Send + Sync>,
}

/// A service as it was built: handlers, routes, tasks. The runtime serves it.
#[derive(Default)]
pub struct Service {
    pub(crate) routes: RoutesBuilder,
    pub(crate) grpc_names: Vec<&'static str>,
    pub(crate) http: Option<Router>,
    pub(crate) grpc_fallback: Option<Router>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) on_stop: Vec<BoxFuture<'static, ()>>,
    pub(crate) checks: Vec<ReadyCheck>,
    pub(crate) authenticator: Option<Arc<dyn Authenticator>>,
}

impl Service {
    /// A service that does nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds the handlers of a contract.
    #[must_use]
    pub fn grpc<S>(mut self, handlers: S) -> Self
    where
        S: tower::Service<Request<Body>, Error = Infallible> + NamedService + Clone + Send + Sync + 'static,
        S::Response: IntoResponse,
        S::Future: Send + 'static,
    {
        self.routes.add_service(handlers);
        self.grpc_names.push(S::NAME);
        self
    }

    /// Adds HTTP routes beside `/health`, `/ready` and `/metrics`. They authenticate for themselves.
    #[must_use]
    pub fn http(mut self, routes: Router) -> Self {
        self.http = Some(routes);
        self
    }

    /// Takes every gRPC request for a service not added here, and every gRPC-Web request.
    #[must_use]
    pub fn grpc_fallback(mut self, routes: Router) -> Self {
        self.grpc_fallback = Some(routes);
        self
    }

    /// Adds a background task without which the service is worth nothing: its failure stops the process. It
    /// should end soon after `Boot::stop` is cancelled.
    #[must_use]
    pub fn task<F>(mut self, name: impl Into<Cow<'static, str>>, future: F) -> Self
    where
        F: Future + Send + 'static,
        F::Output: TaskOutcome,
    {
        self.tasks.push(Task::once(name.into(), future));
        self
    }

    /// Adds a background task whose failure is logged, and which `make` makes anew after a while. It should end
    /// soon after `Boot::stop` is cancelled.
    #[must_use]
    pub fn restarting_task<M, F>(mut self, name: impl Into<Cow<'static, str>>, make: M) -> Self
    where
        M: FnMut() -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: TaskOutcome,
    {
        self.tasks.push(Task::restarting(name.into(), make));
        self
    }

    /// Takes part in the events: carries them until `stop`, takes deliveries, and answers operators.
    /// Events wait in the database while it is away, so starting it again loses nothing.
    #[must_use]
    pub fn events(self, bus: EventBus, stop: CancellationToken) -> Self {
        let service = self.grpc(bus.admin());
        let service = match bus.deliveries() {
            Some(deliveries) => service.grpc(deliveries),
            None => service,
        };
        service.restarting_task("events", move || bus.run(stop.clone()))
    }

    /// Runs a future when everything else has stopped.
    #[must_use]
    pub fn on_stop(mut self, last: impl Future<Output = ()> + Send + 'static) -> Self {
        self.on_stop.push(Box::pin(last));
        self
    }

    /// Replaces the mesh's authenticator.
    #[must_use]
    pub fn authenticator(mut self, authenticator: Arc<dyn Authenticator>) -> Self {
        self.authenticator = Some(authenticator);
        self
    }

    /// Adds something the service needs to be ready: `ask` gives `Err` with a reason while it is missing.
    #[must_use]
    pub fn ready_check<F, Fut>(mut self, name: impl Into<Cow<'static, str>>, ask: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), String>> + Send + 'static,
    {
        self.checks.push(ReadyCheck { name: name.into(), ask: Box::new(move || Box::pin(ask())) });
        self
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").field("grpc", &self.grpc_names).field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}
