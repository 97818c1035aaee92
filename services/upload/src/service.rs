//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::upload::v1::upload_service_server::UploadServiceServer;
use streamgate_runtime::{Boot, BoxError, Service};
use streamgate_store::Migrations;

use crate::{
    Config, Handler, Metrics,
    engine::{Engine, MeshTitles, Storage},
};

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// The upload service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Upload;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        metrics.register(&boot.metrics);

        // 2. The stores, and the events that leave them.
        let blobs = boot.blobs().await?;
        let db = boot.database(&MIGRATIONS).await?;
        let bus = boot.events(&db);

        // 3. The behaviour, its RPCs, and the events it hears.
        let titles = Arc::new(MeshTitles::new(boot.mesh.clone()));
        let storage = Storage::of(blobs, &boot.common.blobs_path(), boot.config.disk_reserve_bytes)?;
        let engine = Engine::new(boot.config, db.clone(), bus.outbox(), storage, titles, metrics);
        Ok(Service::new()
            .grpc(UploadServiceServer::new(Handler::new(engine.clone())))
            .events(bus.hears(Arc::new(engine)), boot.stop)
            .on_stop(async move { db.close().await }))
    }
}
