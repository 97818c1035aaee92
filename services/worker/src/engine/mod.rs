//! The behaviour: a durable queue, the workers that empty it, and the schedules that fill it.

mod attempt;
mod backoff;
pub mod cron;
mod origin;
mod queue;
mod rows;
mod runner;
mod schedule;
mod schedules;

pub use attempt::Work;
pub use backoff::{MAX_ATTEMPTS, backoff};
pub use origin::Origin;
pub use queue::{CLAIM_QUERIES, Claim, End, Ended, Filter, JobPage, Queue, Submit};
pub use rows::{Job, Lane, Priority, State};
pub use runner::Runner;
pub use schedule::Scheduler;
pub use schedules::{CronSchedule, SchedulePage, Schedules};
