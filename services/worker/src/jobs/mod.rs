//! The kinds of jobs there are: one file each, and one line in [`Registry::standard`].

mod sweep_uploads;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_client::Mesh;

use crate::Config;

pub use sweep_uploads::{Sweep, SweepUploads};

/// A kind of work. An attempt may be cut short at any await, and the same job may be tried again:
/// what it does must bear both.
#[async_trait]
pub trait JobType: Send + Sync + 'static {
    /// Its name on the wire, such as `sweep_uploads`.
    fn name(&self) -> &'static str;

    /// How often it is queued by itself; never by default.
    fn every(&self) -> Option<Duration> {
        None
    }

    /// One attempt: what it did, in a sentence, or why it could not.
    async fn run(&self) -> Result<String, JobError>;
}

/// Why an attempt did not succeed, in words that an operator may see.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Worth another attempt.
    #[error("{0}")]
    Retry(String),
    /// No attempt will ever succeed.
    #[error("{0}")]
    Hopeless(String),
}

/// The kinds of jobs that this worker can run.
#[derive(Clone, Default)]
pub struct Registry {
    types: BTreeMap<&'static str, Arc<dyn JobType>>,
}

impl Registry {
    /// Every kind of the project.
    #[must_use]
    pub fn standard(mesh: &Mesh, config: &Config) -> Self {
        let sweep_interval = Duration::from_secs(u64::from(config.sweep_interval_seconds));
        Self::default().with(SweepUploads::new(mesh.clone(), sweep_interval))
    }

    /// The same with one more kind.
    #[must_use]
    pub fn with(mut self, job_type: impl JobType) -> Self {
        self.types.insert(job_type.name(), Arc::new(job_type));
        self
    }

    /// The kind called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn JobType>> {
        self.types.get(name).cloned()
    }

    /// The names of all kinds, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.types.keys().copied().collect()
    }

    /// The kinds that are queued by themselves, and how often.
    pub fn schedules(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        self.types.iter().filter_map(|(name, job_type)| Some((*name, job_type.every()?)))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.names()).finish()
    }
}
