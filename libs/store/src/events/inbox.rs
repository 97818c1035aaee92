//! The consumer's side of events.

use async_trait::async_trait;
use streamgate_core::{Failure, time::now_ms};
use streamgate_proto::streamgate::events::v1::Event;

use crate::{database::Transaction, error::Result};

/// What a service does with an event.
#[async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// Makes the event's effect durable before it returns; an event that does not concern it is
    /// success. The same event may come again: see [`Inbox::first_time`].
    ///
    /// A failure is tried again and holds back later events of its subject. One that says that the
    /// event itself is wrong (`InvalidArgument`, `OutOfRange`, `TooLarge`) makes it a dead letter at
    /// once; one that says that something is away (such as `Unavailable`) is tried for ever; any
    /// other for as long as [`Patience`](super::Patience) lasts. Later events go on after that, so a
    /// handler must take an event whose predecessor it never saw.
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
        let added = sqlx::query("INSERT INTO inbox_events (id, seen_ms) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(event_id)
            .bind(now_ms())
            .execute(&mut **tx)
            .await?;
        Ok(added.rows_affected() == 1)
    }

    /// Forgets that the event was handled, so that it can be handled again.
    pub(super) async fn forget(tx: &mut Transaction, event_id: &str) -> Result<()> {
        sqlx::query("DELETE FROM inbox_events WHERE id = $1").bind(event_id).execute(&mut **tx).await?;
        Ok(())
    }
}
