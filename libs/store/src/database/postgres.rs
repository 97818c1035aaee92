//! PostgreSQL: a schema for each service, shared by its replicas.

use std::{fmt, time::Duration};

use sqlx::{
    AnyConnection, AnyPool, ConnectOptions as _, Connection as _,
    any::{AnyConnectOptions, AnyPoolOptions},
};
use tokio::time::timeout;
use url::Url;

use super::{DatabaseKind, Migrations, WAIT, migrations::of_events};
use crate::error::{Error, Result};

/// Connections of one service in one process, half of them for reading. Nine services with two
/// replicas stay below half of the two hundred that a server of some size allows.
const CONNECTIONS: u32 = 8;
/// A connection that nobody needs is given back after this time.
const IDLE: Duration = Duration::from_secs(300);
/// How long the server may take to answer a new connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest statement: no call of ours takes longer, so something is wrong with one that does.
const STATEMENT_MS: u32 = 10_000;
/// Longest wait for a lock, below the longest statement, so that the error says which it was. Also of a migration: who
/// waits for a table keeps everybody behind it out. It is tried again, as is one that another replica is at.
const LOCK_MS: u32 = 8_000;
/// Longest pause inside a transaction: a process that hangs must not keep its locks.
const IDLE_IN_TRANSACTION_MS: u32 = 30_000;
/// Bringing a large schema up to date may take long.
const MIGRATION_MS: u32 = 600_000;
/// First half of the keys of our advisory locks: "sg" as a number, so that others' locks are others'.
const LOCK_CLASS: i32 = 0x7367;

/// A server's address that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadServer(String);

/// A PostgreSQL server and how to sign in there. Shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresServer {
    url: Url,
    connections: u32,
}

impl PostgresServer {
    /// Reads `postgres://user:password@host:5432/name`, perhaps with `?sslmode=…`.
    ///
    /// # Errors
    /// One sentence, without the password.
    pub fn parse(text: &str) -> Result<Self, BadServer> {
        let bad = |what: &str| BadServer(format!("{what}; write postgres://user:password@host:5432/name"));
        let url: Url = text.parse().map_err(|_| bad("the database URL can't be read"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(bad("the database URL must begin with postgres://"));
        }
        if url.host_str().is_none_or(str::is_empty) && !url.query_pairs().any(|(key, _)| key == "host") {
            return Err(bad("the database URL names no host"));
        }
        if url.path().trim_start_matches('/').is_empty() {
            return Err(bad("the database URL names no database"));
        }
        Ok(Self { url, connections: CONNECTIONS })
    }

    /// From its parts. A host that begins with `/` is the folder of a socket.
    ///
    /// # Errors
    /// One sentence.
    pub fn from_parts(host: &str, port: u16, user: &str, password: &str, name: &str) -> Result<Self, BadServer> {
        let mut server = Self::parse("postgres://localhost/name")?;
        let url = &mut server.url;
        if host.starts_with('/') {
            url.query_pairs_mut().append_pair("host", host);
        } else {
            url.set_host(Some(host)).map_err(|_| BadServer(format!("{host:?} is no host name")))?;
        }
        let parts = url.set_port(Some(port)).and(url.set_username(user)).and(url.set_password(Some(password)));
        parts.map_err(|()| BadServer("the database user or port can't be used".to_owned()))?;
        url.set_path(name);
        Self::parse(url.as_str())
    }

    /// Sets how many connections one service may have in one process; at least two.
    #[must_use]
    pub const fn connections(mut self, count: u32) -> Self {
        self.connections = if count < 2 { 2 } else { count };
        self
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        let query_host = self.url.query_pairs().find(|(key, _)| key == "host").map(|(_, host)| host.into_owned());
        let host = query_host.or_else(|| self.url.host_str().map(str::to_owned)).unwrap_or_default();
        format!("{host}:{}", self.url.port().unwrap_or(5432))
    }

    fn options(&self, schema: &str, read_only: bool, statement_ms: u32) -> Result<AnyConnectOptions> {
        let mut url = self.url.clone();
        url.query_pairs_mut()
            .append_pair("application_name", schema)
            .append_pair("options[search_path]", schema)
            .append_pair("options[statement_timeout]", &statement_ms.to_string())
            .append_pair("options[lock_timeout]", &LOCK_MS.min(statement_ms).to_string())
            .append_pair("options[idle_in_transaction_session_timeout]", &IDLE_IN_TRANSACTION_MS.to_string())
            .append_pair("options[default_transaction_read_only]", if read_only { "on" } else { "off" });
        Ok(AnyConnectOptions::from_url(&url)?)
    }
}

impl fmt::Debug for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresServer").field("place", &self.place()).finish_non_exhaustive()
    }
}

pub(super) async fn connect(server: &PostgresServer, schema: &str, migrations: &Migrations) -> Result<(AnyPool, AnyPool)> {
    sqlx::any::install_default_drivers();
    check_schema(schema)?;
    // By hand first: a pool would try again and again, and not say why.
    let mut first = timeout(CONNECT, AnyConnection::connect_with(&server.options(schema, false, MIGRATION_MS)?))
        .await
        .map_err(Error::unavailable)??;
    prepare(&mut first, schema).await?;
    first.close().await?;
    let migrator = pool(1, server.options(schema, false, MIGRATION_MS)?);
    migrations.of(DatabaseKind::Postgres).run(&migrator).await?;
    of_events(DatabaseKind::Postgres).run(&migrator).await?;
    migrator.close().await;
    let readers = pool(server.connections / 2, server.options(schema, true, STATEMENT_MS)?);
    let writers = pool(server.connections - server.connections / 2, server.options(schema, false, STATEMENT_MS)?);
    Ok((readers, writers))
}

fn pool(connections: u32, options: AnyConnectOptions) -> AnyPool {
    AnyPoolOptions::new().max_connections(connections).acquire_timeout(WAIT).idle_timeout(IDLE).connect_lazy_with(options)
}

/// Makes the schema; replicas that start together do it one after another.
async fn prepare(connection: &mut AnyConnection, schema: &str) -> Result<()> {
    let mut tx = connection.begin().await?;
    lock(&mut tx, lock_key("")).await?;
    let there: Option<i64> = sqlx::query_scalar("SELECT CAST(1 AS BIGINT) FROM pg_namespace WHERE nspname = $1")
        .bind(schema)
        .fetch_optional(&mut *tx)
        .await?;
    // Asked first: a user who may not make schemas can be given one.
    if there.is_none() {
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE SCHEMA \"{schema}\""))).execute(&mut *tx).await?;
    }
    Ok(tx.commit().await?)
}

/// A schema's name stands in SQL and in connection options: letters, digits, underscores.
fn check_schema(schema: &str) -> Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    // PostgreSQL cuts longer names, so that two could become one.
    if schema.is_empty() || schema.len() > 63 || !schema.bytes().all(is_plain) {
        return Err(Error::Corrupt(format!("{schema:?} can't name a schema")));
    }
    Ok(())
}

/// Waits until nobody else holds the key, and holds it until the transaction ends.
pub(super) async fn lock(connection: &mut AnyConnection, key: i32) -> Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock($1, $2)").bind(LOCK_CLASS).bind(key).execute(connection).await?;
    Ok(())
}

/// The same number for the same name in every process and every version (FNV-1a).
pub(super) fn lock_key(schema: &str) -> i32 {
    let hash = schema.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    hash.cast_signed()
}
