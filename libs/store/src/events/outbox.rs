//! Events that leave a service, in the same change as what they tell.

use prost::Message as _;
use streamgate_client::context::current_traceparent;
use streamgate_core::{
    ServiceName, events,
    ids::EventId,
    time::{now_ms, to_timestamp},
};
use streamgate_proto::streamgate::events::v1::{Event, event::Payload};

use super::outgoing::Route;
use crate::{database::Transaction, error::Result};

/// Adds events to a change. An [`EventBus`](super::EventBus) relays them once it is committed.
#[derive(Debug, Clone)]
pub struct Outbox {
    source: ServiceName,
    route: Route,
}

impl Outbox {
    /// The outbox of `source`, for events that travel over gRPC.
    #[must_use]
    pub const fn new(source: ServiceName) -> Self {
        Self::through(source, Route::Grpc)
    }

    pub(super) const fn through(source: ServiceName, route: Route) -> Self {
        Self { source, route }
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
        let consumers = self.route.consumers(&payload);
        let event = Event {
            id: id.to_string(),
            source: self.source.to_string(),
            subject: subject.to_owned(),
            time: Some(to_timestamp(now)),
            r#type: format!("{}{}", events::PREFIX, events::event_type(&payload)),
            trace_parent: current_traceparent(),
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
                .bind(consumer)
                .bind(seq)
                .bind(subject)
                .bind(now)
                .execute(&mut **tx)
                .await?;
        }
        tx.mark_events();
        Ok(id)
    }
}
