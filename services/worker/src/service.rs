//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::worker::v1::{
    webhook_service_server::WebhookServiceServer, worker_service_server::WorkerServiceServer,
};
use streamgate_runtime::{Boot, BoxError, Service};
use streamgate_store::Migrations;

use crate::{
    Config, Handler, Metrics, WebhookHandler,
    engine::{Lane, Queue, Runner, Scheduler},
    jobs::Registry,
    webhooks::{
        Webhooks,
        guard::{Guard, SystemNames},
        sender::Sender,
    },
};

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// The worker service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Worker;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. The queue, the webhooks on it, and what its jobs do.
        let db = boot.database(&MIGRATIONS).await?;
        let bus = boot.events(&db);
        let queue = Queue::new(db, bus.outbox());
        let webhooks = webhooks(&queue, &boot.config, &metrics)?;
        let registry = Registry::standard(&boot.mesh, &webhooks, &boot.config)?;

        // 3. RPCs, the events it hears, the workers and the clock. All tasks may be started again: the rows remember.
        let runner = |lane| Runner::new(queue.of_lane(lane), registry.clone(), metrics.clone(), boot.config.clone());
        let (jobs, deliveries) = (runner(Lane::House), runner(Lane::Deliveries));
        let scheduler = Scheduler::new(queue.clone(), webhooks.clone(), registry.clone(), metrics.clone());
        let (jobs_stop, deliveries_stop, clock_stop) = (boot.stop.clone(), boot.stop.clone(), boot.stop.clone());
        Ok(Service::new()
            .grpc(WorkerServiceServer::new(Handler::new(queue, registry, metrics)))
            .grpc(WebhookServiceServer::new(WebhookHandler::new(webhooks.clone())))
            .events(bus.hears(Arc::new(webhooks)), boot.stop)
            .restarting_task("jobs", move || jobs.clone().run(jobs_stop.clone()))
            .restarting_task("deliveries", move || deliveries.clone().run(deliveries_stop.clone()))
            .restarting_task("schedules", move || scheduler.clone().run(clock_stop.clone())))
    }
}

fn webhooks(queue: &Queue, config: &Config, metrics: &Metrics) -> Result<Webhooks, BoxError> {
    let guard = if config.webhooks_to_private_addresses {
        tracing::warn!("webhooks may go to private addresses: worker.webhooks_to_private_addresses is for development only");
        Guard::Open
    } else {
        Guard::Public
    };
    let sender = Sender::new(guard, Arc::new(SystemNames))?;
    Ok(Webhooks::new(queue.clone(), sender, guard, metrics.clone(), config.webhook_concurrency)?)
}
