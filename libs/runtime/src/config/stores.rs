//! Where rows and blobs are kept when not in the data folder.

use std::fmt;

use serde::Deserialize;
use streamgate_store::{PostgresServer, S3Bucket};

/// Section `database`. Without a host or a URL, each service has a SQLite file in the data folder.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct DatabaseConfig {
    /// `postgres://user:password@host:5432/name`, instead of the parts below.
    url: String,
    host: String,
    port: Option<u16>,
    user: String,
    password: String,
    name: String,
    /// Connections of one service in one process.
    connections: Option<u32>,
}

impl DatabaseConfig {
    /// The server, if one is named.
    pub(super) fn server(&self) -> Result<Option<PostgresServer>, String> {
        let parts = [&self.host, &self.user, &self.password, &self.name];
        let server = if !self.url.is_empty() {
            if parts.iter().any(|part| !part.is_empty()) || self.port.is_some() {
                return Err("database.url can't stand beside database.host, port, user, password or name".to_owned());
            }
            PostgresServer::parse(&self.url)
        } else if !self.host.is_empty() {
            if self.user.is_empty() || self.name.is_empty() {
                return Err("database.host needs database.user and database.name (DB_USER, DB_DATABASE) beside it".to_owned());
            }
            PostgresServer::from_parts(&self.host, self.port.unwrap_or(5432), &self.user, &self.password, &self.name)
        } else if parts.iter().any(|part| !part.is_empty()) || self.port.is_some() {
            return Err("database.host (DB_HOST) is missing beside the other keys of the database".to_owned());
        } else {
            return Ok(None);
        };
        let server = server.map_err(|error| format!("database: {error}"))?;
        match self.connections {
            Some(count @ (0 | 1 | 501..)) => Err(format!("database.connections must be between 2 and 500, not {count}")),
            Some(count) => Ok(Some(server.connections(count))),
            None => Ok(Some(server)),
        }
    }
}

/// Section `s3`. Without an endpoint, blobs are files in the data folder.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct S3Config {
    endpoint: String,
    region: String,
    bucket: String,
    access_key: String,
    secret_key: String,
}

impl Default for S3Config {
    fn default() -> Self {
        let (endpoint, bucket, access_key, secret_key) = Default::default();
        Self { endpoint, region: "us-east-1".to_owned(), bucket, access_key, secret_key }
    }
}

impl S3Config {
    /// The bucket, if one is named.
    pub(super) fn bucket(&self) -> Result<Option<S3Bucket>, String> {
        if self.endpoint.is_empty() {
            if [&self.bucket, &self.access_key, &self.secret_key].iter().any(|part| !part.is_empty()) {
                return Err("s3.endpoint (S3_ENDPOINT) is missing beside the other keys of S3".to_owned());
            }
            return Ok(None);
        }
        let bucket = S3Bucket::new(&self.endpoint, &self.region, &self.bucket, &self.access_key, &self.secret_key);
        bucket.map(Some).map_err(|error| format!("s3: {error}"))
    }
}

impl fmt::Debug for DatabaseConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DatabaseConfig").field("host", &self.host).field("name", &self.name).finish_non_exhaustive()
    }
}

impl fmt::Debug for S3Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config").field("endpoint", &self.endpoint).field("bucket", &self.bucket).finish_non_exhaustive()
    }
}
