//! The first answers to requests that may come again.

use prost::Message;
use sha2::{Digest as _, Sha256};
use streamgate_core::{Caller, time::now_ms};
use streamgate_store::Transaction;

use crate::Error;

/// How long an answer is kept: longer than anybody tries the same request again.
const KEEP_MS: i64 = 24 * 60 * 60 * 1000;

/// A request that may come again.
#[derive(Debug, Clone)]
pub(super) struct Once {
    account: String,
    method: &'static str,
    request_id: String,
    hash: String,
}

impl Once {
    /// The request of `caller`; absent when it has no id. `asked` is all that it asks for.
    pub(super) fn of(caller: &Caller, method: &'static str, request_id: Option<&str>, asked: &[u8]) -> Option<Self> {
        let account = caller.account().map(|account| account.id.to_string()).unwrap_or_default();
        let hash = format!("{:x}", Sha256::digest(asked));
        request_id.map(|id| Self { account, method, request_id: id.to_owned(), hash })
    }

    /// The first answer, when the request came before.
    pub(super) async fn answered<M: Message + Default>(&self, tx: &mut Transaction) -> Result<Option<M>, Error> {
        let row: Option<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT request_hash, answer FROM requests \
             WHERE account = $1 AND method = $2 AND request_id = $3 AND create_ms > $4",
        )
        .bind(&self.account)
        .bind(self.method)
        .bind(&self.request_id)
        .bind(now_ms() - KEEP_MS)
        .fetch_optional(&mut **tx)
        .await?;
        match row {
            None => Ok(None),
            Some((hash, _)) if hash != self.hash => Err(Error::RequestIdReused),
            Some((_, answer)) => M::decode(answer.as_slice()).map(Some).map_err(|_| Error::CorruptRow(self.request_id.clone())),
        }
    }

    /// Keeps the answer, in the change that it tells of.
    pub(super) async fn keep(&self, tx: &mut Transaction, answer: &impl Message) -> Result<(), Error> {
        let now = now_ms();
        sqlx::query("DELETE FROM requests WHERE create_ms <= $1").bind(now - KEEP_MS).execute(&mut **tx).await?;
        sqlx::query(
            "INSERT INTO requests (account, method, request_id, request_hash, answer, create_ms) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&self.account)
        .bind(self.method)
        .bind(&self.request_id)
        .bind(&self.hash)
        .bind(answer.encode_to_vec())
        .bind(now)
        .execute(&mut **tx)
        .await?;
        Ok(())
    }
}
