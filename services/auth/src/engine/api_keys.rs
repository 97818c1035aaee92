//! Keys of machines: `sgk_<id>_<secret>`, shown once and kept as a hash.

use sqlx::{FromRow, Row as _, any::AnyRow};
use streamgate_core::{
    Account, Role,
    ids::{AccountId, ApiKeyId},
    page::Page,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Database;
use subtle::ConstantTimeEq as _;

use super::{Engine, accounts, random};
use crate::{Error, metrics};

/// What every API key begins with.
pub const PREFIX: &str = "sgk_";
/// Tokens of pages of this list work for no other.
const LIST: &str = "api_keys";

/// An API key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Its id.
    pub id: ApiKeyId,
    /// What its maker called it.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// When it was made.
    pub created_at: UnixMillis,
    /// When it was ended.
    pub revoked_at: Option<UnixMillis>,
}

/// An API key that was just made, with the secret that is never shown again.
#[derive(Clone, PartialEq, Eq)]
pub struct NewApiKey {
    /// The key without its secret.
    pub key: ApiKeyRow,
    /// The whole key, as it is sent as a bearer.
    pub secret: String,
}

impl std::fmt::Debug for NewApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewApiKey").field("key", &self.key).finish_non_exhaustive()
    }
}

/// One page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyPage {
    /// The keys, newest first.
    pub keys: Vec<ApiKeyRow>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

impl FromRow<'_, AnyRow> for ApiKeyRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let (id, role): (String, String) = (row.try_get("id")?, row.try_get("role")?);
        let bad = |index: &str, source: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::ColumnDecode {
            index: index.to_owned(),
            source,
        };
        Ok(Self {
            id: id.parse().map_err(|e: streamgate_core::ids::BadId| bad("id", e.into()))?,
            name: row.try_get("name")?,
            role: role.parse().map_err(|e: streamgate_core::caller::BadRole| bad("role", e.into()))?,
            created_at: row.try_get("created_at")?,
            revoked_at: row.try_get("revoked_at")?,
        })
    }
}

/// Makes a key and the account it acts as.
pub(super) async fn create(db: &Database, name: &str, role: Role) -> Result<NewApiKey, Error> {
    let now = now_ms();
    let id = ApiKeyId::new();
    let secret = random::text::<32>()?;
    let mut tx = db.begin().await?;
    let account = accounts::of_api_key(&mut tx, role, now).await?;
    sqlx::query("INSERT INTO api_keys (id, account_id, name, secret_hash, created_at) VALUES ($1, $2, $3, $4, $5)")
        .bind(id.as_str())
        .bind(account.as_str())
        .bind(name)
        .bind(random::fingerprint(&secret))
        .bind(now)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    let digits = id.as_str().trim_start_matches("key_");
    let secret = format!("{PREFIX}{digits}_{secret}");
    Ok(NewApiKey { key: ApiKeyRow { id, name: name.to_owned(), role, created_at: now, revoked_at: None }, secret })
}

/// The id and the secret in the text of a key.
fn split(text: &str) -> Option<(ApiKeyId, &str)> {
    let (digits, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    Some((format!("{}_{digits}", ApiKeyId::PREFIX).parse().ok()?, secret))
}

impl Engine {
    /// Makes a key.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn create_api_key(&self, name: &str, role: Role) -> Result<NewApiKey, Error> {
        let made = create(&self.db, name, role).await?;
        tracing::info!(key_id = %made.key.id, %role, "an API key was made");
        Ok(made)
    }

    /// The account that a key acts as.
    ///
    /// # Errors
    /// A key that is wrong or revoked; which of the two is not told.
    pub async fn authenticate_api_key(&self, text: &str) -> Result<Account, Error> {
        let outcome = self.find_by_secret(text).await;
        metrics::count(&self.metrics.api_keys, &outcome);
        outcome
    }

    async fn find_by_secret(&self, text: &str) -> Result<Account, Error> {
        let (id, secret) = split(text).ok_or(Error::BadApiKey)?;
        let row: Option<(Vec<u8>, String, String)> = sqlx::query_as(
            "SELECT k.secret_hash, a.id, a.role FROM api_keys k JOIN accounts a ON a.id = k.account_id
             WHERE k.id = $1 AND k.revoked_at IS NULL",
        )
        .bind(id.as_str())
        .fetch_optional(self.db.pool())
        .await?;
        let (hash, account, role) = row.ok_or(Error::BadApiKey)?;
        if !bool::from(hash.ct_eq(&random::fingerprint(secret))) {
            return Err(Error::BadApiKey);
        }
        let id: AccountId = account.parse().map_err(|_| Error::Corrupt("API key"))?;
        Ok(Account { id, role: role.parse().map_err(|_| Error::Corrupt("API key"))?, wallet: None })
    }

    /// Ends a key. Ending it again changes nothing.
    ///
    /// # Errors
    /// A key that does not exist.
    pub async fn revoke_api_key(&self, id: &ApiKeyId) -> Result<ApiKeyRow, Error> {
        let mut tx = self.db.begin().await?;
        sqlx::query("UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
            .bind(id.as_str())
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        let row: Option<ApiKeyRow> = sqlx::query_as(
            "SELECT k.id, k.name, a.role, k.created_at, k.revoked_at FROM api_keys k JOIN accounts a ON a.id = k.account_id WHERE k.id = $1",
        )
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        let row = row.ok_or_else(|| Error::UnknownApiKey(id.to_string()))?;
        tx.commit().await?;
        tracing::info!(key_id = %id, "an API key was revoked");
        Ok(row)
    }

    /// Keys, newest first.
    ///
    /// # Errors
    /// A page token that was not made here.
    pub async fn list_api_keys(&self, page_size: u32, page_token: &str) -> Result<ApiKeyPage, Error> {
        let page = Page::parse(page_size, page_token, LIST)?;
        let rows: Vec<ApiKeyRow> = sqlx::query_as(
            "SELECT k.id, k.name, a.role, k.created_at, k.revoked_at FROM api_keys k JOIN accounts a ON a.id = k.account_id
             WHERE k.id < $1 ORDER BY k.id DESC LIMIT $2",
        )
        // Every id is smaller than "l".
        .bind(page.after.as_deref().unwrap_or("l"))
        .bind(i64::from(page.size) + 1)
        .fetch_all(self.db.pool())
        .await?;
        let (keys, next_page_token) = page.cut(rows, |row| row.id.to_string(), LIST);
        Ok(ApiKeyPage { keys, next_page_token })
    }
}
