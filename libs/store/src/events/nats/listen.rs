//! Reads the stream into a service's own queue.

use std::{collections::BTreeMap, time::Duration};

use async_nats::{
    HeaderMap,
    jetstream::{
        Message,
        consumer::{AckPolicy, DeliverPolicy, pull},
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use futures::StreamExt as _;
use prost::Message as _;
use streamgate_core::{Failure, ServiceName, events::consumers};
use streamgate_proto::streamgate::events::v1::Event;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    AGAIN_HEADER, Position, SUBJECTS, TO_HEADER,
    link::{Link, away, identity},
};
use crate::{
    database::Database,
    error::Result,
    events::incoming::{Arrival, take_over},
};

/// Messages taken over in one change.
const BATCH: usize = 256;
/// Messages that NATS sends before it wants an acknowledgement.
const MAX_UNACKNOWLEDGED: i64 = 1024;
/// After this time NATS sends a message again.
const ACK_WAIT: Duration = Duration::from_secs(30);
/// One request for messages lasts so long.
const PULL_LASTS: Duration = Duration::from_secs(30);
/// A consumer that says nothing for twice this time is gone.
const HEARTBEAT: Duration = Duration::from_secs(2);
/// Wait before the stream is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Reads the stream with a durable consumer of the service's name.
///
/// A message is acknowledged when its event is in the service's database. What happens to it from
/// there on is the queue's business, so a slow or failing handler never holds the stream up, and
/// the order of a subject is the order of the stream, whatever NATS sends twice.
pub(in crate::events) struct Listener {
    link: Link,
    db: Database,
    own: ServiceName,
    arrived: watch::Sender<u64>,
}

impl Listener {
    pub(in crate::events) fn new(link: &Link, db: Database, own: ServiceName, arrived: watch::Sender<u64>) -> Self {
        Self { link: link.clone(), db, own, arrived }
    }

    /// Reads until `stop`, from where it was when NATS comes back.
    pub(in crate::events) async fn run(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let mut connections = self.link.connections();
            connections.borrow_and_update();
            let Some(Err(failure)) = stop.run_until_cancelled(Box::pin(self.listen())).await else { return };
            // That NATS is away was logged by the link.
            tracing::debug!(error = %failure.message, "the stream of events can't be read; trying again");
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(RETRY_AFTER) => {}
                _ = connections.changed() => {}
            }
        }
    }

    async fn listen(&self) -> Result<(), Failure> {
        let stream = self.link.stream().await?;
        let info = stream.get_info().await.map_err(away)?;
        let identity = identity(&info);
        let position = self.position(&identity).await?;
        let first = i64::try_from(info.state.first_sequence).unwrap_or(i64::MAX);
        if position.sequence > 0 && first > position.sequence + 1 {
            tracing::error!(
                missed = first - position.sequence - 1,
                "the stream has dropped events before they were read: have them replayed"
            );
        }
        let config = pull::Config {
            durable_name: Some(self.own.to_string()),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: ACK_WAIT,
            // Taking over fails only when the database is away: no fault of a message.
            max_deliver: -1,
            filter_subject: SUBJECTS.to_owned(),
            max_ack_pending: MAX_UNACKNOWLEDGED,
            ..pull::Config::default()
        };
        let consumer = stream.get_or_create_consumer(self.own.as_str(), config).await.map_err(away)?;
        let pull = consumer.stream().max_messages_per_batch(BATCH).expires(PULL_LASTS).heartbeat(HEARTBEAT);
        let mut chunks = pull.messages().await.map_err(away)?.ready_chunks(BATCH);
        while let Some(chunk) = chunks.next().await {
            let mut messages = Vec::with_capacity(chunk.len());
            let mut broken = None;
            for message in chunk {
                match message {
                    Ok(message) => messages.push(message),
                    Err(error) => broken = Some(away(error)),
                }
            }
            self.take(&stream, &identity, first, &messages).await?;
            if let Some(failure) = broken {
                return Err(failure);
            }
        }
        Err(away("the stream of messages ended"))
    }

    /// How far this stream was read; from the start when it is another one.
    async fn position(&self, identity: &str) -> Result<Position, Failure> {
        let query = sqlx::query_as("SELECT identity, sequence FROM event_streams WHERE role = 'received'");
        let known: Option<(String, i64)> = query.fetch_optional(self.db.pool()).await.map_err(crate::Error::from)?;
        if let Some((known, sequence)) = known.filter(|(known, _)| known == identity) {
            return Ok(Position { identity: known, sequence });
        }
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "INSERT INTO event_streams (role, identity, sequence) VALUES ('received', $1, 0)
             ON CONFLICT (role) DO UPDATE SET identity = excluded.identity, sequence = 0
             WHERE event_streams.identity <> excluded.identity",
        )
        .bind(identity)
        .execute(&mut *tx)
        .await
        .map_err(crate::Error::from)?;
        tx.commit().await?;
        Ok(Position { identity: identity.to_owned(), sequence: 0 })
    }

    /// Takes messages over, those between them that NATS sent to somebody else too, and acknowledges.
    async fn take(&self, stream: &Stream, identity: &str, first: i64, messages: &[Message]) -> Result<(), Failure> {
        let mut sent = BTreeMap::new();
        for message in messages {
            let info = message.info().map_err(away)?;
            let sequence = i64::try_from(info.stream_sequence).unwrap_or(i64::MAX);
            sent.insert(sequence, self.read(sequence, message.headers.as_ref(), &message.payload));
        }
        let Some((&last, _)) = sent.last_key_value() else { return Ok(()) };
        let mut position = self.position(identity).await?;
        while !sent.is_empty() {
            let begin = first.max(position.sequence + 1);
            let end = last.min(begin.saturating_add(BATCH as i64 - 1)).max(position.sequence);
            let arrivals = self.up_to(stream, &sent, &position, begin, end).await?;
            if take_over(&self.db, &position, end, &arrivals).await? {
                sent = sent.split_off(&(end + 1));
                position.sequence = end;
            } else {
                position = self.position(identity).await?;
            }
        }
        self.arrived.send_modify(|count| *count = count.wrapping_add(1));
        for message in messages {
            message.ack().await.map_err(away)?;
        }
        Ok(())
    }

    /// The events for this service up to `end`: what NATS sent, and from `begin` on what it sent to
    /// another replica. A message that comes again is dropped by its event's id.
    async fn up_to(
        &self,
        stream: &Stream,
        sent: &BTreeMap<i64, Option<Arrival>>,
        position: &Position,
        begin: i64,
        end: i64,
    ) -> Result<BTreeMap<i64, Arrival>, Failure> {
        let repeated = sent.range(..=position.sequence).filter_map(|(sequence, arrival)| Some((*sequence, arrival.clone()?)));
        let mut arrivals: BTreeMap<i64, Arrival> = repeated.collect();
        for sequence in begin..=end {
            let arrival = match sent.get(&sequence) {
                Some(arrival) => arrival.clone(),
                None => self.fetch(stream, sequence).await?,
            };
            if let Some(arrival) = arrival {
                arrivals.insert(sequence, arrival);
            }
        }
        Ok(arrivals)
    }

    async fn fetch(&self, stream: &Stream, sequence: i64) -> Result<Option<Arrival>, Failure> {
        match stream.get_raw_message(u64::try_from(sequence).unwrap_or(0)).await {
            Ok(message) => Ok(self.read(sequence, Some(&message.headers), &message.payload)),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(away(error)),
        }
    }

    /// The event of a message, if it is for this service.
    fn read(&self, sequence: i64, headers: Option<&HeaderMap>, payload: &[u8]) -> Option<Arrival> {
        let header = |name: &str| headers.and_then(|headers| headers.get(name)).map(|value| value.as_str());
        let again = header(AGAIN_HEADER).is_some();
        let to = header(TO_HEADER);
        let Ok(event) = Event::decode(payload) else {
            // The queue makes a dead letter of it, where an operator sees it.
            let id = header("Nats-Msg-Id").map_or_else(|| format!("unreadable-{sequence}"), str::to_owned);
            return Some(Arrival { subject: id.clone(), id, body: payload.to_vec(), again });
        };
        let concerns_us = event.payload.as_ref().is_some_and(|payload| consumers(payload).contains(&self.own));
        let is_for_us = to.map_or(concerns_us, |to| to == self.own.as_str() && concerns_us);
        is_for_us.then(|| Arrival { id: event.id, subject: event.subject, body: payload.to_vec(), again })
    }
}
