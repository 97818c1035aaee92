//! Events on their way.

use sqlx::AnyConnection;
use streamgate_core::{
    Caller,
    ids::{DeliveryId, EventId, WebhookId},
    page::Page,
    time::{UnixMillis, now_ms},
};
use streamgate_proto::streamgate::worker::v1::{DeliverWebhookParams, job_params::Kind};
use streamgate_store::Transaction;

use super::{
    ATTEMPTS, JOB_TYPE, Webhooks,
    body::{self, Told},
    endpoints::own,
    rows::{AttemptRow, Delivery, DeliveryRow, DeliveryState, Endpoint, EndpointRow, select_deliveries, select_endpoints},
    sender::Attempt,
};
use crate::{
    Error,
    engine::{Lane, Submit},
};

/// How long the job of a delivery is kept; the delivery itself says more, and stays longer.
const KEEP_JOBS: std::time::Duration = std::time::Duration::from_secs(24 * 60 * 60);
/// Deliveries that one call sends again.
const REPLAYED_AT_ONCE: i64 = 1_000;
/// Attempts that are shown and kept of one delivery.
pub(super) const SHOWN_ATTEMPTS: i64 = 20;

/// One page of deliveries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryPage {
    /// The deliveries, newest first.
    pub deliveries: Vec<Delivery>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

/// Which deliveries are sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replay {
    /// Made then or later.
    pub since: UnixMillis,
    /// Made before.
    pub until: UnixMillis,
    /// Those too that were delivered.
    pub delivered_too: bool,
    /// Where to go on; empty for the beginning.
    pub page_token: String,
}

impl Webhooks {
    /// Makes a delivery, and its job, for each endpoint that wants the event; says how many.
    pub(super) async fn enqueue(
        &self,
        tx: &mut Transaction,
        message_id: &str,
        told: &Told,
        now: UnixMillis,
    ) -> Result<usize, Error> {
        let rows: Vec<EndpointRow> = sqlx::query_as(concat!(
            select_endpoints!("WHERE owner = $1 AND all_owners = 0 AND enabled = 1 UNION ALL "),
            select_endpoints!("WHERE all_owners = 1 AND enabled = 1")
        ))
        .bind(&told.owner)
        .fetch_all(&mut **tx)
        .await?;
        let wanting: Vec<Endpoint> =
            rows.into_iter().map(Endpoint::from).filter(|endpoint| endpoint.wants(&told.event_type)).collect();
        if wanting.is_empty() {
            return Ok(0);
        }
        store_message(tx, message_id, told, now).await?;
        for endpoint in &wanting {
            self.add(tx, endpoint, message_id, &told.event_type, now).await?;
        }
        Ok(wanting.len())
    }

    async fn add(
        &self,
        tx: &mut Transaction,
        endpoint: &Endpoint,
        message: &str,
        event_type: &str,
        now: UnixMillis,
    ) -> Result<DeliveryId, Error> {
        let id = DeliveryId::new();
        let added = sqlx::query(
            "INSERT INTO webhook_deliveries (delivery_id, endpoint_id, message_id, event_type, state, create_ms) VALUES ($1, $2, $3, $4, 1, $5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(id.as_str())
        .bind(&endpoint.endpoint_id)
        .bind(message)
        .bind(event_type)
        .bind(now)
        .execute(&mut **tx)
        .await?;
        if added.rows_affected() == 1 {
            self.queue.submit_in(tx, job_of(id.as_str(), &endpoint.owner), now).await?;
        }
        Ok(id)
    }

    /// Sends a test event to one of the caller's endpoints.
    ///
    /// # Errors
    /// When there is no such endpoint, or it is disabled.
    pub async fn send_test(&self, caller: &Caller, id: &WebhookId) -> Result<Delivery, Error> {
        let now = now_ms();
        let mut tx = self.db().begin().await?;
        let endpoint = own(&mut tx, caller, id.as_str()).await?;
        if !endpoint.enabled {
            return Err(Error::EndpointDisabled);
        }
        let (message, told) = (EventId::new(), body::test_event(id.as_str()));
        store_message(&mut tx, message.as_str(), &told, now).await?;
        let delivery = self.add(&mut tx, &endpoint, message.as_str(), &told.event_type, now).await?;
        let delivery = find(&mut tx, delivery.as_str()).await?;
        tx.commit().await?;
        self.queue.wake();
        Ok(delivery)
    }

    /// Deliveries of one of the caller's endpoints, newest first.
    ///
    /// # Errors
    /// When there is no such endpoint, or the page is not one of this list.
    pub async fn deliveries(
        &self,
        caller: &Caller,
        id: &WebhookId,
        state: Option<DeliveryState>,
        size: u32,
        token: &str,
    ) -> Result<DeliveryPage, Error> {
        self.endpoint(caller, id).await?;
        let mark = format!("deliveries of {id} {state:?}");
        let page = Page::parse(size, token, &mark)?;
        let query = match state {
            None => select_deliveries!("WHERE d.endpoint_id = $1 AND d.delivery_id < $2 ORDER BY d.delivery_id DESC LIMIT $3"),
            Some(_) => select_deliveries!(
                "WHERE d.endpoint_id = $1 AND d.delivery_id < $2 AND d.state = $4 ORDER BY d.delivery_id DESC LIMIT $3"
            ),
        };
        let mut query = sqlx::query_as::<_, DeliveryRow>(query)
            .bind(id.as_str())
            .bind(page.after.clone().unwrap_or_else(|| "~".to_owned()))
            .bind(i64::from(page.size) + 1);
        if let Some(state) = state {
            query = query.bind(state as i64);
        }
        let rows = query.fetch_all(self.db().pool()).await?;
        let deliveries = rows.into_iter().map(Delivery::try_from).collect::<Result<Vec<_>, _>>()?;
        let (deliveries, next_page_token) = page.cut(deliveries, |delivery| delivery.delivery_id.clone(), &mark);
        Ok(DeliveryPage { deliveries, next_page_token })
    }

    /// One delivery with its body and its last attempts, newest first.
    ///
    /// # Errors
    /// When there is none, or it is somebody else's.
    pub async fn delivery(&self, caller: &Caller, id: &DeliveryId) -> Result<(Delivery, Vec<u8>, Vec<Attempt>), Error> {
        let mut connection = self.db().pool().acquire().await?;
        let delivery = own_delivery(&mut connection, caller, id).await?;
        let body = sqlx::query_scalar("SELECT body FROM webhook_messages WHERE message_id = $1")
            .bind(&delivery.message_id)
            .fetch_one(&mut *connection)
            .await?;
        let attempts: Vec<AttemptRow> = sqlx::query_as(
            "SELECT at_ms, status, latency_ms, error, response FROM webhook_attempts WHERE delivery_id = $1 ORDER BY attempt_id DESC LIMIT $2",
        )
        .bind(id.as_str())
        .bind(SHOWN_ATTEMPTS)
        .fetch_all(&mut *connection)
        .await?;
        Ok((delivery, body, attempts.into_iter().map(Attempt::from).collect()))
    }

    /// Sends a delivery again at once, with the same `webhook-id`.
    ///
    /// # Errors
    /// When there is none, it is somebody else's, or its endpoint is disabled.
    pub async fn replay(&self, caller: &Caller, id: &DeliveryId) -> Result<Delivery, Error> {
        let mut tx = self.db().begin().await?;
        let delivery = own_delivery(&mut tx, caller, id).await?;
        let endpoint = own(&mut tx, caller, &delivery.endpoint_id).await?;
        if !endpoint.enabled {
            return Err(Error::EndpointDisabled);
        }
        self.send_again(&mut tx, id.as_str(), &endpoint.owner).await?;
        let delivery = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        self.queue.wake();
        Ok(delivery)
    }

    /// Sends deliveries of a span of time again, the oldest first; says how many, and the token of those that are left.
    ///
    /// # Errors
    /// When there is no such endpoint, it is disabled, or the token is of another replay.
    pub async fn replay_all(&self, caller: &Caller, id: &WebhookId, replay: &Replay) -> Result<(u32, String), Error> {
        let mark = format!("replay of {id} since {} {}", replay.since, replay.delivered_too);
        let place = Page::parse(0, &replay.page_token, &mark)?.after.unwrap_or_else(|| format!("{} ", replay.since));
        let (after_ms, after_id) = place.split_once(' ').unwrap_or_default();
        let mut tx = self.db().begin().await?;
        let endpoint = own(&mut tx, caller, id.as_str()).await?;
        if !endpoint.enabled {
            return Err(Error::EndpointDisabled);
        }
        let mut chosen: Vec<(i64, String)> = sqlx::query_as(
            "SELECT create_ms, delivery_id FROM webhook_deliveries WHERE endpoint_id = $1 AND (create_ms, delivery_id) > ($2, $3) \
             AND create_ms < $4 AND (state = 3 OR (state = 2 AND $5 = 1)) ORDER BY create_ms, delivery_id LIMIT $6",
        )
        .bind(id.as_str())
        .bind(after_ms.parse::<i64>().unwrap_or(replay.since))
        .bind(after_id)
        .bind(replay.until)
        .bind(i64::from(replay.delivered_too))
        .bind(REPLAYED_AT_ONCE + 1)
        .fetch_all(&mut *tx)
        .await?;
        let most = usize::try_from(REPLAYED_AT_ONCE).unwrap_or(usize::MAX);
        let more = chosen.len() > most;
        chosen.truncate(most);
        let mut replayed = 0;
        for (_, delivery) in &chosen {
            self.send_again(&mut tx, delivery, &endpoint.owner).await?;
            replayed += 1;
        }
        tx.commit().await?;
        self.queue.wake();
        let last = chosen.last().filter(|_| more);
        Ok((replayed, last.map(|(ms, delivery)| Page::token(&format!("{ms} {delivery}"), &mark)).unwrap_or_default()))
    }

    /// An attempt under way is called off: whether it has been noted already can't be seen from here.
    async fn send_again(&self, tx: &mut Transaction, delivery_id: &str, owner: &str) -> Result<(), Error> {
        sqlx::query("UPDATE webhook_deliveries SET state = 1, end_ms = NULL WHERE delivery_id = $1")
            .bind(delivery_id)
            .execute(&mut **tx)
            .await?;
        self.queue.submit_instead(tx, job_of(delivery_id, owner), now_ms()).await?;
        Ok(())
    }

    /// Gives up on deliveries whose job has ended in a way that it could not note itself, such as by being cancelled; says on
    /// how many.
    pub(super) async fn end_orphans(&self, tx: &mut Transaction, now: UnixMillis) -> Result<u64, Error> {
        let ended = sqlx::query(
            "UPDATE webhook_deliveries SET state = 3, end_ms = $1 WHERE state = 1 AND NOT EXISTS \
             (SELECT 1 FROM jobs WHERE jobs.unique_key = 'webhook:' || webhook_deliveries.delivery_id AND jobs.state IN (1, 2))",
        );
        Ok(ended.bind(now).execute(&mut **tx).await?.rows_affected())
    }
}

fn job_of(delivery_id: &str, owner: &str) -> Submit {
    Submit {
        owner: owner.to_owned(),
        unique_key: Some(format!("webhook:{delivery_id}")),
        params: Some(Kind::DeliverWebhook(DeliverWebhookParams { delivery_id: delivery_id.to_owned() })),
        max_attempts: ATTEMPTS,
        keep: KEEP_JOBS,
        // Else each delivery would be an event, and each event a delivery.
        announced: false,
        lane: Lane::Deliveries,
        ..Submit::new(JOB_TYPE)
    }
}

async fn store_message(tx: &mut Transaction, id: &str, told: &Told, now: UnixMillis) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO webhook_messages (message_id, event_type, body, create_ms) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(&told.event_type)
    .bind(told.body.clone())
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn find(connection: &mut AnyConnection, id: &str) -> Result<Delivery, Error> {
    let query = select_deliveries!("WHERE d.delivery_id = $1");
    let row: Option<DeliveryRow> = sqlx::query_as(query).bind(id).fetch_optional(connection).await?;
    row.ok_or_else(|| Error::UnknownDelivery(id.to_owned()))?.try_into()
}

async fn own_delivery(connection: &mut AnyConnection, caller: &Caller, id: &DeliveryId) -> Result<Delivery, Error> {
    let delivery = find(connection, id.as_str()).await?;
    match own(connection, caller, &delivery.endpoint_id).await {
        Err(Error::UnknownEndpoint(_)) => Err(Error::UnknownDelivery(id.to_string())),
        other => other.map(|_| delivery),
    }
}
