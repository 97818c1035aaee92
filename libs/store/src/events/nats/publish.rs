//! Publishes a service's outbox, again when the stream has lost it.

use std::{sync::Arc, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        context::PublishErrorKind,
        stream::{LastRawMessageErrorKind, State, Stream},
    },
};
use async_trait::async_trait;
use prost::Message as _;
use sqlx::Row as _;
use streamgate_core::{ErrorKind, Failure, time::now_ms};
use streamgate_proto::streamgate::events::v1::Event;
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    AGAIN_HEADER, STREAM, TO_HEADER,
    link::{Link, away, identity},
};
use crate::{
    database::{Database, Transaction},
    error::Result,
    events::{
        EventMetrics,
        outgoing::{Addressee, BROKER, Delivery},
        queue::Receipt,
    },
};

/// How often the stream is looked at when nothing seems wrong.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// Wait after the stream could not be looked at.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long an event waits for the stream to be looked at, after NATS came back.
const WAIT_VERIFIED: Duration = Duration::from_secs(3);
/// How long NATS may take to say that it has an event.
const ACK_TIMEOUT: Duration = Duration::from_secs(5);
/// Events compared with the stream in one go, newest first.
const COMPARE: i64 = 100;

/// Publishes events and waits until the stream has them. Cheap to clone.
#[derive(Clone)]
pub(in crate::events) struct Publisher {
    link: Link,
    db: Database,
    retain_ms: i64,
    metrics: EventMetrics,
    /// The connection on which the stream was found to hold what we told it.
    verified: watch::Sender<u64>,
    /// Something looks wrong with the stream.
    doubt: Arc<Notify>,
}

impl Publisher {
    pub(in crate::events) fn new(link: &Link, db: Database, retain_ms: i64, metrics: EventMetrics) -> Self {
        Self { link: link.clone(), db, retain_ms, metrics, verified: watch::Sender::new(0), doubt: Arc::default() }
    }

    /// Looks at the stream on every new connection, and now and then. A stream that was made anew,
    /// or that has lost its newest messages, is told again what the database still has.
    pub(in crate::events) async fn keep_verified(&self, stop: &CancellationToken) {
        let mut connections = self.link.connections();
        while !stop.is_cancelled() {
            let connection = *connections.borrow_and_update();
            let next_look = match self.verify().await {
                Ok(()) => {
                    self.verified.send_replace(connection);
                    LOOK_EVERY
                }
                Err(failure) => {
                    tracing::debug!(error = %failure.message, "the stream of events can't be looked at yet");
                    RETRY_AFTER
                }
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(next_look) => {}
                () = self.doubt.notified() => {}
                // An error would mean that the link is gone, and then so are we.
                _ = connections.changed() => {}
            }
        }
    }

    async fn verify(&self) -> Result<(), Failure> {
        let stream = self.link.stream_or_new().await?;
        let info = stream.get_info().await.map_err(away)?;
        let identity = identity(&info);
        let query = sqlx::query_scalar("SELECT identity FROM event_streams WHERE role = 'sent'");
        let known: Option<String> = query.fetch_optional(self.db.pool()).await.map_err(crate::Error::from)?;
        let lost_from = match known {
            Some(known) if known == identity => self.lost_tail(&stream, &info.state).await?,
            // Told over gRPC until now: what waits is published, the rest has arrived.
            None => None,
            Some(_) => Some(0),
        };
        self.remember(&identity, lost_from).await?;
        Ok(())
    }

    /// Number of the first message of ours that the stream has lost from its end, if any. A server that
    /// died may have lost the newest ones although it had acknowledged them.
    async fn lost_tail(&self, stream: &Stream, state: &State) -> Result<Option<i64>, Failure> {
        let (mut lost_from, mut before) = (None, i64::MAX);
        loop {
            let rows = sqlx::query(
                "SELECT stream_seq, id FROM outbox_events WHERE stream_seq < $1 AND stream_seq IS NOT NULL
                 ORDER BY stream_seq DESC LIMIT $2",
            )
            .bind(before)
            .bind(COMPARE)
            .fetch_all(self.db.pool())
            .await
            .map_err(crate::Error::from)?;
            if rows.is_empty() {
                return Ok(lost_from);
            }
            for row in rows {
                let sequence: i64 = row.try_get(0).map_err(crate::Error::from)?;
                let id: String = row.try_get(1).map_err(crate::Error::from)?;
                let number = u64::try_from(sequence).unwrap_or(0);
                // Older ones have left the stream in their time.
                if number < state.first_sequence {
                    return Ok(lost_from);
                }
                match held(stream, number, &id).await? {
                    Held::Yes => return Ok(lost_from),
                    Held::Other => {}
                    Held::Nothing => self.replace_if_damaged(stream, number).await?,
                }
                (lost_from, before) = (Some(sequence), sequence);
            }
        }
    }

    /// Deletes a stream that counts a message but can't give it: its files were taken from under it,
    /// and nothing that it holds, or acknowledges, will ever be delivered.
    async fn replace_if_damaged(&self, stream: &Stream, number: u64) -> Result<(), Failure> {
        let state = stream.get_info().await.map_err(away)?.state;
        let spans = state.last_sequence.saturating_add(1).saturating_sub(state.first_sequence);
        let counted = state.messages == spans && (state.first_sequence..=state.last_sequence).contains(&number);
        if !counted {
            return Ok(());
        }
        tracing::error!(number, "NATS counts a message that it can't give: the stream is damaged and made anew");
        self.link.delete_stream().await?;
        Err(away("the stream was damaged"))
    }

    /// Writes down which stream it is, and queues what it has lost.
    async fn remember(&self, identity: &str, lost_from: Option<i64>) -> Result<()> {
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "INSERT INTO event_streams (role, identity, sequence) VALUES ('sent', $1, 0)
             ON CONFLICT (role) DO UPDATE SET identity = excluded.identity",
        )
        .bind(identity)
        .execute(&mut *tx)
        .await?;
        let queued = match lost_from {
            Some(from) => self.queue_again(&mut tx, from).await?,
            None => 0,
        };
        tx.commit().await?;
        if queued > 0 {
            self.metrics.republished(queued);
            tracing::warn!(events = queued, "NATS has lost events; they are told again from the database");
        }
        Ok(())
    }

    async fn queue_again(&self, tx: &mut Transaction, from: i64) -> Result<u64> {
        let now = now_ms();
        let queued = sqlx::query(
            "INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms)
             SELECT $1, seq, subject, $2 FROM outbox_events WHERE stream_seq >= $3 AND created_ms >= $4 ON CONFLICT DO NOTHING",
        )
        .bind(BROKER)
        .bind(now)
        .bind(from)
        .bind(now - self.retain_ms)
        .execute(&mut **tx)
        .await?;
        sqlx::query("UPDATE outbox_events SET stream_seq = NULL WHERE stream_seq >= $1").bind(from).execute(&mut **tx).await?;
        tx.mark_events();
        Ok(queued.rows_affected())
    }

    /// Waits until the stream was looked at on this connection.
    async fn until_verified(&self) -> Result<(), Failure> {
        let connections = self.link.connections();
        let mut verified = self.verified.subscribe();
        let current = |verified: &u64| *verified > 0 && *verified == *connections.borrow();
        match timeout(WAIT_VERIFIED, verified.wait_for(current)).await {
            Ok(Ok(_)) if self.link.is_connected() => Ok(()),
            _ => Err(away("NATS is away")),
        }
    }
}

/// What a stream has under the number of one of our events.
enum Held {
    Yes,
    Other,
    Nothing,
}

async fn held(stream: &Stream, number: u64, id: &str) -> Result<Held, Failure> {
    match stream.get_raw_message(number).await {
        Ok(message) => {
            let known = message.headers.get(async_nats::header::NATS_MESSAGE_ID);
            Ok(if known.is_some_and(|known| known.as_str() == id) { Held::Yes } else { Held::Other })
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Held::Nothing),
        Err(error) => Err(away(error)),
    }
}

#[async_trait]
impl Delivery for Publisher {
    async fn deliver(&self, to: Addressee, event: Event, again: bool) -> Result<Receipt, Failure> {
        self.until_verified().await?;
        let mut headers = HeaderMap::new();
        let mut message_id = event.id.clone();
        if let Addressee::One(name) = to {
            headers.insert(TO_HEADER, name.as_str());
            // A replay is no repetition: NATS must not drop it.
            message_id = format!("{}:{name}:{}", event.id, now_ms());
        }
        if again {
            headers.insert(AGAIN_HEADER, "1");
        }
        headers.insert(async_nats::header::NATS_MESSAGE_ID, message_id.as_str());
        headers.insert(async_nats::header::NATS_EXPECTED_STREAM, STREAM);
        if !event.trace_parent.is_empty() {
            headers.insert("traceparent", event.trace_parent.as_str());
        }
        let subject = event.r#type.clone();
        let published = async {
            let ack = self.link.context().publish_with_headers(subject, headers, event.encode_to_vec().into()).await?;
            ack.await
        };
        match timeout(ACK_TIMEOUT, published).await {
            Ok(Ok(ack)) => Ok(Receipt {
                // A message to one consumer stands beside the event's own, which is the one to look for.
                stream_seq: (to == Addressee::Everybody).then(|| i64::try_from(ack.sequence).unwrap_or(i64::MAX)),
            }),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(Failure::new(ErrorKind::TooLarge, "event_too_large", "the event is larger than NATS takes"))
            }
            Ok(Err(error)) => {
                self.doubt.notify_one();
                Err(away(error))
            }
            Err(_) => Err(away("NATS did not acknowledge in time")),
        }
    }
}
