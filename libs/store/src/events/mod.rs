//! How services tell each other what happened.
//!
//! A change and its events are committed together ([`Outbox`]). An [`EventBus`] carries them to
//! their consumers: over gRPC, or through NATS JetStream when one is configured. The database is
//! the truth and the broker only transport: what it loses is published again. Consumers remember
//! what they have handled ([`Inbox`]). See `docs/architecture/events.md`.

mod admin;
mod bus;
mod dead;
mod inbox;
mod incoming;
mod log;
mod metrics;
mod nats;
mod outbox;
mod outgoing;
mod patience;
mod purge;
mod queue;
mod server;

pub use admin::Admin;
pub use bus::EventBus;
pub use inbox::{EventHandler, Inbox};
pub use metrics::EventMetrics;
pub use outbox::Outbox;
pub use outgoing::{Addressee, Delivery};
pub use patience::Patience;
pub use queue::Receipt;
pub use server::Events;
