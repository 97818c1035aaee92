//! One service's end of the events.

use std::{fmt, sync::Arc, time::Duration};

use streamgate_client::Mesh;
use streamgate_core::{ServiceName, error::chain, events::Settings};
use streamgate_proto::streamgate::events::v1::{
    event_admin_service_server::EventAdminServiceServer, event_service_server::EventServiceServer,
};
use tokio::{sync::watch, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    Admin, EventHandler, EventMetrics, Events, Outbox, Patience,
    incoming::Incoming,
    nats,
    outgoing::{self, Addressee, Delivery, Outgoing, Route},
    purge, queue,
};
use crate::{database::Database, error::Result};

/// How often it is measured how much waits.
const OBSERVE_EVERY: Duration = Duration::from_secs(5);
/// How often old rows are dropped.
const PURGE_EVERY: Duration = Duration::from_secs(600);

/// Carries a service's events out, and others' events in. Cheap to clone.
#[derive(Clone)]
pub struct EventBus {
    db: Database,
    own: ServiceName,
    mesh: Mesh,
    settings: Settings,
    patience: Patience,
    metrics: EventMetrics,
    handler: Option<Arc<dyn EventHandler>>,
    delivery: Option<Arc<dyn Delivery>>,
    arrived: watch::Sender<u64>,
}

impl fmt::Debug for EventBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBus").field("own", &self.own).field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl EventBus {
    /// The events of `own`, whose rows are in `db`.
    #[must_use]
    pub fn new(db: Database, own: ServiceName, mesh: Mesh, settings: &Settings) -> Self {
        Self {
            db,
            own,
            mesh,
            settings: settings.clone(),
            patience: Patience::default(),
            metrics: EventMetrics::default(),
            handler: None,
            delivery: None,
            arrived: watch::Sender::new(0),
        }
    }

    /// Says what the service does with the events that it hears.
    #[must_use]
    pub fn hears(mut self, handler: Arc<dyn EventHandler>) -> Self {
        self.handler = Some(handler);
        self
    }

    /// Changes how long an event is tried.
    #[must_use]
    pub const fn patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// Reaches consumers another way than through the mesh; tests do.
    #[must_use]
    pub fn through(mut self, delivery: Arc<dyn Delivery>) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// What can be measured.
    #[must_use]
    pub const fn metrics(&self) -> &EventMetrics {
        &self.metrics
    }

    /// Adds events to changes of the same database.
    #[must_use]
    pub fn outbox(&self) -> Outbox {
        Outbox::through(self.own, if self.has_broker() { Route::Broker } else { Route::Grpc })
    }

    /// The gRPC service that takes events in; absent when the service hears none.
    #[must_use]
    pub fn deliveries(&self) -> Option<EventServiceServer<Events>> {
        self.handler.clone().map(|handler| EventServiceServer::new(Events::new(handler).remembered_in(self.db.clone())))
    }

    /// The gRPC service for operators: the log of events, dead letters, replay.
    #[must_use]
    pub fn admin(&self) -> EventAdminServiceServer<Admin> {
        EventAdminServiceServer::new(self.admin_side())
    }

    pub(super) fn admin_side(&self) -> Admin {
        Admin::new(self.db.clone(), self.own, self.mesh.clone(), self.arrived.clone())
    }

    /// Carries events until `stop`: out at once after their commit, again with growing waits while
    /// a consumer is away, and after a restart from where it was; in, in order for each subject. A
    /// consumer that is away holds back no other.
    pub fn run(&self, stop: CancellationToken) -> impl Future<Output = Result<()>> + Send + 'static + use<> {
        let bus = self.clone();
        async move {
            if bus.has_broker() {
                Box::pin(bus.run_with_broker(&stop)).await;
            } else {
                outgoing::take_back_from_broker(&bus.db).await?;
                let mesh: Arc<dyn Delivery> = bus.delivery.clone().unwrap_or_else(|| Arc::new(bus.mesh.clone()));
                let others = ServiceName::ALL.map(Addressee::One);
                tokio::join!(bus.send(&others, &mesh, &stop), bus.handle(&stop), bus.keep_house(&stop));
            }
            Ok(())
        }
    }

    fn has_broker(&self) -> bool {
        !self.settings.nats_url.is_empty()
    }

    fn retain_ms(&self) -> i64 {
        i64::from(self.settings.retain_hours) * 60 * 60 * 1000
    }

    async fn run_with_broker(&self, stop: &CancellationToken) {
        let Some(link) = nats::Link::open(&self.settings, self.own, stop).await else { return };
        let publisher = nats::Publisher::new(&link, self.db.clone(), self.retain_ms(), self.metrics.clone());
        let delivery: Arc<dyn Delivery> = Arc::new(publisher.clone());
        // To everybody, and to one when an operator replays.
        let addressees: Vec<_> =
            std::iter::once(Addressee::Everybody).chain(ServiceName::ALL.into_iter().map(Addressee::One)).collect();
        let listen = async {
            if self.handler.is_some() {
                nats::Listener::new(&link, self.db.clone(), self.own, self.arrived.clone()).run(stop).await;
            }
        };
        tokio::join!(
            publisher.keep_verified(stop),
            self.send(&addressees, &delivery, stop),
            listen,
            self.handle(stop),
            self.keep_house(stop)
        );
        link.close().await;
    }

    async fn send(&self, to: &[Addressee], delivery: &Arc<dyn Delivery>, stop: &CancellationToken) {
        let queue = |to: &Addressee| Outgoing { db: self.db.clone(), to: *to, delivery: Arc::clone(delivery) };
        queue::run_all(to.iter().map(queue).collect(), self.patience, &self.metrics, stop).await;
    }

    /// Handles what a broker brought. Without a broker only dead letters of before wait here.
    async fn handle(&self, stop: &CancellationToken) {
        let Some(handler) = self.handler.clone() else { return };
        let queue = Incoming { db: self.db.clone(), own: self.own, handler, arrived: self.arrived.clone() };
        queue::run_all(vec![queue], self.patience, &self.metrics, stop).await;
    }

    async fn keep_house(&self, stop: &CancellationToken) {
        let mut observe = tokio::time::interval(OBSERVE_EVERY);
        observe.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(PURGE_EVERY);
        tidy.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outcome = tokio::select! {
                () = stop.cancelled() => return,
                _ = observe.tick() => self.metrics.observe(&self.db, self.own.as_str()).await,
                _ = tidy.tick() => purge::purge(&self.db, self.retain_ms()).await.map(drop),
            };
            if let Err(error) = outcome {
                tracing::debug!(error = %chain(&error), "events could not be measured or tidied up; trying again later");
            }
        }
    }
}
