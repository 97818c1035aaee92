//! The way of log lines to the monitor: taken beside the process's own output, without secrets,
//! bounded, and sent in batches.

mod redact;
mod ship;
mod tap;

pub use ship::LINES_TAKEN;
pub(crate) use ship::ship;
pub(crate) use tap::{Waiting, tap};
