//! Events that leave a service, in the same change as what they tell.

use prost::Message as _;
use streamgate_client::RequestContext;
use streamgate_core::{
    ServiceName, events,
    ids::EventId,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::events::v1::{Event, event::Payload};
use tokio_util::sync::CancellationToken;

use crate::{
    database::{Database, Transaction},
    error::Result,
    relay::{self, Delivery},
};

/// Adds events to a change, and relays them once it is committed.
#[derive(Debug, Clone)]
pub struct Outbox {
    db: Database,
    source: ServiceName,
}

impl Outbox {
    /// The outbox of `source`, in its database.
    #[must_use]
    pub const fn new(db: Database, source: ServiceName) -> Self {
        Self { db, source }
    }

    /// Adds an event about `subject`; it leaves when the change is committed, and never otherwise.
    /// Events about one subject reach each consumer in the order in which they were added.
    ///
    /// # Errors
    /// What the database says.
    pub async fn add(&self, tx: &mut Transaction, subject: &str, payload: Payload) -> Result<EventId> {
        // Numbers of events must rise in the order of their commits, or the relay would pass one by.
        tx.be_alone().await?;
        let id = EventId::new();
        let now = now_ms();
        let consumers = events::consumers(&payload);
        let event_type = format!("{}{}", events::PREFIX, events::event_type(&payload));
        let event = Event {
            id: id.to_string(),
            source: self.source.to_string(),
            subject: subject.to_owned(),
            time: Some(to_timestamp(now)),
            r#type: event_type,
            trace_parent: RequestContext::current().map(|request| request.traceparent()).unwrap_or_default(),
            payload: Some(payload),
        };
        let seq: i64 =
            sqlx::query_scalar("INSERT INTO outbox_events (id, subject, body, created_ms) VALUES ($1, $2, $3, $4) RETURNING seq")
                .bind(id.as_str())
                .bind(subject)
                .bind(event.encode_to_vec())
                .bind(now)
                .fetch_one(&mut **tx)
                .await?;
        for consumer in consumers {
            sqlx::query("INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms) VALUES ($1, $2, $3, $4)")
                .bind(consumer.as_str())
                .bind(seq)
                .bind(subject)
                .bind(now)
                .execute(&mut **tx)
                .await?;
        }
        tx.mark_events();
        Ok(id)
    }

    /// Delivers events until `stop`: at once after their commit, again with growing waits while
    /// a consumer is away, and after a restart from where it was. A consumer that is away holds
    /// back no other.
    pub fn relay<D: Delivery>(
        &self,
        delivery: D,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<()>> + Send + 'static + use<D> {
        let db = self.db.clone();
        async move {
            relay::run(db, delivery, stop).await;
            Ok(())
        }
    }
}
