//! A shared cache: values with a time to live, invalidated by key, tag or prefix.
//!
//! It lives in memory and within a bound. Losing it loses no data: whoever puts something in can make
//! it again.

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
