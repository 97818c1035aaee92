//! The behaviour: watching and remembering, alerts, logs, and who did what.

pub mod alerts;
pub mod audit;
mod exposition;
mod filter;
mod gas;
pub mod logs;
mod poller;
mod probe;
mod requests;
mod seen;
mod system;

pub use exposition::{Exposition, MAX_SAMPLES, Sample, parse};
pub use filter::Filter;
pub use gas::GasSource;
pub use poller::Poller;
pub use probe::{MeshProbe, Probe, Reachable, Watching};
pub use requests::Requests;
pub use seen::{InstanceHealth, Overall, Seen, ServiceHealth, State};
pub use system::{System, SystemWatch};
