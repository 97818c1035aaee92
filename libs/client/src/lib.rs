//! How one service calls another, and how it knows who calls.
//!
//! [`Mesh`] hands out generated clients over lazy channels that carry a deadline, retry what
//! never reached the other end, stop calling a dead one, and pass on the request id, the trace
//! and the caller. [`Authenticator`] is the other side of the same coin.

mod authenticator;
mod breaker;
mod budget;
mod channel;
pub mod context;
mod credential;
mod endpoint;
mod endpoints;
mod instances;
mod keys;
mod mesh;
mod methods;
pub mod near_cache;
#[cfg(test)]
mod silence_tests;
pub mod token;
mod verifier;

pub use authenticator::{Authenticator, MeshAuthenticator};
pub use channel::MeshChannel;
pub use context::RequestContext;
pub use credential::{MeshSecret, ON_BEHALF_HEADER, SERVICE_HEADER};
pub use mesh::{BadTarget, HealthClient, Mesh, MeshBuilder};
pub use verifier::TokenVerifier;
