//! What an account may store and begin. All of it is counted in the change that uses it up.

use std::time::Duration;

use sqlx::AnyConnection;
use streamgate_core::time::UnixMillis;
use streamgate_store::Database;

use crate::{Config, Error};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

#[derive(Debug, sqlx::FromRow)]
struct Used {
    held_bytes: i64,
    day: i64,
    begun: i64,
}

/// Counts an upload that begins now and may bring `wanted` bytes, of which `held` are held for it from now on.
pub(super) async fn begin(
    tx: &mut AnyConnection,
    config: &Config,
    owner: &str,
    (wanted, held): (u64, u64),
    now: UnixMillis,
) -> Result<(), Error> {
    let today = now.div_euclid(DAY_MS);
    let used = used(tx, owner).await?;
    let begun = if used.day == today { used.begun } else { 0 };
    if begun >= i64::from(config.account_uploads_per_day) {
        let wait = u64::try_from((today + 1) * DAY_MS - now).unwrap_or(0);
        return Err(Error::TooManyToday { limit: config.account_uploads_per_day, wait: Duration::from_millis(wait) });
    }
    check(config, used.held_bytes, wanted)?;
    sqlx::query("UPDATE accounts SET held_bytes = held_bytes + $1, day = $2, begun = $3 WHERE owner = $4")
        .bind(signed(held))
        .bind(today)
        .bind(begun + 1)
        .bind(owner)
        .execute(tx)
        .await?;
    Ok(())
}

/// Sets what an upload holds. It may not grow past the account's quota.
pub(super) async fn hold(tx: &mut AnyConnection, config: &Config, id: &str, bytes: u64) -> Result<(), Error> {
    let (owner, held) = held_by(tx, id).await?;
    let more = signed(bytes).saturating_sub(held);
    if let Ok(more) = u64::try_from(more)
        && more > 0
    {
        check(config, used(tx, &owner).await?.held_bytes, more)?;
    }
    change(tx, id, &owner, held + more, more).await
}

/// Sets what an upload holds, whatever the quota says: the bytes are there.
pub(super) async fn note(tx: &mut AnyConnection, id: &str, bytes: u64) -> Result<(), Error> {
    let (owner, held) = held_by(tx, id).await?;
    change(tx, id, &owner, signed(bytes), signed(bytes).saturating_sub(held)).await
}

/// Fails unless the account may store `more` bytes as it stands now.
pub(super) async fn check_left(db: &Database, config: &Config, owner: &str, more: u64) -> Result<(), Error> {
    check(config, held_in_all(db, owner).await?, more)
}

/// Length to which an upload may grow that has `length` bytes and holds `held`; absent without a quota. Fails when it may not
/// grow at all, as the account stands now.
pub(super) async fn limit(db: &Database, config: &Config, owner: &str, (held, length): (u64, u64)) -> Result<Option<u64>, Error> {
    if config.account_bytes == 0 {
        return Ok(None);
    }
    let others = held_in_all(db, owner).await?.saturating_sub(signed(held)).max(0);
    check(config, others.saturating_add(signed(length)), 1)?;
    Ok(Some(config.account_bytes.saturating_sub(others.cast_unsigned())))
}

/// Holds `wanted` bytes for an open upload that holds `held`, or fewer that are enough for `needed`, and says how many.
pub(super) async fn hold_ahead(
    tx: &mut AnyConnection,
    config: &Config,
    (id, owner, held): (&str, &str, u64),
    (needed, wanted): (u64, u64),
) -> Result<u64, Error> {
    let others = used(&mut *tx, owner).await?.held_bytes.saturating_sub(signed(held));
    check(config, others, needed)?;
    let most = config.account_bytes.saturating_sub(others.max(0).cast_unsigned());
    let holds = wanted.min(most).max(held);
    change(tx, id, owner, signed(holds), signed(holds - held)).await?;
    Ok(holds)
}

async fn held_in_all(db: &Database, owner: &str) -> Result<i64, Error> {
    let query = sqlx::query_scalar("SELECT held_bytes FROM accounts WHERE owner = $1");
    Ok(query.bind(owner).fetch_optional(db.pool()).await?.unwrap_or(0))
}

async fn used(tx: &mut AnyConnection, owner: &str) -> Result<Used, Error> {
    sqlx::query("INSERT INTO accounts (owner, held_bytes, day, begun) VALUES ($1, 0, 0, 0) ON CONFLICT (owner) DO NOTHING")
        .bind(owner)
        .execute(&mut *tx)
        .await?;
    Ok(sqlx::query_as("SELECT held_bytes, day, begun FROM accounts WHERE owner = $1").bind(owner).fetch_one(tx).await?)
}

async fn held_by(tx: &mut AnyConnection, id: &str) -> Result<(String, i64), Error> {
    let query = sqlx::query_as("SELECT owner, held_bytes FROM uploads WHERE id = $1");
    query.bind(id).fetch_optional(tx).await?.ok_or_else(|| Error::UnknownUpload(id.to_owned()))
}

async fn change(tx: &mut AnyConnection, id: &str, owner: &str, held: i64, more: i64) -> Result<(), Error> {
    if more == 0 {
        return Ok(());
    }
    sqlx::query("UPDATE uploads SET held_bytes = $1 WHERE id = $2").bind(held).bind(id).execute(&mut *tx).await?;
    sqlx::query("UPDATE accounts SET held_bytes = held_bytes + $1 WHERE owner = $2").bind(more).bind(owner).execute(tx).await?;
    Ok(())
}

fn check(config: &Config, held: i64, more: u64) -> Result<(), Error> {
    let held = u64::try_from(held).unwrap_or(0);
    if config.account_bytes > 0 && held.saturating_add(more) > config.account_bytes {
        return Err(Error::AccountFull { limit: config.account_bytes, held });
    }
    Ok(())
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
