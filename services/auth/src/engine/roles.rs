//! What accounts may do now, for those who let them go on without a new token.

use std::collections::HashMap;

use streamgate_core::{Role, ids::AccountId};

use super::{AccountRow, Engine};
use crate::Error;

/// Accounts of one query: a call about the most that may be is ten round trips to the database, not a thousand.
const ACCOUNTS_AT_ONCE: usize = 100;

impl Engine {
    /// The role of each account, in order; absent for one that nobody knows, or whose API key was revoked.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn roles(&self, accounts: &[AccountId]) -> Result<Vec<Option<Role>>, Error> {
        let mut roles = HashMap::with_capacity(accounts.len());
        for some in accounts.chunks(ACCOUNTS_AT_ONCE) {
            let places: Vec<String> = (1..=some.len()).map(|place| format!("${place}")).collect();
            // No join: PostgreSQL would read all keys for so many accounts.
            let text = format!(
                "SELECT id, role, wallet, created_at FROM accounts WHERE id IN ({}) \
                 AND (SELECT revoked_at FROM api_keys WHERE account_id = accounts.id) IS NULL",
                places.join(", ")
            );
            let mut query = sqlx::query_as(sqlx::AssertSqlSafe(text));
            for account in some {
                query = query.bind(account.as_str());
            }
            let rows: Vec<AccountRow> = query.fetch_all(self.db.pool()).await?;
            roles.extend(rows.into_iter().map(|row| (row.id.clone(), self.as_of_now(row).role)));
        }
        Ok(accounts.iter().map(|account| roles.get(account).copied()).collect())
    }
}
