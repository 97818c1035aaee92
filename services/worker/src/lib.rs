//! Runs background jobs, each at least once, until it succeeds or has used up its attempts.
//!
//! A job is a row. A worker claims it under a lease with a fencing token, keeps the lease by
//! heartbeats, and writes the end only if the token still is its own: so a job whose worker died
//! runs again, and a worker that was thought dead can't write over the one after it. What kinds of
//! jobs there are is the matter of [`jobs`]: one file each; [`webhooks`] are the largest of them.

mod command;
mod config;
pub mod engine;
mod error;
mod grpc;
pub mod jobs;
mod metrics;
mod service;
mod webhook_grpc;
pub mod webhooks;

pub use config::Config;
pub use error::Error;
pub use grpc::Handler;
pub use metrics::{AttemptLabels, Metrics};
pub use service::{App, MIGRATIONS};
pub use webhook_grpc::WebhookHandler;
