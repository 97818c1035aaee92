//! Starts, serves and stops services. Each binary goes up and down through here: configuration,
//! telemetry, listeners, identity and access, health, metrics, tasks, signals.
//!
//! A service is an [`App`]: it says its name and its configuration, and builds a [`Service`].
//! [`run`] makes a process of one, [`Host`] of several.

mod access;
mod app;
mod audit;
mod boot;
pub mod config;
mod dispatch;
mod health;
mod host;
mod logs;
mod metrics;
mod observe;
mod opening;
mod process;
mod server;
mod service;
mod starting;
mod storage;
mod stores;
mod tasks;
mod telemetry;
pub mod testing;
mod unit;

use std::process::ExitCode;

pub use app::{App, BoxError, ServiceConfig};
pub use boot::{Boot, Common};
pub use config::{ConfigError, ConfigSource, RedisConfig};
pub use host::{Host, Running, StartError};
pub use logs::LINES_TAKEN;
pub use metrics::Metrics;
pub use service::Service;
pub use stores::Stores;
pub use streamgate_client::{Authenticator, Mesh, RequestContext};
pub use tasks::TaskOutcome;
pub use tokio_util::sync::CancellationToken;

/// A request is many small pieces of memory, often freed by another thread than took them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs one service in this process until it is told to stop.
#[must_use]
pub fn run<A: App>() -> ExitCode {
    Host::new().add::<A>().run()
}
