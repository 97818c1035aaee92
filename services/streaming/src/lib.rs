//! Plays titles to those who may watch: playback sessions, playlists, manifests and segments.
//!
//! A session is opened when its viewer meets the title's gate, and is checked again while it plays. Every
//! asset is under the session: a playlist or a segment is only given out while the session stands.
//! Playlists are written from what the transcoder has really made and stored.

mod config;
pub mod engine;
mod error;
mod events;
mod grpc;
mod mesh;
mod metrics;
mod service;
mod titles;

pub use config::Config;
pub use error::{Error, Result};
pub use events::TitleEvents;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::{App, MIGRATIONS};
