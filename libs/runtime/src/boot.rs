//! What a service is built from.

use std::{collections::BTreeMap, path::PathBuf};

use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use streamgate_store::{Database, EventBus};
use tokio_util::sync::CancellationToken;

use crate::{
    Metrics, Stores,
    storage::{blobs, database_file},
    stores::Needs,
};

/// Everything a service is given when it is built.
#[derive(Debug)]
pub struct Boot<C> {
    pub(crate) name: ServiceName,
    pub(crate) needs: Needs,
    /// Its own section of the configuration, valid.
    pub config: C,
    /// What all services know.
    pub common: Common,
    /// The other services.
    pub mesh: Mesh,
    /// Where its metrics are registered.
    pub metrics: Metrics,
    /// Cancelled when the service stops taking requests: tasks finish then.
    pub stop: CancellationToken,
}

/// Configuration that services share.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// Folder of the embedded engines; exists and can be written.
    pub data_dir: PathBuf,
    /// Where the edge is seen from outside, without a slash at the end.
    pub public_url: String,
    /// Wallets that become operator on sign-in, as configured.
    pub operator_wallets: Vec<String>,
    /// RPC endpoints by EIP-155 chain number.
    pub chains: BTreeMap<u64, Vec<String>>,
    /// Where Redis is, if there is one.
    pub redis: crate::RedisConfig,
    /// Servers that keep rows and blobs, if any; see [`Boot::database`] and [`Boot::blobs`].
    pub stores: Stores,
    /// How events travel; see [`Boot::events`].
    pub events: streamgate_core::events::Settings,
}

impl<C> Boot<C> {
    /// The service's end of the events, which travel as configured. What it tells and has heard is in `db`.
    #[must_use]
    pub fn events(&self, db: &Database) -> EventBus {
        let bus = EventBus::new(db.clone(), self.name, self.mesh.clone(), &self.common.events);
        self.metrics.registry(|registry| bus.metrics().register(registry));
        bus
    }
}

impl Common {
    /// File of a service's own database. Its folder exists.
    #[must_use]
    pub fn database_path(&self, name: ServiceName) -> PathBuf {
        database_file(&self.data_dir, name)
    }

    /// Folder of the blobs, which services share. It exists.
    #[must_use]
    pub fn blobs_path(&self) -> PathBuf {
        blobs(&self.data_dir)
    }
}
