//! Refresh tokens: each works once, and the theft of one ends the sign-in.
//!
//! An answer can be lost on its way, and a duplicated tab has its twin's token. So for some seconds, and as long as the
//! successor was not used, a used token gives that same successor again. There is never a second one: whoever goes on
//! with a stolen copy meets the owner at the next refresh.

use sha2::{Digest as _, Sha256};
use streamgate_core::{
    ids::AccountId,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Transaction;

use super::{AccountRow, Engine, SignedIn, random};
use crate::{Error, metrics};

/// What every refresh token begins with, so that a leaked one is recognised.
const PREFIX: &str = "sgr_";
/// How long a used token gives its successor again.
const GRACE_MS: i64 = 10_000;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Makes a sign-in and its first refresh token.
pub(super) async fn begin(
    tx: &mut Transaction,
    account: &AccountId,
    wallet: &str,
    lifetime_days: u32,
    now: UnixMillis,
) -> Result<String, Error> {
    let id = random::text::<16>()?;
    sqlx::query("INSERT INTO sign_ins (id, account_id, wallet, created_at) VALUES ($1, $2, $3, $4)")
        .bind(&id)
        .bind(account.as_str())
        .bind(wallet)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    let token = Secret(random::bytes()?).token();
    add_token(tx, &token, &id, lifetime_days, now).await?;
    Ok(token)
}

/// What is random in a token.
struct Secret([u8; 32]);

impl Secret {
    fn token(&self) -> String {
        format!("{PREFIX}{}", hex::encode(self.0))
    }

    /// Hides the successor of `token`, or shows it again: kept so, it can be read by who has the token and by nobody
    /// else. The pad is used once, since a token has one successor.
    fn under(self, token: &str) -> Self {
        let pad = Sha256::new().chain_update("the successor of ").chain_update(token).finalize();
        let mut bytes = self.0;
        bytes.iter_mut().zip(pad).for_each(|(byte, pad)| *byte ^= pad);
        Self(bytes)
    }
}

async fn add_token(tx: &mut Transaction, token: &str, sign_in: &str, lifetime_days: u32, now: UnixMillis) -> Result<(), Error> {
    sqlx::query("INSERT INTO refresh_tokens (hash, sign_in_id, expires_at) VALUES ($1, $2, $3)")
        .bind(random::fingerprint(token))
        .bind(sign_in)
        .bind(now + i64::from(lifetime_days) * DAY_MS)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

#[derive(sqlx::FromRow)]
struct Row {
    sign_in_id: String,
    wallet: String,
    account_id: String,
    expires_at: i64,
    used_at: Option<i64>,
    successor: Option<Vec<u8>>,
    revoked_at: Option<i64>,
}

async fn find(tx: &mut Transaction, token: &str) -> Result<Option<Row>, Error> {
    let row = sqlx::query_as(
        "SELECT t.sign_in_id, s.wallet, s.account_id, t.expires_at, t.used_at, t.successor, s.revoked_at
         FROM refresh_tokens t JOIN sign_ins s ON s.id = t.sign_in_id WHERE t.hash = $1",
    );
    Ok(row.bind(random::fingerprint(token)).fetch_optional(&mut **tx).await?)
}

/// The successor of a token that has just been used, if nobody has used it.
async fn successor_again(tx: &mut Transaction, token: &str, row: &Row, now: UnixMillis) -> Result<Option<String>, Error> {
    let is_recent = row.used_at.is_some_and(|used_at| now - used_at < GRACE_MS);
    let kept = row.successor.as_deref().filter(|_| is_recent).and_then(|kept| kept.try_into().ok());
    let Some(kept) = kept else { return Ok(None) };
    let successor = Secret(kept).under(token).token();
    let next = find(tx, &successor).await?;
    Ok(next.is_some_and(|next| next.used_at.is_none()).then_some(successor))
}

/// Uses a token up, and gives the next one.
async fn succeed(tx: &mut Transaction, token: &str, row: &Row, lifetime_days: u32, now: UnixMillis) -> Result<String, Error> {
    let secret = Secret(random::bytes()?);
    let next = secret.token();
    sqlx::query("UPDATE refresh_tokens SET used_at = $2, successor = $3 WHERE hash = $1")
        .bind(random::fingerprint(token))
        .bind(now)
        .bind(secret.under(token).0.to_vec())
        .execute(&mut **tx)
        .await?;
    add_token(tx, &next, &row.sign_in_id, lifetime_days, now).await?;
    Ok(next)
}

async fn revoke(tx: &mut Transaction, sign_in: &str, now: UnixMillis) -> Result<(), Error> {
    sqlx::query("UPDATE sign_ins SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
        .bind(sign_in)
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

impl Engine {
    /// New tokens for a refresh token, which is used up.
    ///
    /// # Errors
    /// A token that is unknown, over, or used before; the last ends the sign-in.
    pub async fn refresh(&self, token: &str) -> Result<SignedIn, Error> {
        let outcome = self.try_refresh(token).await;
        metrics::count(&self.metrics.refreshes, &outcome);
        outcome
    }

    async fn try_refresh(&self, token: &str) -> Result<SignedIn, Error> {
        let now = now_ms();
        let mut tx = self.db.begin().await?;
        let row = find(&mut tx, token).await?.ok_or(Error::UnknownRefreshToken)?;
        if row.revoked_at.is_some() {
            return Err(Error::SignInEnded);
        }
        let again = successor_again(&mut tx, token, &row, now).await?;
        if row.used_at.is_some() && again.is_none() {
            revoke(&mut tx, &row.sign_in_id, now).await?;
            tx.commit().await?;
            tracing::warn!(account_id = %row.account_id, "a used refresh token came again: the sign-in was ended");
            return Err(Error::RefreshTokenReused);
        }
        if now >= row.expires_at {
            return Err(Error::RefreshTokenExpired);
        }
        let next = match again {
            Some(next) => next,
            None => succeed(&mut tx, token, &row, self.settings.config.refresh_ttl_days, now).await?,
        };
        // The role of today, not of the sign-in.
        let account: Option<AccountRow> = sqlx::query_as("SELECT id, role, wallet, created_at FROM accounts WHERE id = $1")
            .bind(&row.account_id)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let account = account.ok_or(Error::Corrupt("sign-in"))?;
        self.signed_in(self.as_of_now(AccountRow { wallet: Some(row.wallet), ..account }), next, now)
    }

    /// Ends the sign-in of a refresh token. One that is not known has ended already.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn logout(&self, token: &str) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        if let Some(row) = find(&mut tx, token).await? {
            revoke(&mut tx, &row.sign_in_id, now_ms()).await?;
        }
        Ok(tx.commit().await?)
    }
}
