//! From configuration to a running service, in steps.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::streaming::v1::streaming_service_server::StreamingServiceServer;
use streamgate_runtime::{Boot, BoxError, OnFailure, Service};
use streamgate_store::{Database, Migrations, event_server, open_blobs};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Handler, Metrics, TitleEvents,
    engine::{Deps, Engine},
    mesh::{MeshTokens, Neighbours},
};

/// Schema of the database, step by step.
pub static MIGRATIONS: Migrations = streamgate_store::migrations!();

/// How often the use of sessions is written down and old ones are dropped.
const TIDY_EVERY: Duration = Duration::from_secs(30);

/// The streaming service.
#[derive(Debug)]
pub struct App;

#[async_trait]
impl streamgate_runtime::App for App {
    const NAME: ServiceName = ServiceName::Streaming;
    type Config = Config;

    async fn build(boot: Boot<Config>) -> Result<Service, BoxError> {
        // 1. Metrics, so that everything below can count.
        let metrics = Metrics::default();
        boot.metrics.registry(|registry| metrics.register(registry));

        // 2. Sessions, media, and the neighbours.
        let database = Database::open(&boot.common.database_path(Self::NAME), &MIGRATIONS).await?;
        let neighbours = Arc::new(Neighbours::new(boot.mesh.clone()));
        let deps = Deps {
            titles: neighbours.clone(),
            gates: neighbours.clone(),
            presentations: neighbours,
            tokens: Arc::new(MeshTokens::new(boot.mesh)),
            blobs: open_blobs(&boot.common.blobs_path())?,
            database,
            metrics,
        };

        // 3. The behaviour, its RPCs, and the events it hears.
        let upkeep_every = Duration::from_secs(boot.config.upkeep_seconds.into());
        let engine = Arc::new(Engine::new(deps, boot.config, &boot.common.public_url));
        let (checked, tidied, flushed) = (Arc::clone(&engine), Arc::clone(&engine), Arc::clone(&engine));
        let (stop, stop_too) = (boot.stop.clone(), boot.stop);
        Ok(Service::new()
            .grpc(StreamingServiceServer::new(Handler::new(Arc::clone(&engine))))
            .grpc(event_server(Arc::new(TitleEvents::new(engine))))
            // While they are away, each session is still checked when it is used.
            .task("gate checks", OnFailure::LogAndRestart, move || check_gates(Arc::clone(&checked), upkeep_every, stop.clone()))
            .task("session upkeep", OnFailure::LogAndRestart, move || tidy(Arc::clone(&tidied), stop_too.clone()))
            .on_stop(async move {
                if let Err(error) = flushed.flush().await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "the last use of sessions was not written down");
                }
            }))
    }
}

async fn check_gates(engine: Arc<Engine>, every: Duration, stop: CancellationToken) -> Result<(), BoxError> {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        engine.check_in_use().await?;
    }
    Ok(())
}

async fn tidy(engine: Arc<Engine>, stop: CancellationToken) -> Result<(), BoxError> {
    let mut ticks = interval(TIDY_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        engine.tidy().await?;
    }
    Ok(())
}
