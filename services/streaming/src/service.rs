//! From configuration to a running service, in steps.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::streaming::v1::streaming_service_server::StreamingServiceServer;
use streamgate_runtime::{Boot, BoxError, Service};
use streamgate_store::Migrations;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    Config, Handler, Metrics, TitleEvents,
    engine::{Deps, Engine, sessions::FOLLOW_EVERY},
    mesh::{MeshTokens, Neighbours},
    titles::NearTitles,
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
        let database = boot.database(&MIGRATIONS).await?;
        let bus = boot.events(&database);
        let neighbours = Arc::new(Neighbours::new(boot.mesh.clone()));
        let fresh = Duration::from_secs(boot.config.recheck_seconds.into());
        let titles = Arc::new(NearTitles::new(Arc::clone(&neighbours), fresh));
        boot.metrics.registry(|registry| Metrics::register_titles(registry, titles.kept()));
        let deps = Deps {
            titles: titles.clone(),
            gates: neighbours.clone(),
            accounts: neighbours.clone(),
            presentations: neighbours,
            tokens: Arc::new(MeshTokens::new(boot.mesh.clone())),
            blobs: boot.blobs().await?,
            outbox: bus.outbox(),
            database,
            metrics,
        };

        // 3. The behaviour, its RPCs, and the events it hears.
        let upkeep_every = Duration::from_secs(boot.config.upkeep_seconds.into());
        let engine = Arc::new(Engine::new(deps, boot.config, &boot.common.public_url));
        let (checked, tidied, followed, flushed) = (engine.clone(), engine.clone(), engine.clone(), engine.clone());
        let (mesh, stop) = (boot.mesh, boot.stop);
        let (check_stop, tidy_stop, follow_stop, title_stop) = (stop.clone(), stop.clone(), stop.clone(), stop.clone());
        Ok(Service::new()
            .grpc(StreamingServiceServer::new(Handler::new(Arc::clone(&engine))))
            .events(bus.hears(Arc::new(TitleEvents::new(engine))), stop)
            // While they are away, each session is still checked when it is used.
            .restarting_task("gate checks", move || check_gates(checked.clone(), upkeep_every, check_stop.clone()))
            .restarting_task("session upkeep", move || tidy(tidied.clone(), tidy_stop.clone()))
            // Sessions that end in another process end here when it is back: a look goes on after the last that succeeded.
            .restarting_task("session changes", move || follow(followed.clone(), follow_stop.clone()))
            // Without news of titles, each is asked for again whenever it is needed.
            .restarting_task("title news", move || hear(titles.clone(), mesh.clone(), title_stop.clone()))
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
        // The next round tries again. A task that begins anew waits longer and longer, and meanwhile asks no gate at all.
        if let Err(error) = engine.check_in_use().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a session that must not go on could not be ended yet");
        }
    }
    Ok(())
}

async fn hear(titles: Arc<NearTitles<Neighbours>>, mesh: Mesh, stop: CancellationToken) -> Result<(), BoxError> {
    stop.run_until_cancelled(titles.follow(mesh)).await;
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

async fn follow(engine: Arc<Engine>, stop: CancellationToken) -> Result<(), BoxError> {
    let mut ticks = interval(FOLLOW_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        engine.follow().await?;
    }
    Ok(())
}
