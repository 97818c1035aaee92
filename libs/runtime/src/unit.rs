//! One service that is being served.

use std::{
    collections::BTreeSet,
    fmt,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::future::BoxFuture;
use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use streamgate_proto::FILE_DESCRIPTOR_SET;
use tokio::{
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::RoutesBuilder;

use crate::{
    Metrics, Service,
    access::Gatekeeper,
    audit::{self, Auditor},
    dispatch::Dispatch,
    health::Health,
    observe::Observer,
    server,
};

/// Contracts that every service serves beside its own.
const HEALTH: &str = "grpc.health.v1.Health";
const REFLECTION: [&str; 2] = ["grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"];

/// What the last steps are given of the time to stop, which requests and tasks would use up; a quarter of a
/// short one.
const LAST_STEPS: Duration = Duration::from_secs(2);

/// What a unit is made from.
pub(crate) struct UnitParts {
    pub(crate) name: ServiceName,
    pub(crate) listener: TcpListener,
    pub(crate) mesh: Mesh,
    pub(crate) metrics: Metrics,
    /// Cancelled when the service stops taking requests.
    pub(crate) stop: CancellationToken,
    /// Cancelled when a task failed that the process can't do without.
    pub(crate) fatal: CancellationToken,
    /// Notes who did what; absent in a service that a test built by hand.
    pub(crate) auditor: Option<Auditor>,
}

/// A service with its listener, its connections and its tasks.
pub(crate) struct Unit {
    name: ServiceName,
    health: Arc<Health>,
    server: JoinHandle<()>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Ends requests and tasks that did not end when they should.
    kill: CancellationToken,
    /// Behind a lock only so that a unit can be shared between threads.
    on_stop: Mutex<Vec<BoxFuture<'static, ()>>>,
}

impl Unit {
    /// Serves the service; it is not ready yet.
    pub(crate) async fn serve(parts: UnitParts, service: Service) -> Result<Self, String> {
        let UnitParts { name, listener, mesh, metrics, stop, fatal, auditor } = parts;
        let Service { mut routes, grpc_names, http, grpc_fallback, tasks, on_stop, checks, authenticator } = service;
        let (reporter, health_service) = tonic_health::server::health_reporter();
        let health = Health::starting(name, checks, grpc_names.clone(), metrics.clone(), reporter).await;
        routes.add_service(health_service);
        add_reflection(&mut routes, &grpc_names, grpc_fallback.is_some())?;
        let dispatch = Arc::new(Dispatch {
            grpc: routes.routes().prepare().into_axum_router(),
            grpc_names: grpc_names.into_iter().chain([HEALTH]).chain(REFLECTION).collect(),
            grpc_fallback,
            http: http.unwrap_or_default().merge(health.routes()),
            gatekeeper: Gatekeeper::new(authenticator.unwrap_or_else(|| mesh.authenticator())),
            auditor: auditor.clone(),
            observer: Arc::new(Observer::new(name, &metrics)),
        });
        let (tracker, kill) = (TaskTracker::new(), CancellationToken::new());
        let server = tokio::spawn(server::serve(listener, dispatch, stop.clone(), kill.clone()));
        tracker.spawn(Arc::clone(&health).keep_following(stop.clone()));
        if let Some(auditor) = auditor {
            tracker.spawn(audit::ship(auditor, mesh.clone(), stop.clone()));
        }
        for task in tasks {
            let (task, kill) = (task.run(name, stop.clone(), fatal.clone()), kill.clone());
            tracker.spawn(async move { kill.run_until_cancelled(task).await });
        }
        tracker.close();
        Ok(Self { name, health, server, tasks: tracker, stop, kill, on_stop: Mutex::new(on_stop) })
    }

    pub(crate) const fn name(&self) -> ServiceName {
        self.name
    }

    pub(crate) async fn ready(&self) {
        self.health.serving().await;
    }

    pub(crate) async fn not_ready(&self) {
        self.health.stopping().await;
    }

    /// Takes no more requests, finishes those under way and the tasks, then what was to be last: all of it
    /// until `end`.
    pub(crate) async fn stop(self, end: Instant) {
        let Self { name, health, server, tasks, stop, kill, on_stop } = self;
        let last_steps = LAST_STEPS.min(end.saturating_duration_since(Instant::now()) / 4);
        let cut = end - last_steps;
        stop.cancel();
        health.end_watches().await;
        let mut server = pin!(server);
        let served = timeout_at(cut, &mut server).await;
        if timeout_at(cut, tasks.wait()).await.is_err() {
            tracing::warn!(service = %name, "some tasks did not finish in time");
        }
        kill.cancel();
        let served = match served {
            Ok(served) => served,
            Err(_) => server.await,
        };
        if served.is_err() {
            tracing::error!(service = %name, "the server failed while stopping");
        }
        tasks.wait().await;
        let last = futures::future::join_all(on_stop.into_inner().unwrap_or_else(PoisonError::into_inner));
        if timeout_at(end, last).await.is_err() {
            tracing::warn!(service = %name, "the last steps did not finish in time");
        }
        tracing::info!(service = %name, "stopped");
    }
}

impl fmt::Debug for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Unit").field(&self.name).finish()
    }
}

/// Adds reflection that lists the service's own contracts; at the edge, those of all services.
fn add_reflection(routes: &mut RoutesBuilder, own: &[&'static str], is_edge: bool) -> Result<(), String> {
    let all = ServiceName::ALL.map(ServiceName::grpc_service);
    let names: BTreeSet<&str> =
        own.iter().copied().chain(all.into_iter().filter(|_| is_edge)).chain([HEALTH]).chain(REFLECTION).collect();
    let configured = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        names.iter().fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let failed = |error| format!("its contracts can't be described: {error}");
    routes.add_service(configured().build_v1().map_err(failed)?);
    routes.add_service(configured().build_v1alpha().map_err(failed)?);
    Ok(())
}
