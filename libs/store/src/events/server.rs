//! Takes deliveries over gRPC.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use streamgate_core::{Failure, FieldViolation, ids::EventId};
use streamgate_proto::streamgate::events::v1::{DeliverRequest, DeliverResponse, Event, event_service_server::EventService};
use tonic::{Request, Response, Status};

use super::inbox::{EventHandler, Inbox};
use crate::database::Database;

/// Hands deliveries to a service's handler.
#[derive(Clone)]
pub struct Events {
    handler: Arc<dyn EventHandler>,
    db: Option<Database>,
}

impl Events {
    /// Hands events to `handler`.
    #[must_use]
    pub const fn new(handler: Arc<dyn EventHandler>) -> Self {
        Self { handler, db: None }
    }

    /// Says where the handler remembers what it has handled, so that it can be made to forget.
    #[must_use]
    pub fn remembered_in(self, db: Database) -> Self {
        Self { db: Some(db), ..self }
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
        let DeliverRequest { event, again } = request.into_inner();
        let event = event.unwrap_or_default();
        let (id, subject) = (event.id.clone(), event.subject.clone());
        handle(self.db.as_ref(), self.handler.as_ref(), event, again).await.inspect_err(|failure| log(failure, &id, &subject))?;
        Ok(Response::new(DeliverResponse {}))
    }
}

/// Has an event handled, even when it was, if `again`.
pub(super) async fn handle(db: Option<&Database>, handler: &dyn EventHandler, event: Event, again: bool) -> Result<(), Failure> {
    check(&event)?;
    if let Some(db) = db.filter(|_| again) {
        let mut tx = db.begin().await?;
        Inbox::forget(&mut tx, &event.id).await?;
        tx.commit().await?;
    }
    handler.handle(event).await
}

/// Whatever is internal was logged with its causes where the service made a failure of it.
fn log(failure: &Failure, id: &str, subject: &str) {
    tracing::debug!(event_id = id, subject, reason = %failure.reason, error = %failure.message, "an event was not handled");
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
