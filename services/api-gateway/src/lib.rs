//! The edge: turns REST, uploads, HLS and DASH into RPCs of the services behind it, hands gRPC and
//! gRPC-Web through to them, and serves the web pages.
//!
//! It keeps no state and trusts nobody: a caller's bearer goes to the service behind, which
//! authenticates it. Everything REST is made from the contracts; only uploads, media and pages are
//! written by hand.

pub mod backends;
pub mod config;
pub mod context;
pub mod edge;
pub mod ending;
pub mod error;
pub mod grpc;
pub mod media;
pub mod metrics;
pub mod openapi;
pub mod pages;
pub mod problem;
pub mod proxy;
pub mod rest;
pub mod router;
pub mod service;
pub mod upload;

pub use config::Config;
pub use error::Error;
pub use service::App;
