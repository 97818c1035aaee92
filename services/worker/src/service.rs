//! From configuration to a running service, in steps.

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::worker::v1::worker_service_server::WorkerServiceServer;
use streamgate_runtime::{Boot, BoxError, OnFailure, Service};
use streamgate_store::{Database, Migrations};

use crate::{
    Config, Handler, Metrics,
    engine::{Queue, Runner, Scheduler},
    jobs::Registry,
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

        // 2. The queue, and what its jobs do.
        let path = boot.common.database_path(ServiceName::Worker);
        let queue = Queue::new(Database::open(&path, &MIGRATIONS).await?);
        let registry = Registry::standard(&boot.mesh, &boot.config);

        // 3. RPCs, the workers and the clock. Both tasks may be started again: the rows remember.
        let runner = Runner::new(queue.clone(), registry.clone(), metrics.clone(), boot.config);
        let scheduler = Scheduler::new(queue.clone(), registry.clone(), metrics.clone());
        let (work_stop, clock_stop) = (boot.stop.clone(), boot.stop);
        Ok(Service::new()
            .grpc(WorkerServiceServer::new(Handler::new(queue, registry, metrics)))
            .task("jobs", OnFailure::LogAndRestart, move || runner.clone().run(work_stop.clone()))
            .task("schedules", OnFailure::LogAndRestart, move || scheduler.clone().run(clock_stop.clone())))
    }
}
