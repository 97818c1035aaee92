//! What accounts may do now, for those who let them go on without a new token.

use streamgate_core::{Role, ids::AccountId};

use super::{AccountRow, Engine};
use crate::Error;

impl Engine {
    /// The role of each account, in order; absent for one that nobody knows, or whose API key was revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn roles(&self, accounts: &[AccountId]) -> Result<Vec<Option<Role>>, Error> {
        let mut roles = Vec::with_capacity(accounts.len());
        for account in accounts {
            let row: Option<AccountRow> = sqlx::query_as(
                "SELECT a.id, a.role, a.wallet, a.created_at FROM accounts a LEFT JOIN api_keys k ON k.account_id = a.id
                 WHERE a.id = $1 AND k.revoked_at IS NULL",
            )
            .bind(account.as_str())
            .fetch_optional(self.db.pool())
            .await?;
            roles.push(row.map(|row| self.as_of_now(row).role));
        }
        Ok(roles)
    }
}
