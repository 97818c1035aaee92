//! From configuration to a running service, in steps.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_chain::{Chains, rpc::Limits};
use streamgate_core::{ServiceName, time::now_ms};
use streamgate_proto::streamgate::{
    audit::v1::audit_service_server::AuditServiceServer, monitor::v1::monitor_service_server::MonitorServiceServer,
};
use streamgate_runtime::{Boot, BoxError, CancellationToken, Service};
use streamgate_store::Migrations;

use crate::{
    AuditHandler, Config, Error, Handler, Metrics,
    engine::{
        MeshProbe, Poller, Seen, SystemWatch,
        alerts::{AlertStore, Evaluator},
        audit::Audit,
        logs::Logs,
    },
};

/// Between two looks at what is kept for too long.
const PRUNE_INTERVAL: Duration = Duration::from_secs(60);

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// The monitor service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Monitor;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. What is kept.
        let db = boot.database(&MIGRATIONS).await?;
        let bus = boot.events(&db);
        let alerts = AlertStore::new(db.clone(), bus.outbox());
        let logs = Logs::new(db.clone(), boot.config.clone());
        let audit = AuditHandler { audit: Audit::new(db), metrics: metrics.clone() };

        // 3. What was seen, who looks, and who compares.
        let seen = Seen::new(now_ms());
        let system = SystemWatch::new(&boot.common.data_dir);
        let probe = Arc::new(MeshProbe::new(boot.mesh.clone())?);
        let poller = Poller::new(probe, seen.clone(), metrics.clone(), boot.config.clone());
        let evaluator = Evaluator::new(
            boot.config.rules.clone(),
            alerts.clone(),
            seen.clone(),
            system.clone(),
            Arc::new(Chains::connect(&boot.common.chains, &Limits::default())?),
            metrics.clone(),
            boot.config.metrics_interval_ms,
        );
        let handler = Handler {
            seen,
            system: system.clone(),
            alerts: alerts.clone(),
            evaluator: evaluator.clone(),
            logs: logs.clone(),
            metrics: metrics.clone(),
            stop: boot.stop.clone(),
        };

        // 4. RPCs and the rounds. Looking never fails: a service that can't be asked is an answer
        // too.
        let (stop, interval) = (boot.stop, boot.config.alert_interval());
        let prune_stop = stop.clone();
        Ok(Service::new()
            .grpc(MonitorServiceServer::new(handler))
            .grpc(AuditServiceServer::new(audit))
            .events(bus, stop.clone())
            .task("health", poller.clone().watch_health(stop.clone()))
            .task("metrics", poller.watch_metrics(stop.clone()))
            .task("system", system.watch(metrics, stop.clone()))
            .task("gas", evaluator.clone().watch_gas(stop.clone()))
            .task("alerts", evaluator.watch(interval, stop))
            .restarting_task("prune", move || prune(logs.clone(), alerts.clone(), prune_stop.clone())))
    }
}

async fn prune(logs: Logs, alerts: AlertStore, stop: CancellationToken) -> Result<(), Error> {
    let mut ticks = tokio::time::interval(PRUNE_INTERVAL);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let pruned = logs.prune().await?;
        alerts.prune(now_ms()).await?;
        tracing::debug!(pruned, "old log lines are forgotten");
    }
    Ok(())
}
