//! The behaviour: a durable queue, the workers that empty it, and the schedules that fill it.

mod backoff;
mod queue;
mod rows;
mod runner;
mod schedule;

pub use backoff::{MAX_ATTEMPTS, backoff};
pub use queue::{Claim, JobPage, Queue, Submit, UNFINISHED_QUERIES};
pub use rows::{Job, State};
pub use runner::Runner;
pub use schedule::Scheduler;
