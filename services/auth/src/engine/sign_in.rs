//! From a signed challenge to a sign-in.

use streamgate_chain::{
    signature::Signature,
    siwe::{Expected, Message, Mismatch},
};
use streamgate_core::{
    evm::{Address, Wallet},
    ids::ChallengeId,
    time::now_ms,
};

use super::{Engine, SignedIn, accounts, refresh};
use crate::{Error, metrics};

/// Wrong signatures that use a challenge up.
const FAILURES_AT_MOST: i64 = 5;

#[derive(sqlx::FromRow)]
struct Row {
    address: String,
    domain: String,
    nonce: String,
    message: String,
    expires_at: i64,
}

impl Engine {
    /// Uses a challenge up and signs its wallet in.
    ///
    /// # Errors
    /// A challenge that is not there any more, or a signature that is not its wallet's.
    pub async fn login(&self, id: &ChallengeId, signature: &Signature) -> Result<SignedIn, Error> {
        let outcome = self.try_login(id, signature).await;
        metrics::count(&self.metrics.logins, &outcome);
        outcome
    }

    async fn try_login(&self, id: &ChallengeId, signature: &Signature) -> Result<SignedIn, Error> {
        let row: Option<Row> = sqlx::query_as("SELECT address, domain, nonce, message, expires_at FROM challenges WHERE id = $1")
            .bind(id.as_str())
            .fetch_optional(self.db.pool())
            .await?;
        let row = row.ok_or(Error::UnknownChallenge)?;
        match self.prove(&row, signature) {
            Ok(wallet) => self.use_up(id, wallet).await,
            Err(Error::WrongSignature) => {
                self.note_failure(id).await?;
                Err(Error::WrongSignature)
            }
            Err(other) => Err(other),
        }
    }

    /// The wallet that signed the very text that was handed out.
    fn prove(&self, row: &Row, signature: &Signature) -> Result<Wallet, Error> {
        let message = Message::parse(&row.message).map_err(|_| Error::Corrupt("challenge"))?;
        let now = now_ms();
        if now >= row.expires_at {
            return Err(Error::ChallengeExpired);
        }
        // An origin that was taken off the list meanwhile signs nobody in.
        if !self.settings.origins.has_authority(&row.domain) {
            return Err(Error::UnknownChallenge);
        }
        message.check(&Expected { domain: &row.domain, nonce: &row.nonce, now }).map_err(|mismatch| match mismatch {
            Mismatch::Expired | Mismatch::NotYet => Error::ChallengeExpired,
            Mismatch::Domain | Mismatch::Nonce => Error::Corrupt("challenge"),
        })?;
        let address: Address = row.address.parse().map_err(|_| Error::Corrupt("challenge"))?;
        let signer = signature.signer_of(row.message.as_bytes()).map_err(|_| Error::WrongSignature)?;
        if signer != address || message.address() != address {
            return Err(Error::WrongSignature);
        }
        Ok(Wallet { chain: message.chain(), address })
    }

    async fn note_failure(&self, id: &ChallengeId) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        sqlx::query("UPDATE challenges SET failures = failures + 1 WHERE id = $1").bind(id.as_str()).execute(&mut *tx).await?;
        sqlx::query("DELETE FROM challenges WHERE id = $1 AND failures >= $2")
            .bind(id.as_str())
            .bind(FAILURES_AT_MOST)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Deletes the challenge and makes the sign-in in one transaction: of several callers, one finds it.
    async fn use_up(&self, id: &ChallengeId, wallet: Wallet) -> Result<SignedIn, Error> {
        let now = now_ms();
        let mut tx = self.db.begin().await?;
        let used: Option<(String,)> = sqlx::query_as("DELETE FROM challenges WHERE id = $1 AND expires_at > $2 RETURNING id")
            .bind(id.as_str())
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
        if used.is_none() {
            return Err(Error::UnknownChallenge);
        }
        let account = accounts::sign_in(&mut tx, wallet, self.settings.config.role_of_new(), now).await?;
        let account = self.as_of_now(account);
        let lifetime = self.settings.config.refresh_ttl_days;
        let refresh_token = refresh::begin(&mut tx, &account.id, &wallet.to_string(), lifetime, now).await?;
        tx.commit().await?;
        tracing::info!(account_id = %account.id, role = %account.role, "a wallet signed in");
        self.signed_in(account, refresh_token, now)
    }
}
