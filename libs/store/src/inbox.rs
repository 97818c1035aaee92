//! The consumer's side of events.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use streamgate_core::{ErrorKind, Failure, FieldViolation, ids::EventId, time::now_ms};
use streamgate_proto::streamgate::events::v1::{
    DeliverRequest, DeliverResponse, Event,
    event_service_server::{EventService, EventServiceServer},
};
use tonic::{Request, Response, Status};

use crate::{database::Transaction, error::Result};

/// How long an event is remembered. A sender that was away for longer may deliver it again.
const REMEMBER_MS: i64 = 60 * 24 * 60 * 60 * 1000;

/// What a service does with an event.
#[async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// Makes the event's effect durable before it returns; an event that does not concern it is
    /// success. The same event may come again: see [`Inbox::first_time`].
    ///
    /// A failure is retried for ever, and holds back later events of its subject, unless it says that the event itself is
    /// wrong (`InvalidArgument`, `OutOfRange`, `TooLarge`): then the sender parks it.
    async fn handle(&self, event: Event) -> Result<(), Failure>;
}

/// Remembers which events were handled.
#[derive(Debug)]
pub struct Inbox;

impl Inbox {
    /// Whether the event has not been handled yet; notes in the same change that it has.
    ///
    /// # Errors
    /// What the database says.
    pub async fn first_time(tx: &mut Transaction, event_id: &str) -> Result<bool> {
        let now = now_ms();
        sqlx::query("DELETE FROM inbox_events WHERE seen_ms < $1").bind(now - REMEMBER_MS).execute(&mut **tx).await?;
        let added = sqlx::query("INSERT INTO inbox_events (id, seen_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(event_id)
            .bind(now)
            .execute(&mut **tx)
            .await?;
        Ok(added.rows_affected() == 1)
    }
}

/// Takes deliveries in and hands them to a service's handler.
#[derive(Clone)]
pub struct Events {
    handler: Arc<dyn EventHandler>,
}

impl Events {
    /// Hands events to `handler`.
    #[must_use]
    pub const fn new(handler: Arc<dyn EventHandler>) -> Self {
        Self { handler }
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[async_trait]
impl EventService for Events {
    async fn deliver(&self, request: Request<DeliverRequest>) -> Result<Response<DeliverResponse>, Status> {
        let event = request.into_inner().event.unwrap_or_default();
        check(&event)?;
        let (id, subject) = (event.id.clone(), event.subject.clone());
        self.handler.handle(event).await.inspect_err(|failure| log(failure, &id, &subject))?;
        Ok(Response::new(DeliverResponse {}))
    }
}

fn log(failure: &Failure, id: &str, subject: &str) {
    if failure.kind == ErrorKind::Internal {
        tracing::error!(event_id = id, subject, error = %failure.message, "an event was not handled");
    } else {
        tracing::debug!(event_id = id, subject, reason = %failure.reason, error = %failure.message, "an event was not handled");
    }
}

fn check(event: &Event) -> Result<(), Failure> {
    let mut fields = Vec::new();
    if event.id.parse::<EventId>().is_err() {
        fields.push(FieldViolation::new("event.id", "must be an event id"));
    }
    if event.payload.is_none() {
        fields.push(FieldViolation::new("event.payload", "must be one that this version knows"));
    }
    if fields.is_empty() { Ok(()) } else { Err(Failure::invalid(fields)) }
}

/// The gRPC service that a consumer adds to its server.
#[must_use]
pub fn event_server(handler: Arc<dyn EventHandler>) -> EventServiceServer<Events> {
    EventServiceServer::new(Events::new(handler))
}
