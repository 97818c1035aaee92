//! Turns uploaded sources into ladders.
//!
//! A job is a row with a lease. Whoever holds the lease starts one encoder child, stores each
//! segment that it makes, and then inserts the segment's row: what has a row is published and
//! never changes. A job whose worker or child dies is resumed after its last published segment.

mod config;
mod engine;
mod error;
mod grpc;
mod metrics;
mod service;
mod settings;
mod worker;

pub use config::Config;
pub use engine::{Claim, Engine, Frame, Job, Line, NewSegment, Pool, Poster, Priority, State, Submission};
pub use error::Error;
pub use grpc::Handler;
pub use metrics::Metrics;
pub use service::{App, MIGRATIONS};
pub use settings::{DEFAULT_PROFILE, MAX_STEPS, Profile, Profiles, Settings};
pub use worker::{Worker, find_encoder};
