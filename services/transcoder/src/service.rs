//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::transcoder::v1::transcoder_service_server::TranscoderServiceServer;
use streamgate_runtime::{Boot, BoxError, Service};
use streamgate_store::Migrations;

use crate::{Config, Engine, Handler, Metrics, Worker};

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// The transcoder service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Transcoder;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. The database, what leaves it, and the media.
        let db = boot.database(&MIGRATIONS).await?;
        let bus = boot.events(&db);
        let blobs = boot.blobs().await?;

        // 3. The behaviour, and the worker that runs jobs.
        let engine = Engine::new(db, bus.outbox(), blobs, metrics, &boot.config);
        let worker = Worker::new(engine.clone(), boot.config, &boot.common.data_dir);

        // 4. The RPCs, the events it hears, and what it needs to be ready.
        let (readiness, sweeper) = (worker.clone(), engine.clone());
        let (stop, sweep_stop) = (boot.stop.clone(), boot.stop.clone());
        Ok(Service::new()
            .grpc(TranscoderServiceServer::new(Handler::new(engine.clone(), worker.clone())))
            .events(bus.hears(Arc::new(engine)), boot.stop)
            .ready_check("encoder", move || {
                let worker = readiness.clone();
                async move { worker.readiness() }
            })
            // Jobs wait in the queue while the worker is away.
            .restarting_task("worker", move || worker.clone().run(stop.clone()))
            .restarting_task("sweep", move || crate::worker::sweep(sweeper.clone(), sweep_stop.clone())))
    }
}
