//! The real engines that a cluster stands on: PostgreSQL, Redis, NATS and S3, and those that watch it, each in a process
//! of its own.
//!
//! Every engine listens on a free port of 127.0.0.1, keeps its files in a folder of its own, is ready when `start`
//! returns, and is gone with its handle, children included. A test can stop, freeze and restart it.

mod nats;
mod otlp;
mod postgres;
mod prometheus;
mod redis;
mod s3;
mod server;
mod tree;

pub use nats::Nats;
pub use otlp::{OtlpReceiver, ReceivedSpan};
pub use postgres::Postgres;
pub use prometheus::Prometheus;
pub use redis::Redis;
pub use s3::S3;
pub use server::Engine;
pub(crate) use server::tied_to_this_process;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::paths::repository;

/// Where Debian puts server programs. A root shell may lack one of them.
const PROGRAM_FOLDERS: [&str; 3] = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];

/// A program that a Debian package installs.
fn program(name: &str) -> Result<PathBuf> {
    let found = PROGRAM_FOLDERS.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    found.with_context(|| format!("{name} is not installed: run scripts/install-for-tests"))
}

/// A program of a Python tool, each of which has an environment of its own.
fn python_program(tool: &str, name: &str) -> Result<PathBuf> {
    let path = repository().join(".tools").join(tool).join("bin").join(name);
    path.is_file().then_some(()).with_context(|| format!("{} is not there: run scripts/install-for-tests", path.display()))?;
    Ok(path)
}
