//! Who a caller is, and whether a wallet meets a gate.
//!
//! Owns accounts and their roles, sign-in challenges, refresh tokens, API keys, and the keys that
//! tokens are signed with. It reads chains to answer gates; it keeps no gate itself. Others verify
//! its tokens by themselves, with the public keys it hands out.

mod authenticator;
mod command;
mod config;
pub mod engine;
mod error;
mod grpc;
mod metrics;
mod origins;
mod service;

pub use authenticator::LocalAuthenticator;
pub use config::Config;
pub use engine::{NewApiKey, offline::create_api_key as create_api_key_offline};
pub use error::Error;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::{App, MIGRATIONS};
