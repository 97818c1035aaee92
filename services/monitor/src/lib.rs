//! Watches the mesh: health of every instance, metrics, alerts, the log of all services, and the
//! audit log of who did what.
//!
//! It keeps no history of metrics: Prometheus reads the same `/metrics`, and is better at it.

mod audit_grpc;
mod codec;
mod config;
pub mod engine;
mod error;
mod grpc;
mod metrics;
mod service;

pub use audit_grpc::AuditHandler;
pub use config::{Config, LogConfig};
pub use error::Error;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::{App, MIGRATIONS};
