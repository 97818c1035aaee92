//! The behaviour: asking, and remembering the latest answers.

mod exposition;
mod poller;
mod probe;
mod seen;

pub use exposition::{Exposition, MAX_SAMPLES, Sample, parse};
pub use poller::Poller;
pub use probe::{MeshProbe, Probe, Reachable};
pub use seen::{Overall, Scrape, Seen, ServiceHealth, State};
