//! Events as an operator sees them, over gRPC.

use async_trait::async_trait;
use prost::Message as _;
use streamgate_client::Mesh;
use streamgate_core::{
    Caller, Failure, ServiceName,
    events::TELLERS,
    page::Page,
    time::{from_timestamp, to_timestamp},
};
use streamgate_proto::streamgate::events::v1 as pb;
use tokio::sync::watch;
use tonic::{Request, Response, Status};

use super::{EventBus, dead, log};
use crate::database::Database;

/// Events queued by one call of a replay when the caller names no number, and at the most.
const DEFAULT_REPLAY: u32 = 1_000;
const MAX_REPLAY: u32 = 10_000;

/// The operator's side of one service's events.
#[derive(Debug, Clone)]
pub struct Admin {
    db: Database,
    own: ServiceName,
    mesh: Mesh,
    arrived: watch::Sender<u64>,
}

impl Admin {
    /// What an operator sees of this bus.
    #[must_use]
    pub fn of(bus: &EventBus) -> Self {
        bus.admin_side()
    }

    pub(super) const fn new(db: Database, own: ServiceName, mesh: Mesh, arrived: watch::Sender<u64>) -> Self {
        Self { db, own, mesh, arrived }
    }

    /// The client of the service that is asked for; absent when it is this one.
    fn elsewhere<T>(&self, request: &Request<T>, service: &str) -> Result<Option<AdminClient>, Failure> {
        let asked: ServiceName = match service {
            "" => return Err(Failure::invalid_field("service", "must name a service, such as upload")),
            name => name.parse().ok().filter(|name| TELLERS.contains(name)).ok_or_else(|| {
                let names: Vec<&str> = TELLERS.iter().map(|name| name.as_str()).collect();
                Failure::invalid_field("service", format!("must be one that takes part in events: {}", names.join(", ")))
            })?,
        };
        if asked == self.own {
            return Ok(None);
        }
        let caller = Caller::of(request).map_err(|status| Failure::from(&status))?;
        let mesh = self.mesh.on_behalf_of(&caller);
        Ok(Some(AdminClient::new(mesh.internal_channel(asked))))
    }
}

type AdminClient = pb::event_admin_service_client::EventAdminServiceClient<streamgate_client::MeshChannel>;

#[async_trait]
impl pb::event_admin_service_server::EventAdminService for Admin {
    async fn list_events(&self, request: Request<pb::ListEventsRequest>) -> Result<Response<pb::ListEventsResponse>, Status> {
        if let Some(mut other) = self.elsewhere(&request, &request.get_ref().service)? {
            return other.list_events(request.into_inner()).await;
        }
        let asked = request.into_inner();
        let page = Page::parse(asked.page_size, &asked.page_token, &asked.subject)?;
        let after = page.after.as_deref().map_or(Ok(0), str::parse).map_err(|_| unreadable_token())?;
        let rows = log::list(&self.db, after, &asked.subject, i64::from(page.size) + 1).await.map_err(Failure::from)?;
        let (rows, next_page_token) = page.cut(rows, |row| row.seq.to_string(), &asked.subject);
        let events = rows.into_iter().map(|row| pb::LoggedEvent {
            sequence: row.seq,
            event: Some(row.event),
            waiting_for: row.waiting_for,
        });
        Ok(Response::new(pb::ListEventsResponse { events: events.collect(), next_page_token }))
    }

    async fn list_dead_letters(
        &self,
        request: Request<pb::ListDeadLettersRequest>,
    ) -> Result<Response<pb::ListDeadLettersResponse>, Status> {
        if let Some(mut other) = self.elsewhere(&request, &request.get_ref().service)? {
            return other.list_dead_letters(request.into_inner()).await;
        }
        let asked = request.into_inner();
        let page = Page::parse(asked.page_size, &asked.page_token, "")?;
        let after = match page.after.as_deref().map(|key| key.split_once(' ')) {
            None => (0, String::new()),
            Some(Some((at, id))) => (at.parse().map_err(|_| unreadable_token())?, id.to_owned()),
            Some(None) => return Err(unreadable_token().into()),
        };
        let rows = dead::list(&self.db, &after, i64::from(page.size) + 1).await.map_err(Failure::from)?;
        let (rows, next_page_token) = page.cut(rows, |row| format!("{} {}", row.dead_ms, row.id), "");
        let dead_letters = rows.into_iter().map(encode).collect();
        Ok(Response::new(pb::ListDeadLettersResponse { dead_letters, next_page_token }))
    }

    async fn retry_dead_letter(
        &self,
        request: Request<pb::RetryDeadLetterRequest>,
    ) -> Result<Response<pb::RetryDeadLetterResponse>, Status> {
        if let Some(mut other) = self.elsewhere(&request, &request.get_ref().service)? {
            return other.retry_dead_letter(request.into_inner()).await;
        }
        let mut tx = self.db.begin().await.map_err(Failure::from)?;
        dead::retry(&mut tx, &request.get_ref().dead_letter_id).await?;
        tx.commit().await.map_err(Failure::from)?;
        self.arrived.send_modify(|count| *count = count.wrapping_add(1));
        Ok(Response::new(pb::RetryDeadLetterResponse {}))
    }

    async fn delete_dead_letter(
        &self,
        request: Request<pb::DeleteDeadLetterRequest>,
    ) -> Result<Response<pb::DeleteDeadLetterResponse>, Status> {
        if let Some(mut other) = self.elsewhere(&request, &request.get_ref().service)? {
            return other.delete_dead_letter(request.into_inner()).await;
        }
        let mut tx = self.db.begin().await.map_err(Failure::from)?;
        let letter = dead::take(&mut tx, &request.get_ref().dead_letter_id).await?;
        tx.commit().await.map_err(Failure::from)?;
        tracing::info!(event_id = letter.event_id, consumer = letter.consumer, "an operator dropped a dead letter");
        Ok(Response::new(pb::DeleteDeadLetterResponse {}))
    }

    async fn replay_events(
        &self,
        request: Request<pb::ReplayEventsRequest>,
    ) -> Result<Response<pb::ReplayEventsResponse>, Status> {
        if let Some(mut other) = self.elsewhere(&request, &request.get_ref().service)? {
            return other.replay_events(request.into_inner()).await;
        }
        let wanted = wanted(&request.into_inner())?;
        let mut tx = self.db.begin().await.map_err(Failure::from)?;
        let replayed = log::replay(&mut tx, &wanted).await.map_err(Failure::from)?;
        tx.commit().await.map_err(Failure::from)?;
        tracing::info!(consumer = %wanted.consumer, queued = replayed.queued, "events are told again");
        let next_sequence = replayed.next_seq.unwrap_or(0);
        Ok(Response::new(pb::ReplayEventsResponse { queued: replayed.queued, next_sequence }))
    }
}

fn wanted(asked: &pb::ReplayEventsRequest) -> Result<log::Replay, Failure> {
    let consumer = asked.consumer.parse().map_err(|_| Failure::invalid_field("consumer", "must be one of the nine"))?;
    if asked.from_sequence < 0 {
        return Err(Failure::invalid_field("from_sequence", "must not be negative"));
    }
    if asked.max_events > MAX_REPLAY {
        return Err(Failure::invalid_field("max_events", format!("must be at most {MAX_REPLAY}")));
    }
    Ok(log::Replay {
        consumer,
        from_seq: asked.from_sequence,
        from_ms: asked.from_time.as_ref().map_or(0, from_timestamp),
        again: asked.again,
        at_most: if asked.max_events == 0 { DEFAULT_REPLAY } else { asked.max_events },
    })
}

fn encode(letter: dead::DeadLetter) -> pb::DeadLetter {
    let unreadable = |_| pb::Event { id: letter.event_id.clone(), subject: letter.subject.clone(), ..Default::default() };
    pb::DeadLetter {
        event: Some(pb::Event::decode(letter.body.as_slice()).unwrap_or_else(unreadable)),
        dead_letter_id: letter.id,
        consumer: letter.consumer,
        attempts: u32::try_from(letter.attempts).unwrap_or(u32::MAX),
        reason: letter.reason,
        detail: letter.detail,
        dead_time: Some(to_timestamp(letter.dead_ms)),
    }
}

fn unreadable_token() -> Failure {
    Failure::invalid_field("page_token", "must be the next_page_token of the page before")
}
