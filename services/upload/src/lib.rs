//! Takes a creator's files in.
//!
//! Owns the rows of uploads and the bytes of sources. An upload is open until it is completed,
//! cancelled, or runs out of time. Bytes that were acknowledged are durable; after any break the
//! client asks for the offset and goes on from there. Completing tells metadata and the
//! transcoder, in the same change that closes the upload.

pub mod command;
mod config;
pub mod engine;
mod error;
mod grpc;
mod metrics;
mod service;
mod wire;

pub use config::Config;
pub use error::Error;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::{App, MIGRATIONS};
