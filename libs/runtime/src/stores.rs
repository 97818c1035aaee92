//! The stores that a service is given: embedded ones, or the servers that the configuration names.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use streamgate_core::{ServiceName, error::chain};
use streamgate_store::{BlobStore, Database, Error, Migrations, PostgresServer, S3Blobs, S3Bucket, open_blobs};
use tokio::time::{Instant, sleep};

use crate::{Boot, BoxError, service::ReadyCheck, storage::database_file};

/// First wait for a server that is not there yet; it doubles from there.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// How often the log says that a service still waits.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Servers that keep rows and blobs, as configured.
#[derive(Debug, Clone, Default)]
pub struct Stores {
    pub(crate) database: Option<PostgresServer>,
    pub(crate) bucket: Option<S3Bucket>,
}

impl Stores {
    /// Rows on a server, for tests; blobs stay in files.
    #[must_use]
    pub const fn with_rows_on(server: PostgresServer) -> Self {
        Self { database: Some(server), bucket: None }
    }
}

/// What a service turned out to need while it was built: it is ready while all of it answers.
#[derive(Clone, Default)]
pub(crate) struct Needs {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    checks: Vec<ReadyCheck>,
    /// What the service waits for right now.
    waiting_for: Option<String>,
}

impl Needs {
    fn add(&self, check: ReadyCheck) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).checks.push(check);
    }

    pub(crate) fn take(&self) -> Vec<ReadyCheck> {
        std::mem::take(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner).checks)
    }

    pub(crate) fn waiting_for(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting_for.clone()
    }

    fn wait_for(&self, what: Option<String>) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).waiting_for = what;
    }
}

impl std::fmt::Debug for Needs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Needs").finish_non_exhaustive()
    }
}

impl<C> Boot<C> {
    /// The service's own database, its schema up to date: a SQLite file in the data folder, or a schema
    /// of the configured server. Waits for a server that is not there yet; the service is not ready
    /// until then, and whenever it does not answer.
    ///
    /// # Errors
    /// A file that can't be used, or a schema that can't be brought up to date.
    pub async fn database(&self, migrations: &Migrations) -> Result<Database, BoxError> {
        let Some(server) = &self.common.stores.database else {
            return Ok(Database::open(&self.common.database_path(self.name), migrations).await?);
        };
        let schema = schema(self.name);
        let place = format!("the database at {}", server.place());
        let db = self.until_there(&place, || Database::connect(server, &schema, migrations)).await?;
        let asked = db.clone();
        self.need("database", move || {
            let db = asked.clone();
            async move { db.ping().await }
        });
        Ok(db)
    }

    /// The blobs, which services share: files in the data folder, or objects of the configured bucket.
    /// Waits as [`database`](Self::database) does.
    ///
    /// # Errors
    /// A folder that can't be used.
    pub async fn blobs(&self) -> Result<Arc<dyn BlobStore>, BoxError> {
        let Some(bucket) = &self.common.stores.bucket else { return Ok(open_blobs(&self.common.blobs_path())?) };
        let blobs = Arc::new(S3Blobs::open(bucket)?);
        self.until_there(&format!("the bucket {}", bucket.place()), || blobs.check()).await?;
        let asked = Arc::clone(&blobs);
        self.need("blobs", move || {
            let blobs = Arc::clone(&asked);
            async move { blobs.check().await }
        });
        Ok(blobs)
    }

    fn need<F, Fut>(&self, name: &'static str, ask: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let ask = move || {
            let answer = ask();
            let answer: futures::future::BoxFuture<'static, Result<(), String>> =
                Box::pin(async move { answer.await.map_err(|error| chain(&error)) });
            answer
        };
        self.needs.add(ReadyCheck { name: name.into(), ask: Box::new(ask) });
    }

    /// Tries until the server is there. What is wrong for good, such as damaged migrations, is not waited for.
    async fn until_there<T, Fut: Future<Output = Result<T, Error>>>(
        &self,
        place: &str,
        connect: impl Fn() -> Fut,
    ) -> Result<T, BoxError> {
        let (mut wait, mut said) = (FIRST_WAIT, None::<Instant>);
        loop {
            let error = match connect().await {
                Ok(there) => {
                    self.needs.wait_for(None);
                    if said.is_some() {
                        tracing::info!(service = %self.name, "{place} is there now");
                    }
                    return Ok(there);
                }
                Err(error @ (Error::Migrate(_) | Error::Corrupt(_))) => return Err(error.into()),
                Err(error) => chain(&error),
            };
            if said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
                tracing::warn!(service = %self.name, error, "{place} can't be used yet; waiting for it");
                said = Some(Instant::now());
            }
            self.needs.wait_for(Some(format!("waiting for {place}: {error}")));
            sleep(wait).await;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    }
}

/// The database of a service under `data_dir`, or on the configured server, without waiting for it.
pub(crate) async fn open(
    stores: &Stores,
    data_dir: &Path,
    name: ServiceName,
    migrations: &Migrations,
) -> Result<Database, Error> {
    match &stores.database {
        Some(server) => Database::connect(server, &schema(name), migrations).await,
        None => Database::open(&database_file(data_dir, name), migrations).await,
    }
}

/// Name of a service's schema on a server that services share.
fn schema(name: ServiceName) -> String {
    format!("streamgate_{}", crate::config::section_of(name))
}
