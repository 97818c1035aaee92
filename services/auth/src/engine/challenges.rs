//! Messages to sign: made here, kept here, used once.
//!
//! Anybody may ask for a challenge of anybody's address, and who asks is not known here. So there is no share of an
//! address that a stranger could use up: a challenge gives way to newer ones only when all addresses together have too many.
//! With the defaults, one network address at the rate that the edge lets through does not come that far within the time of
//! a challenge. Several together do, and push out challenges that nobody has signed yet.

use std::sync::atomic::Ordering;

use streamgate_chain::siwe::{Draft, Message};
use streamgate_core::{
    Failure,
    evm::{Address, ChainId},
    ids::ChallengeId,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Transaction;

use super::{Engine, random};
use crate::Error;

/// By how much of its bound the table may grow, as a part of a hundred, until it is counted again.
const COUNTED_EVERY_PERCENT: u64 = 1;

/// What the person who signs reads first.
const STATEMENT: &str = "Sign in to StreamGate. This costs nothing and moves nothing.";

/// A challenge as it is handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Its id.
    pub id: ChallengeId,
    /// The text to sign.
    pub message: String,
    /// When it can't be used any more.
    pub expires_at: UnixMillis,
}

impl Engine {
    /// Makes a challenge for an address, and keeps it until it is used.
    ///
    /// # Errors
    /// An origin that is not allowed, or no database.
    pub async fn create_challenge(&self, address: Address, chain: ChainId, origin: &str) -> Result<Challenge, Error> {
        let origin = self.settings.origins.find(origin).ok_or_else(|| {
            Failure::invalid_field(
                "origin",
                "is not one that this platform serves; the operator can add it to auth.allowed_origins",
            )
        })?;
        let now = now_ms();
        // The message shows whole seconds, so it expires at one.
        let expires_at = (now / 1000 + i64::from(self.settings.config.challenge_ttl_seconds)) * 1000;
        let nonce = random::text::<16>()?;
        let message = Message::new(Draft {
            domain: origin.authority.clone(),
            address: address.to_string(),
            statement: Some(STATEMENT.to_owned()),
            uri: origin.url(),
            version: "1".to_owned(),
            chain_id: chain.number().to_string(),
            nonce: nonce.clone(),
            issued_at: moment(now)?,
            expiration_time: Some(moment(expires_at)?),
            ..Draft::default()
        });
        let message = message.map_err(|_| Error::Corrupt("origin"))?.to_string();
        let challenge = Challenge { id: ChallengeId::new(), message, expires_at };
        self.keep(&challenge, address, &origin.authority, &nonce, now).await?;
        self.metrics.challenges.inc();
        Ok(challenge)
    }

    async fn keep(
        &self,
        challenge: &Challenge,
        address: Address,
        domain: &str,
        nonce: &str,
        now: UnixMillis,
    ) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        self.make_room(&mut tx, now).await?;
        sqlx::query(
            "INSERT INTO challenges (id, address, domain, nonce, message, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(challenge.id.as_str())
        .bind(address.lower())
        .bind(domain)
        .bind(nonce)
        .bind(&challenge.message)
        .bind(now)
        .bind(challenge.expires_at)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Deletes what has expired and, from time to time since counting reads the whole table, the oldest above the bound.
    async fn make_room(&self, tx: &mut Transaction, now: UnixMillis) -> Result<(), Error> {
        sqlx::query("DELETE FROM challenges WHERE expires_at <= $1").bind(now).execute(&mut **tx).await?;
        let bound = self.settings.config.challenges_total;
        let counted_every = (u64::from(bound) * COUNTED_EVERY_PERCENT / 100).max(1);
        if !self.challenges_made.fetch_add(1, Ordering::Relaxed).is_multiple_of(counted_every) {
            return Ok(());
        }
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM challenges").fetch_one(&mut **tx).await?;
        let over = count + 1 - i64::from(bound);
        if over > 0 {
            sqlx::query("DELETE FROM challenges WHERE id IN (SELECT id FROM challenges ORDER BY created_at, id LIMIT $1)")
                .bind(over)
                .execute(&mut **tx)
                .await?;
        }
        Ok(())
    }
}

fn moment(ms: UnixMillis) -> Result<String, Error> {
    jiff::Timestamp::from_second(ms / 1000).map(|time| time.to_string()).map_err(|_| Error::Corrupt("clock"))
}
