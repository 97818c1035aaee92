//! The four engines of a cluster.

use anyhow::Result;

use crate::engines::{Engine, Nats, Postgres, Redis, S3};

/// What nine processes stand on when nothing is embedded.
#[derive(Debug)]
pub struct Engines {
    /// Every service's rows.
    pub postgres: Postgres,
    /// The shared cache.
    pub redis: Redis,
    /// The transport of events.
    pub nats: Nats,
    /// Sources and segments.
    pub s3: S3,
}

impl Engines {
    /// Starts all four.
    ///
    /// # Errors
    /// When one is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        let (postgres, redis, nats, s3) = tokio::try_join!(Postgres::start(), Redis::start(), Nats::start(), S3::start())?;
        Ok(Self { postgres, redis, nats, s3 })
    }

    /// Each of them.
    pub fn each(&mut self) -> [&mut dyn Engine; 4] {
        [&mut self.postgres, &mut self.redis, &mut self.nats, &mut self.s3]
    }

    pub(super) fn env(&self) -> Vec<(String, String)> {
        let engines: [&dyn Engine; 4] = [&self.postgres, &self.redis, &self.nats, &self.s3];
        engines.iter().flat_map(|engine| engine.env()).collect()
    }
}
