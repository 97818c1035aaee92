//! One service's database: a SQLite file with many readers and one writer.

use std::{
    ops::{Deref, DerefMut},
    path::Path,
    time::Duration,
};

use sqlx::{
    Sqlite, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::watch;

use crate::{
    error::{Error, Result},
    files,
};

/// Readers at once: a WAL lets them go on beside the writer, and more only wait for the same cores.
const READERS: u32 = 4;
/// How long a statement waits for another process's lock, and a caller for a connection.
const WAIT: Duration = Duration::from_secs(10);

/// Tables of the outbox and the inbox, in every service's database.
pub const OUTBOX_SCHEMA: &str = include_str!("outbox.sql");

/// A service's database. Cheap to clone.
///
/// Reads go through [`pool`](Self::pool), changes through [`begin`](Self::begin): one writer at a
/// time, waiting in line instead of failing, each commit on disk before it returns.
#[derive(Debug, Clone)]
pub struct Database {
    readers: SqlitePool,
    writer: SqlitePool,
    events: watch::Sender<u64>,
}

impl Database {
    /// Opens the file at `path`, making it and its folder when missing, and brings its schema up
    /// to date.
    ///
    /// # Errors
    /// `ReadOnly`, `Full`, `Corrupt`, or what `SQLite` says.
    pub async fn open(path: &Path, migrator: &Migrator) -> Result<Self> {
        if let Some(folder) = path.parent() {
            files::make_folder(folder).map_err(|e| Error::io(format!("make the folder {}", folder.display()), e))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(WAIT);
        let writer = SqlitePoolOptions::new().max_connections(1).acquire_timeout(WAIT).connect_with(options.clone()).await?;
        migrator.run(&writer).await?;
        sqlx::raw_sql(OUTBOX_SCHEMA).execute(&writer).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(WAIT)
            .connect_with(options.pragma("query_only", "ON"))
            .await?;
        Ok(Self { readers, writer, events: watch::Sender::new(0) })
    }

    /// Connections to read with. They refuse to write.
    #[must_use]
    pub const fn pool(&self) -> &SqlitePool {
        &self.readers
    }

    /// Begins a change, when the change before it is done.
    ///
    /// # Errors
    /// `Unavailable` when the writer stays taken for too long.
    pub async fn begin(&self) -> Result<Transaction> {
        let inner = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        Ok(Transaction { inner, events: self.events.clone(), has_events: false })
    }

    /// Closes all connections, and folds the log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Changes whenever a transaction with events was committed.
    pub(crate) fn committed_events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }
}

/// A change under way: use it as `&mut *tx` with sqlx. Dropped without a commit, it never was.
#[derive(Debug)]
pub struct Transaction {
    inner: sqlx::Transaction<'static, Sqlite>,
    events: watch::Sender<u64>,
    has_events: bool,
}

impl Transaction {
    /// Makes the change durable, and wakes the relay when events were added.
    ///
    /// # Errors
    /// `Full` or `ReadOnly`, or what `SQLite` says; then nothing was changed.
    pub async fn commit(self) -> Result<()> {
        self.inner.commit().await?;
        if self.has_events {
            self.events.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    /// Takes the change back.
    ///
    /// # Errors
    /// What `SQLite` says; the change is taken back all the same.
    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }

    /// Notes that events were added.
    pub(crate) fn mark_events(&mut self) {
        self.has_events = true;
    }
}

impl Deref for Transaction {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.inner
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.inner
    }
}
