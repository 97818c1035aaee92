//! The service with neighbours that are faked.
#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt as _, stream};
use streamgate_core::{Account, Caller, Identity, Role, ServiceName, ids::AccountId};
use streamgate_monitor::{
    AuditHandler, Config, Handler, MIGRATIONS, Metrics,
    engine::{
        GasSource, Poller, Probe, Reachable, Seen, SystemWatch, Watching,
        alerts::{AlertStore, Evaluator},
        audit::Audit,
        logs::Logs,
    },
};
use streamgate_proto::streamgate::monitor::v1::{self as pb, monitor_service_server::MonitorService as _};
use streamgate_store::{Database, Outbox};
use tokio::sync::watch;
use tonic::Request;

/// How long a state may take to come about.
pub const BOUND: Duration = Duration::from_secs(10);
/// Address of the one instance that each service has unless said otherwise.
pub const FIRST: &str = "10.0.0.1:1";

type Answer = Option<Result<Reachable, String>>;

/// Services that serve unless said otherwise. An answer of `None` never comes.
#[derive(Debug, Default)]
pub struct Fake {
    pub health: watch::Sender<BTreeMap<(ServiceName, String), Answer>>,
    pub metrics: Mutex<BTreeMap<ServiceName, Result<String, String>>>,
    pub instances: Mutex<BTreeMap<ServiceName, Vec<String>>>,
    pub gas: Mutex<BTreeMap<u64, f64>>,
}

impl Fake {
    /// From now on the first instance of `service` answers this.
    pub fn answers(&self, service: ServiceName, answer: Answer) {
        self.instance_answers(service, FIRST, answer);
    }

    pub fn instance_answers(&self, service: ServiceName, address: &str, answer: Answer) {
        self.health.send_modify(|health| drop(health.insert((service, address.to_owned()), answer)));
    }

    fn now(health: &BTreeMap<(ServiceName, String), Answer>, service: ServiceName, address: &str) -> Answer {
        health.get(&(service, address.to_owned())).cloned().unwrap_or(Some(Ok(Reachable::Serving)))
    }
}

#[async_trait]
impl Probe for Fake {
    async fn instances(&self, service: ServiceName) -> Result<Vec<String>, String> {
        Ok(self.instances.lock().unwrap().get(&service).cloned().unwrap_or_else(|| vec![FIRST.to_owned()]))
    }

    async fn check(&self, service: ServiceName, address: &str) -> Result<Reachable, String> {
        let answer = Self::now(&self.health.borrow(), service, address);
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    fn watch(&self, service: ServiceName, address: &str) -> Watching {
        let (told, address) = (self.health.subscribe(), address.to_owned());
        stream::unfold((told, address, true), move |(mut told, address, is_first)| async move {
            if !is_first {
                told.changed().await.ok()?;
            }
            let answer = Self::now(&told.borrow_and_update(), service, &address);
            match answer {
                Some(answer) => Some((answer, (told, address, false))),
                None => std::future::pending().await,
            }
        })
        .boxed()
    }

    async fn metrics(&self, service: ServiceName, _: &str) -> Result<String, String> {
        self.metrics.lock().unwrap().get(&service).cloned().unwrap_or_else(|| Ok("up 1\n".into()))
    }
}

#[async_trait]
impl GasSource for Fake {
    async fn gwei(&self, chain: u64) -> Option<f64> {
        self.gas.lock().unwrap().get(&chain).copied()
    }
}

/// The service's rows at `path`, or on the server that stands for it.
pub async fn open(path: &Path) -> Database {
    streamgate_testkit::open_rows!(path, &MIGRATIONS)
}

/// Statements that read a whole table, and why they may.
pub const READ_WHOLE: &[(&str, &str)] = &[
    ("FROM logs WHERE level >=", "reads from the newest line until a page is full, in a log of a bounded number of lines"),
    ("FROM logs WHERE searched LIKE", "reads from the newest line until a page is full, in a log of a bounded number of lines"),
    ("SELECT COUNT(*), CAST(COALESCE(SUM(size_bytes)", "counts a log of a bounded number of lines by an index, once in a while"),
];

/// The service's parts over a database of their own.
pub struct Rig {
    pub fake: Arc<Fake>,
    pub poller: Poller,
    pub handler: Handler,
    pub audit: AuditHandler,
    pub evaluator: Evaluator,
    pub metrics: Metrics,
    pub logs: Logs,
    pub db: Database,
    pub folder: tempfile::TempDir,
}

impl Rig {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder.path().join("monitor.db")).await;
        let config = Config { health_interval_ms: 20, health_timeout_ms: 50, ..config };
        let (fake, seen, metrics) = (Arc::new(Fake::default()), Seen::new(0), Metrics::default());
        let alerts = AlertStore::new(db.clone(), Outbox::new(ServiceName::Monitor));
        let system = SystemWatch::new(folder.path());
        let interval = config.metrics_interval_ms;
        let evaluator = Evaluator::new(
            config.rules.clone(),
            alerts.clone(),
            seen.clone(),
            system.clone(),
            fake.clone(),
            metrics.clone(),
            interval,
        );
        let logs = Logs::new(db.clone(), config.clone());
        let handler = Handler {
            seen: seen.clone(),
            system,
            alerts,
            evaluator: evaluator.clone(),
            logs: logs.clone(),
            metrics: metrics.clone(),
            stop: streamgate_runtime::CancellationToken::new(),
        };
        let audit = AuditHandler { audit: Audit::new(db.clone()), metrics: metrics.clone() };
        let poller = Poller::new(fake.clone(), seen, metrics.clone(), config);
        Self { fake, poller, handler, audit, evaluator, metrics, logs, db, folder }
    }

    pub async fn health(&self) -> pb::GetHealthResponse {
        self.handler.get_health(Request::new(pb::GetHealthRequest {})).await.unwrap().into_inner()
    }

    pub async fn metrics_of(&self, service: &str) -> Result<Vec<pb::ServiceMetrics>, tonic::Status> {
        let request = Request::new(pb::GetMetricsRequest { service: service.into() });
        Ok(self.handler.get_metrics(request).await?.into_inner().services)
    }

    pub fn exposed(&self) -> String {
        let mut registry = prometheus_client::registry::Registry::default();
        self.metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }
}

/// A request of an operator.
pub fn of_operator<T>(message: T) -> (Request<T>, AccountId) {
    let id = AccountId::new();
    let account = Account { id: id.clone(), role: Role::Operator, wallet: None };
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller { identity: Identity::Account(account), request_id: "r".into() });
    (request, id)
}
