//! One service's database: a SQLite file, or a schema of a PostgreSQL server.
//!
//! The SQL of services is written once, for both (see `docs/adr`): `$1` placeholders, columns
//! `BIGINT`, `TEXT` and bytes, booleans as 0 and 1. Where the engines can't agree, a query asks
//! [`Database::kind`].

mod migrations;
mod postgres;
mod sqlite;
mod transaction;

use std::{path::Path, sync::Arc, time::Duration};

use sqlx::AnyPool;
use tokio::sync::{Mutex, watch};

pub use migrations::Migrations;
pub use postgres::{BadServer, PostgresServer};
pub use transaction::Transaction;

use crate::error::{Error, Result};

/// How long a statement waits for another process's lock, and a caller for a connection.
const WAIT: Duration = Duration::from_secs(10);

/// Which engine keeps the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file of this process.
    Sqlite,
    /// A server that several replicas share.
    Postgres,
}

/// A service's database. Cheap to clone.
///
/// Reads go through [`pool`](Self::pool), changes through [`begin`](Self::begin): one writer at a
/// time, waiting in line instead of failing, each commit on disk before it returns.
#[derive(Debug, Clone)]
pub struct Database {
    kind: DatabaseKind,
    readers: AnyPool,
    writers: AnyPool,
    line: Line,
    events: watch::Sender<u64>,
}

/// Where writers of one service wait for each other.
#[derive(Debug, Clone)]
struct Line {
    /// Of this process: only its first writer asks the server.
    local: Arc<Mutex<()>>,
    /// Of all processes: the key of an advisory lock.
    key: i32,
}

impl Database {
    /// Opens the SQLite file at `path`, making it and its folder when missing, and brings its
    /// schema up to date.
    ///
    /// # Errors
    /// `ReadOnly`, `Full`, `Corrupt`, or what SQLite says.
    pub async fn open(path: &Path, migrations: &Migrations) -> Result<Self> {
        let (readers, writers) = sqlite::open(path, migrations).await?;
        Ok(Self::over(DatabaseKind::Sqlite, readers, writers, ""))
    }

    /// Connects to a server, and brings `schema` up to date, making it when missing. Every service
    /// has a schema of its own; replicas of a service share it.
    ///
    /// # Errors
    /// `Unavailable` when the server is not there, or what it says.
    pub async fn connect(server: &PostgresServer, schema: &str, migrations: &Migrations) -> Result<Self> {
        let (readers, writers) = postgres::connect(server, schema, migrations).await?;
        Ok(Self::over(DatabaseKind::Postgres, readers, writers, schema))
    }

    fn over(kind: DatabaseKind, readers: AnyPool, writers: AnyPool, schema: &str) -> Self {
        let line = Line { local: Arc::default(), key: postgres::lock_key(schema) };
        Self { kind, readers, writers, line, events: watch::Sender::new(0) }
    }

    /// Which engine it is.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// Connections to read with. They refuse to write.
    #[must_use]
    pub const fn pool(&self) -> &AnyPool {
        &self.readers
    }

    /// Begins a change, when the change before it is done: nobody else changes anything of this
    /// service until it ends, in no process. What it reads stays true until it commits.
    ///
    /// # Errors
    /// `Unavailable` when the writer stays taken for too long.
    pub async fn begin(&self) -> Result<Transaction> {
        match self.kind {
            DatabaseKind::Sqlite => {
                let inner = self.writers.begin_with("BEGIN IMMEDIATE").await?;
                Ok(Transaction::serial(inner, self, None))
            }
            DatabaseKind::Postgres => {
                let waited = tokio::time::timeout(WAIT, Arc::clone(&self.line.local).lock_owned()).await;
                let place = waited.map_err(Error::unavailable)?;
                let mut inner = self.writers.begin().await?;
                postgres::lock(&mut inner, self.line.key).await?;
                Ok(Transaction::serial(inner, self, Some(place)))
            }
        }
    }

    /// Begins a change that may run beside others: each of its statements must be right whatever
    /// others commit between them, such as one conditional `UPDATE … RETURNING`. On SQLite it is
    /// as [`begin`](Self::begin).
    ///
    /// # Errors
    /// `Unavailable` when no connection is free for too long.
    pub async fn begin_shared(&self) -> Result<Transaction> {
        match self.kind {
            DatabaseKind::Sqlite => self.begin().await,
            DatabaseKind::Postgres => Ok(Transaction::shared(self.writers.begin().await?, self)),
        }
    }

    /// Begins to read: everything as it was at one moment.
    ///
    /// # Errors
    /// `Unavailable` when no connection is free for too long.
    pub async fn snapshot(&self) -> Result<sqlx::Transaction<'static, sqlx::Any>> {
        match self.kind {
            DatabaseKind::Sqlite => Ok(self.readers.begin().await?),
            DatabaseKind::Postgres => Ok(self.readers.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?),
        }
    }

    /// Whether the engine answers.
    ///
    /// # Errors
    /// `Unavailable`, or what it says.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Closes all connections; SQLite folds its log into the file.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }

    /// Changes whenever a transaction with events was committed.
    pub(crate) fn committed_events(&self) -> watch::Receiver<u64> {
        self.events.subscribe()
    }
}
