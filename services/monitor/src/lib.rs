//! Watches the mesh: asks every service for its health and its metrics, and remembers the latest.
//!
//! It keeps nothing on disk and no history: Prometheus reads the same `/metrics`, and is better at it.

mod config;
pub mod engine;
mod error;
mod grpc;
mod metrics;
mod service;

pub use config::Config;
pub use error::Error;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::App;
