//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::metadata::v1::metadata_service_server::MetadataServiceServer;
use streamgate_runtime::{Boot, BoxError, OnFailure, Service};
use streamgate_store::{Database, Migrations, Outbox, event_server};

use crate::{Config, Handler, Metrics, engine::Engine};

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// The metadata service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Metadata;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. The database and what leaves it.
        let path = boot.common.database_path(ServiceName::Metadata);
        let db = Database::open(&path, &MIGRATIONS).await?;
        let outbox = Outbox::new(db.clone(), ServiceName::Metadata);

        // 3. The behaviour, its RPCs, and the events it hears.
        let engine = Engine::new(db, outbox.clone(), metrics, boot.config);
        Ok(Service::new()
            .grpc(MetadataServiceServer::new(Handler::new(engine.clone())))
            .grpc(event_server(Arc::new(engine)))
            // Events wait in the outbox while the relay is away: starting it again loses nothing.
            .task("relay", OnFailure::LogAndRestart, move || outbox.relay(boot.mesh.clone(), boot.stop.clone())))
    }
}
