//! From configuration to a running service, in steps.

use std::sync::Arc;

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::metadata::v1::metadata_service_server::MetadataServiceServer;
use streamgate_runtime::{Boot, BoxError, CancellationToken, Service};
use streamgate_store::Migrations;

use crate::{
    Config, Error, Handler, Metrics,
    engine::{Changes, Engine},
};

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
        let db = boot.database(&MIGRATIONS).await?;
        let bus = boot.events(&db);

        // 3. The behaviour, its RPCs, and the events it hears.
        let (changes, tell) = Changes::told(boot.mesh.clone());
        let engine = Engine::new(db, bus.outbox(), metrics, boot.config, changes);
        let (indexer, stop, stopped) = (engine.clone(), boot.stop.clone(), boot.stop.clone());
        Ok(Service::new()
            .grpc(MetadataServiceServer::new(Handler::new(engine.clone())))
            .events(bus.hears(Arc::new(engine)), boot.stop)
            // Away caches are no failure. After a bug it can't begin anew: its queue is gone with it.
            .task("changes", async move { stopped.run_until_cancelled(tell).await.unwrap_or_default() })
            // Titles that an older version wrote are found once it has passed them.
            .restarting_task("index", move || bring_up_to_date(indexer.clone(), stop.clone())))
    }
}

async fn bring_up_to_date(engine: Engine, stop: CancellationToken) -> Result<(), Error> {
    let indexed = stop.run_until_cancelled(engine.index_all()).await.unwrap_or(Ok(0))?;
    if indexed > 0 {
        tracing::info!(indexed, "titles of an older version can be searched");
    }
    Ok(())
}
