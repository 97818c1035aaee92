//! The kinds of jobs there are: one file each, and one line in [`Registry::standard`].

mod deliver_webhook;
mod notify;
mod purge_titles;
mod sweep_uploads;
mod thumbnails;
mod verify_objects;

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::{Failure, ServiceName};
use streamgate_proto::streamgate::worker::v1::job_params::Kind;

use crate::{
    Config,
    engine::{MAX_ATTEMPTS, Submit, Work, backoff},
    webhooks::Webhooks,
};

pub use deliver_webhook::DeliverWebhook;
pub use notify::{Notify, Relay};
pub use purge_titles::{Purge, PurgeTitles};
pub use sweep_uploads::{Sweep, SweepUploads};
pub use thumbnails::{MakePoster, Thumbnails};
pub use verify_objects::{Verified, Verify, VerifyObjects};

/// What a service that a job asked has said.
fn said(service: ServiceName, failure: &Failure) -> String {
    format!("the {service} service said: {} ({})", failure.message, failure.reason)
}

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

    /// Attempts of a job that names no number.
    fn max_attempts(&self) -> u32 {
        MAX_ATTEMPTS
    }

    /// The wait after the attempt with this number, counted from 1.
    fn wait_after(&self, attempt: u32) -> Duration {
        backoff(attempt, &mut rand::rng())
    }

    /// Whether others are told how its jobs end.
    fn is_announced(&self) -> bool {
        true
    }

    /// Whether operators may queue it with these parameters; by default it takes none.
    ///
    /// # Errors
    /// What is wrong with them.
    fn check(&self, params: Option<&Kind>) -> Result<(), Failure> {
        match params {
            None => Ok(()),
            Some(_) => Err(Failure::invalid_field("params", format!("a job of type {} takes none", self.name()))),
        }
    }

    /// One attempt: what it did, in a sentence, or why it could not.
    async fn run(&self, work: &Work) -> Result<String, JobError>;
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
    /// Not begun, since others of its kind take all the room; to be looked at after this time.
    #[error("waits for a free place")]
    PutOff(Duration),
}

/// The kinds of jobs that this worker can run.
#[derive(Clone, Default)]
pub struct Registry {
    types: BTreeMap<&'static str, Arc<dyn JobType>>,
}

impl Registry {
    /// Every kind of the project.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn standard(mesh: &Mesh, webhooks: &Webhooks, config: &Config) -> Result<Self, reqwest::Error> {
        let seconds = |seconds: u32| Duration::from_secs(u64::from(seconds));
        Ok(Self::default()
            .with(SweepUploads::new(mesh.clone(), seconds(config.sweep_interval_seconds)))
            .with(PurgeTitles::new(mesh.clone(), seconds(config.purge_interval_seconds)))
            .with(VerifyObjects::new(mesh.clone(), seconds(config.verify_interval_seconds)))
            .with(Thumbnails::new(mesh.clone()))
            .with(DeliverWebhook::new(webhooks.clone()))
            .with(Notify::new(Relay::new(&config.notify_url, &config.notify_token)?)))
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

    /// The kind called `name`, if operators may queue it with these parameters.
    ///
    /// # Errors
    /// Which field is wrong.
    pub fn checked(&self, name: &str, params: Option<&Kind>) -> Result<Arc<dyn JobType>, Failure> {
        let known = self
            .get(name)
            .ok_or_else(|| Failure::invalid_field("type", format!("must be one of: {}", self.names().join(", "))))?;
        known.check(params)?;
        Ok(known)
    }

    /// The names of all kinds, in order.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.types.keys().copied().collect()
    }

    /// A job of the kind called `name`, due now, as the kind wants its jobs to be.
    #[must_use]
    pub fn submit(&self, name: &str) -> Submit {
        let plain = Submit::new(name);
        match self.get(name) {
            Some(known) => Submit { max_attempts: known.max_attempts(), announced: known.is_announced(), ..plain },
            None => plain,
        }
    }

    /// Jobs of the kinds that are queued by themselves, and how often.
    pub fn schedules(&self) -> impl Iterator<Item = (Submit, Duration)> + '_ {
        self.types.iter().filter_map(|(name, job_type)| Some((self.submit(name), job_type.every()?)))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Registry").field(&self.names()).finish()
    }
}
