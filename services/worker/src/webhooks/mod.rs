//! Webhooks: events as signed HTTP requests to whoever asked for them.
//!
//! [`endpoints`] says where to, [`deliveries`] what and how it went, [`deliver`] makes one attempt.
//! Each delivery is a job of the queue, made in the same change that notes the event as seen: so
//! none is lost and none is made twice. Attempts are at least once: receivers tell repeats by
//! `webhook-id`.

pub mod body;
mod deliver;
mod deliveries;
mod endpoints;
pub mod guard;
mod places;
mod rows;
pub mod sender;
pub mod signature;

use async_trait::async_trait;
use streamgate_core::{
    Failure,
    time::{UnixMillis, now_ms},
};
use streamgate_proto::streamgate::events::v1::Event;
use streamgate_store::{Database, EventHandler, Inbox};

use crate::{Error, Metrics, engine::Queue};
use body::Bodies;
use guard::Guard;
use places::Places;
use sender::Sender;

pub use deliver::{ATTEMPTS, wait_after};
pub use deliveries::{DeliveryPage, Replay};
pub use endpoints::{Changes, EndpointPage, NewEndpoint};
pub use rows::{Delivery, DeliveryState, Endpoint};

/// Name of the job type that delivers.
pub const JOB_TYPE: &str = "deliver_webhook";
/// How long messages, and all that is known of their deliveries, are kept.
const KEEP_MESSAGES_MS: i64 = 30 * 24 * 60 * 60 * 1000;

/// Endpoints and deliveries in the queue's database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Webhooks {
    queue: Queue,
    sender: Sender,
    guard: Guard,
    bodies: Bodies,
    metrics: Metrics,
    places: Places,
}

impl Webhooks {
    /// Queues deliveries in `queue` and sends them with `sender`; `guard` looks at new URLs. Of `at_once`
    /// deliveries under way, one account has a quarter at the most.
    ///
    /// # Errors
    /// When the contracts hold no events.
    pub fn new(queue: Queue, sender: Sender, guard: Guard, metrics: Metrics, at_once: u32) -> Result<Self, Error> {
        Ok(Self { queue, sender, guard, bodies: Bodies::new()?, metrics, places: Places::of(at_once) })
    }

    const fn db(&self) -> &Database {
        self.queue.database()
    }

    /// Forgets old messages, their deliveries and attempts, and gives up on deliveries that nothing tries any more.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn prune(&self, now: UnixMillis) -> Result<u64, Error> {
        let mut tx = self.db().begin().await?;
        let gone = sqlx::query("DELETE FROM webhook_messages WHERE create_ms < $1").bind(now - KEEP_MESSAGES_MS);
        let gone = gone.execute(&mut *tx).await?.rows_affected();
        let orphans = self.end_orphans(&mut tx, now).await?;
        tx.commit().await?;
        if orphans > 0 {
            tracing::info!(deliveries = orphans, "deliveries were given up, since their jobs had ended");
        }
        Ok(gone)
    }

    async fn hear(&self, event: &Event) -> Result<(), Error> {
        let Some(told) = self.bodies.of(event)? else { return Ok(()) };
        let now = now_ms();
        let mut tx = self.db().begin().await?;
        if !Inbox::first_time(&mut tx, &event.id).await? {
            return Ok(());
        }
        let queued = self.enqueue(&mut tx, &event.id, &told, now).await?;
        tx.commit().await?;
        if queued > 0 {
            self.queue.wake();
        }
        Ok(())
    }
}

#[async_trait]
impl EventHandler for Webhooks {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        Ok(self.hear(&event).await?)
    }
}
