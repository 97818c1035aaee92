//! Refresh tokens: each works once, and the theft of one ends the sign-in.

use streamgate_core::{
    ids::AccountId,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Transaction;

use super::{AccountRow, Engine, SignedIn, random};
use crate::{Error, metrics};

/// What every refresh token begins with, so that a leaked one is recognised.
const PREFIX: &str = "sgr_";
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
    add_token(tx, &id, lifetime_days, now).await
}

async fn add_token(tx: &mut Transaction, sign_in: &str, lifetime_days: u32, now: UnixMillis) -> Result<String, Error> {
    let token = format!("{PREFIX}{}", random::text::<32>()?);
    sqlx::query("INSERT INTO refresh_tokens (hash, sign_in_id, expires_at) VALUES ($1, $2, $3)")
        .bind(random::fingerprint(&token))
        .bind(sign_in)
        .bind(now + i64::from(lifetime_days) * DAY_MS)
        .execute(&mut **tx)
        .await?;
    Ok(token)
}

#[derive(sqlx::FromRow)]
struct Row {
    sign_in_id: String,
    wallet: String,
    account_id: String,
    expires_at: i64,
    used_at: Option<i64>,
    revoked_at: Option<i64>,
}

async fn find(tx: &mut Transaction, token: &str) -> Result<Option<Row>, Error> {
    let row = sqlx::query_as(
        "SELECT t.sign_in_id, s.wallet, s.account_id, t.expires_at, t.used_at, s.revoked_at
         FROM refresh_tokens t JOIN sign_ins s ON s.id = t.sign_in_id WHERE t.hash = $1",
    );
    Ok(row.bind(random::fingerprint(token)).fetch_optional(&mut **tx).await?)
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
        if row.used_at.is_some() {
            revoke(&mut tx, &row.sign_in_id, now).await?;
            tx.commit().await?;
            tracing::warn!(account_id = %row.account_id, "a used refresh token came again: the sign-in was ended");
            return Err(Error::RefreshTokenReused);
        }
        if now >= row.expires_at {
            return Err(Error::RefreshTokenExpired);
        }
        sqlx::query("UPDATE refresh_tokens SET used_at = $2 WHERE hash = $1")
            .bind(random::fingerprint(token))
            .bind(now)
            .execute(&mut *tx)
            .await?;
        let next = add_token(&mut tx, &row.sign_in_id, self.settings.config.refresh_ttl_days, now).await?;
        // The role of today, not of the sign-in.
        let account: Option<AccountRow> = sqlx::query_as("SELECT id, role, wallet, created_at FROM accounts WHERE id = $1")
            .bind(&row.account_id)
            .fetch_optional(&mut *tx)
            .await?;
        tx.commit().await?;
        let account = account.ok_or(Error::Corrupt("sign-in"))?;
        self.signed_in(AccountRow { wallet: Some(row.wallet), ..account }, next, now)
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
