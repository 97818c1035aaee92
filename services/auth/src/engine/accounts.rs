//! Accounts: one for each wallet address, and one for each API key.
//!
//! A wallet on the list of operators is one for as long as it is on the list. That is never written down, so that it
//! goes with the list.

use sqlx::any::AnyRow;
use sqlx::{FromRow, Row as _};
use streamgate_core::{
    Caller, Role,
    evm::{Address, Wallet},
    ids::AccountId,
    page::Page,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Transaction;

use super::Engine;
use crate::Error;

/// Tokens of pages of this list work for no other.
const LIST: &str = "accounts";
/// Operators that a start names in the log; how many more there are is said with them.
const NAMED_AT_MOST: usize = 20;

/// An account as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountRow {
    /// Its id.
    pub id: AccountId,
    /// What it may do.
    pub role: Role,
    /// CAIP-10 wallet of its newest sign-in; absent for an API key.
    pub wallet: Option<String>,
    /// When it was made.
    pub created_at: UnixMillis,
}

/// One page of accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountPage {
    /// The accounts, newest first.
    pub accounts: Vec<AccountRow>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

impl FromRow<'_, AnyRow> for AccountRow {
    fn from_row(row: &AnyRow) -> Result<Self, sqlx::Error> {
        let decode = |column: &str| {
            let text: String = row.try_get(column)?;
            Ok::<_, sqlx::Error>((column.to_owned(), text))
        };
        let bad = |index: String, source: Box<dyn std::error::Error + Send + Sync>| sqlx::Error::ColumnDecode { index, source };
        let (column, id) = decode("id")?;
        let id = id.parse().map_err(|e: streamgate_core::ids::BadId| bad(column, e.into()))?;
        let (column, role) = decode("role")?;
        let role = role.parse().map_err(|e: streamgate_core::caller::BadRole| bad(column, e.into()))?;
        Ok(Self { id, role, wallet: row.try_get("wallet")?, created_at: row.try_get("created_at")? })
    }
}

/// The account of a wallet that has just proved itself; made when it is new.
pub(super) async fn sign_in(
    tx: &mut Transaction,
    wallet: Wallet,
    role_of_new: Role,
    now: UnixMillis,
) -> Result<AccountRow, Error> {
    let account = sqlx::query_as(
        "INSERT INTO accounts (id, address, wallet, role, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (address) DO UPDATE SET wallet = excluded.wallet
         RETURNING id, role, wallet, created_at",
    )
    .bind(AccountId::new().as_str())
    .bind(wallet.address.lower())
    .bind(wallet.to_string())
    .bind(role_of_new.as_str())
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    Ok(account)
}

/// A new account of an API key.
pub(super) async fn of_api_key(tx: &mut Transaction, role: Role, now: UnixMillis) -> Result<AccountId, Error> {
    let id = AccountId::new();
    sqlx::query("INSERT INTO accounts (id, role, created_at) VALUES ($1, $2, $3)")
        .bind(id.as_str())
        .bind(role.as_str())
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(id)
}

/// Takes the role of operator out of the rows of listed wallets, where releases before this one wrote it.
pub(super) async fn forget_listed(
    tx: &mut Transaction,
    operators: impl Iterator<Item = Address>,
    role_of_new: Role,
) -> Result<(), Error> {
    for address in operators {
        sqlx::query("UPDATE accounts SET role = $2 WHERE address = $1 AND role = 'operator'")
            .bind(address.lower())
            .bind(role_of_new.as_str())
            .execute(&mut **tx)
            .await?;
    }
    Ok(())
}

impl Engine {
    /// Tells who is an operator by a row and not by the list. Somebody may have made them so; but releases before this one
    /// wrote the role down for listed wallets too, and of one that left the list since, nothing else would tell.
    pub(super) async fn tell_unlisted(&self) -> Result<(), Error> {
        let rows: Vec<AccountRow> = sqlx::query_as(
            "SELECT id, role, wallet, created_at FROM accounts WHERE role = 'operator' AND address IS NOT NULL ORDER BY id",
        )
        .fetch_all(self.db.pool())
        .await?;
        let unlisted: Vec<AccountRow> = rows.into_iter().filter(|row| !self.is_listed(row)).collect();
        for AccountRow { id, wallet, .. } in unlisted.iter().take(NAMED_AT_MOST) {
            let (wallet, unlisted) = (wallet.as_deref().unwrap_or_default(), unlisted.len());
            tracing::warn!(account_id = %id, wallet, unlisted, "a wallet is an operator without being in operator_wallets");
        }
        Ok(())
    }

    /// The account with the role that it has now.
    pub(super) fn as_of_now(&self, row: AccountRow) -> AccountRow {
        if self.is_listed(&row) { AccountRow { role: Role::Operator, ..row } } else { row }
    }

    fn is_listed(&self, row: &AccountRow) -> bool {
        let wallet = row.wallet.as_deref().and_then(|wallet| wallet.parse::<Wallet>().ok());
        wallet.is_some_and(|wallet| self.settings.operators.contains(&wallet.address))
    }

    /// The caller's own account.
    ///
    /// # Errors
    /// A caller without an account, or one whose account is gone.
    pub async fn account_of(&self, caller: &Caller) -> Result<AccountRow, Error> {
        let account = caller.account().ok_or(Error::NoAccount)?;
        let mut row = self.find_account(&account.id).await?;
        // The wallet of this very sign-in, which may be on another chain than the newest one.
        if account.wallet.is_some() {
            row.wallet.clone_from(&account.wallet);
        }
        Ok(row)
    }

    async fn find_account(&self, id: &AccountId) -> Result<AccountRow, Error> {
        let row = sqlx::query_as("SELECT id, role, wallet, created_at FROM accounts WHERE id = $1").bind(id.as_str());
        let row = row.fetch_optional(self.db.pool()).await?.ok_or_else(|| Error::UnknownAccount(id.to_string()))?;
        Ok(self.as_of_now(row))
    }

    /// Gives an account another role. Tokens made from now on carry it.
    ///
    /// # Errors
    /// An account that does not exist, or whose role the list of operators decides.
    pub async fn set_role(&self, id: &AccountId, role: Role) -> Result<AccountRow, Error> {
        let mut tx = self.db.begin().await?;
        let row: Option<AccountRow> =
            sqlx::query_as("UPDATE accounts SET role = $2 WHERE id = $1 RETURNING id, role, wallet, created_at")
                .bind(id.as_str())
                .bind(role.as_str())
                .fetch_optional(&mut *tx)
                .await?;
        let row = row.ok_or_else(|| Error::UnknownAccount(id.to_string()))?;
        if self.is_listed(&row) {
            return Err(Error::ListedOperator);
        }
        tx.commit().await?;
        tracing::info!(account_id = %id, %role, at = now_ms(), "an account was given a role");
        Ok(row)
    }

    /// Accounts, newest first.
    ///
    /// # Errors
    /// A page token that was not made here.
    pub async fn list_accounts(&self, page_size: u32, page_token: &str) -> Result<AccountPage, Error> {
        let page = Page::parse(page_size, page_token, LIST)?;
        // Ids are ordered by time; every id is smaller than "b".
        let rows: Vec<AccountRow> =
            sqlx::query_as("SELECT id, role, wallet, created_at FROM accounts WHERE id < $1 ORDER BY id DESC LIMIT $2")
                .bind(page.after.as_deref().unwrap_or("b"))
                .bind(i64::from(page.size) + 1)
                .fetch_all(self.db.pool())
                .await?;
        let rows = rows.into_iter().map(|row| self.as_of_now(row)).collect();
        let (accounts, next_page_token) = page.cut(rows, |row| row.id.to_string(), LIST);
        Ok(AccountPage { accounts, next_page_token })
    }
}
