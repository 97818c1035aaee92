//! Titles: what a creator owns, who may watch it, and how far it is.
//!
//! Owns the rows of titles, their gates and their public ids, and the search over them. It hears
//! from upload and transcoder how far a title is, and tells the others when a gate changes or a
//! title goes. A title's `content_id` is private to its owner; a `playback_id` is public.

pub mod command;
mod config;
pub mod engine;
mod error;
mod grpc;
mod metrics;
mod query;
mod service;
mod wire;

pub use config::Config;
pub use error::Error;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::{App, MIGRATIONS};
