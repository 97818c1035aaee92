//! One attempt of a delivery, and what it means for its endpoint.

use std::time::Duration;

use bytes::Bytes;
use rand::Rng;
use streamgate_core::{
    ids::DeliveryId,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Transaction;

use super::{
    Webhooks, deliveries,
    deliveries::SHOWN_ATTEMPTS,
    endpoints,
    rows::{Delivery, DeliveryState, Endpoint},
    sender::{Attempt, Parcel},
};
use crate::{Error, jobs::JobError};

/// Waits between attempts, about 70 hours in all: a receiver may be away over a long weekend.
const WAITS_SECONDS: [u64; 11] = [5, 30, 120, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 72_000, 97_200];
/// Attempts of one delivery.
#[allow(clippy::cast_possible_truncation, reason = "the list above is short")]
pub const ATTEMPTS: u32 = WAITS_SECONDS.len() as u32 + 1;
/// An endpoint that has failed for so long without a break is disabled at the next delivery that is given up.
const DISABLE_AFTER_MS: i64 = 2 * 24 * 60 * 60 * 1000;
/// When a delivery looks again for a free place.
const PUT_OFF_MS: std::ops::Range<u64> = 1_000..5_000;
/// How much a wait varies, so that deliveries that failed together don't come back together.
const JITTER: f64 = 0.1;

/// The wait after the attempt with this number, counted from 1.
#[must_use]
pub fn wait_after(attempt: u32, random: &mut impl Rng) -> Duration {
    let place = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX).min(WAITS_SECONDS.len() - 1);
    Duration::from_secs(WAITS_SECONDS[place]).mul_f64(random.random_range(1.0 - JITTER..=1.0 + JITTER))
}

impl Webhooks {
    /// Makes one attempt of a delivery; `last` says that no other will follow.
    ///
    /// # Errors
    /// Why it was not delivered.
    pub async fn deliver(&self, delivery_id: &str, last: bool) -> Result<String, JobError> {
        let (delivery, endpoint, body) = match self.load(delivery_id).await {
            Ok(found) => found,
            // Its endpoint was ended, and with it all that was on its way there.
            Err(Error::UnknownDelivery(_)) => return Ok("the endpoint is gone".to_owned()),
            Err(error) => return Err(trouble(&error)),
        };
        if delivery.state == DeliveryState::Delivered {
            return Ok("it was delivered already".to_owned());
        }
        if !endpoint.enabled {
            self.give_up(&delivery).await.map_err(|error| trouble(&error))?;
            return Err(JobError::Hopeless("the endpoint is disabled".to_owned()));
        }
        // Held until the answer is there.
        let Some(_place) = self.places.take(&endpoint.owner) else {
            return Err(JobError::PutOff(Duration::from_millis(rand::rng().random_range(PUT_OFF_MS))));
        };
        let parcel = Parcel {
            url: endpoint.url.clone(),
            message_id: delivery.message_id.clone(),
            body,
            secrets: endpoint.secrets(now_ms()),
        };
        let attempt = self.sender.send(&parcel).await;
        self.metrics.webhook_attempted(attempt.status);
        self.note(&delivery, &attempt, last).await.map_err(|error| trouble(&error))?;
        match attempt {
            attempt if attempt.is_delivered() => Ok(attempt.summary()),
            attempt if attempt.is_gone() => Err(JobError::Hopeless("the receiver wants no more: 410".to_owned())),
            attempt => Err(JobError::Retry(attempt.summary())),
        }
    }

    async fn load(&self, delivery_id: &str) -> Result<(Delivery, Endpoint, Bytes), Error> {
        let mut connection = self.db().pool().acquire().await?;
        let delivery = deliveries::find(&mut connection, delivery_id).await?;
        let endpoint = endpoints::find(&mut connection, &delivery.endpoint_id).await?;
        let body: Vec<u8> = sqlx::query_scalar("SELECT body FROM webhook_messages WHERE message_id = $1")
            .bind(&delivery.message_id)
            .fetch_one(&mut *connection)
            .await?;
        Ok((delivery, endpoint, body.into()))
    }

    async fn give_up(&self, delivery: &Delivery) -> Result<(), Error> {
        let mut tx = self.db().begin_shared().await?;
        write_state(&mut tx, delivery, DeliveryState::Failed, now_ms()).await?;
        Ok(tx.commit().await?)
    }

    /// Writes an attempt down, in the log of its delivery and on its endpoint.
    async fn note(&self, delivery: &Delivery, attempt: &Attempt, last: bool) -> Result<(), Error> {
        let now = now_ms();
        let state = match attempt {
            attempt if attempt.is_delivered() => DeliveryState::Delivered,
            attempt if attempt.is_gone() || last => DeliveryState::Failed,
            _ => DeliveryState::Pending,
        };
        let mut tx = self.db().begin_shared().await?;
        write_attempt(&mut tx, &delivery.delivery_id, attempt).await?;
        write_state(&mut tx, delivery, state, now).await?;
        if state == DeliveryState::Delivered {
            sqlx::query("UPDATE webhook_endpoints SET failing_ms = NULL WHERE endpoint_id = $1 AND failing_ms IS NOT NULL")
                .bind(&delivery.endpoint_id)
                .execute(&mut *tx)
                .await?;
        } else {
            sqlx::query("UPDATE webhook_endpoints SET failing_ms = $2 WHERE endpoint_id = $1 AND failing_ms IS NULL")
                .bind(&delivery.endpoint_id)
                .bind(attempt.at_ms)
                .execute(&mut *tx)
                .await?;
        }
        if attempt.is_gone() {
            disable(&mut tx, &delivery.endpoint_id, "the receiver answered 410 Gone", now, now).await?;
        } else if state == DeliveryState::Failed {
            let reason = format!("every attempt has failed for two days or longer; the last one: {}", attempt.summary());
            disable(&mut tx, &delivery.endpoint_id, &reason, now - DISABLE_AFTER_MS, now).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Disables an endpoint that has been failing since `failing_until` or before.
async fn disable(tx: &mut Transaction, id: &str, reason: &str, failing_until: UnixMillis, now: UnixMillis) -> Result<(), Error> {
    let disabled = sqlx::query(
        "UPDATE webhook_endpoints SET enabled = 0, disabled_reason = $2, update_ms = $4 WHERE endpoint_id = $1 AND enabled = 1 AND failing_ms <= $3",
    )
    .bind(id)
    .bind(reason)
    .bind(failing_until)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    if disabled.rows_affected() == 1 {
        tracing::warn!(endpoint_id = id, reason, "a webhook endpoint was disabled");
    }
    Ok(())
}

async fn write_state(tx: &mut Transaction, delivery: &Delivery, state: DeliveryState, now: UnixMillis) -> Result<(), Error> {
    sqlx::query("UPDATE webhook_deliveries SET state = $2, end_ms = $3 WHERE delivery_id = $1")
        .bind(&delivery.delivery_id)
        .bind(state as i64)
        .bind(Some(now).filter(|_| state != DeliveryState::Pending))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

async fn write_attempt(tx: &mut Transaction, delivery_id: &str, attempt: &Attempt) -> Result<(), Error> {
    sqlx::query(
        "INSERT INTO webhook_attempts (attempt_id, delivery_id, at_ms, status, latency_ms, error, response) VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    // Ordered by time, like all ids of deliveries.
    .bind(DeliveryId::new().as_str())
    .bind(delivery_id)
    .bind(attempt.at_ms)
    .bind(i64::from(attempt.status.unwrap_or(0)))
    .bind(i64::from(attempt.latency_ms))
    .bind(&attempt.error)
    .bind(&attempt.response)
    .execute(&mut **tx)
    .await?;
    sqlx::query("UPDATE webhook_deliveries SET attempts = attempts + 1 WHERE delivery_id = $1")
        .bind(delivery_id)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "DELETE FROM webhook_attempts WHERE delivery_id = $1 AND attempt_id < \
         (SELECT min(attempt_id) FROM (SELECT attempt_id FROM webhook_attempts WHERE delivery_id = $1 ORDER BY attempt_id DESC LIMIT $2) kept)",
    )
    .bind(delivery_id)
    .bind(SHOWN_ATTEMPTS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// What goes wrong on our side is tried again, and said in words that an operator may see.
fn trouble(error: &Error) -> JobError {
    JobError::Retry(format!("the delivery could not be read or written: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twelve_attempts_span_about_three_days() {
        assert_eq!(ATTEMPTS, 12);
        let whole: f64 = (1..ATTEMPTS).map(|attempt| wait_after(attempt, &mut rand::rng()).as_secs_f64()).sum();
        assert!((2.4..3.4).contains(&(whole / 86_400.0)), "{whole}");
        assert!(wait_after(1, &mut rand::rng()).as_secs_f64() <= 5.5);
    }
}
