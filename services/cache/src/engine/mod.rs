//! The behaviour: a bounded store, and the clock it lives by.

mod clock;
mod index;
mod store;

pub use clock::{Clock, SteadyClock};
pub use store::{ENTRY_OVERHEAD_BYTES, Found, Stats, Store};
