//! Sessions in the database, and the copies in memory that requests are answered from. This service
//! alone writes the table, so a copy is as good as the row and a segment costs no query.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use sqlx::{Row as _, any::AnyRow};
use streamgate_core::{page::Page, time::UnixMillis};
use streamgate_store::Database;

use super::session::{Live, Session, Standing, State};
use crate::{Error, Result};

/// A copy that nobody asked for in this time is dropped; the row stays.
const IDLE_MS: i64 = 10 * 60 * 1000;

const COLUMNS: &str = "session_id, playback_id, content_id, account_id, wallet, privileged, opened_gate, gate_hash, state, reason, unmet, \
                       created_ms, expires_ms, checked_ms, used_ms";

/// All sessions.
#[derive(Debug)]
pub struct Sessions {
    database: Database,
    copies: RwLock<HashMap<String, Arc<Live>>>,
    /// Held while a row is read, so that there is never a second copy.
    loading: tokio::sync::Mutex<()>,
}

impl Sessions {
    /// Sessions of `database`.
    #[must_use]
    pub fn new(database: Database) -> Self {
        Self { database, copies: RwLock::default(), loading: tokio::sync::Mutex::default() }
    }

    /// Stores a new session.
    pub async fn add(&self, session: Session) -> Result<Arc<Live>> {
        let standing = &session.standing;
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO sessions (session_id, playback_id, content_id, account_id, wallet, privileged, opened_gate, gate_hash, state, created_ms, \
             expires_ms, checked_ms, used_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        )
        .bind(&session.id)
        .bind(&session.playback_id)
        .bind(&session.content_id)
        .bind(&session.account_id)
        .bind(&session.wallet)
        .bind(i64::from(session.privileged))
        .bind(&session.opened_gate)
        .bind(&standing.gate_hash)
        .bind(standing.state.as_str())
        .bind(session.created_ms)
        .bind(session.expires_ms)
        .bind(standing.checked_ms)
        .bind(session.created_ms)
        .execute(&mut *tx)
        .await
        .map_err(Error::store("store a session"))?;
        tx.commit().await.map_err(Error::store("store a session"))?;
        let used_ms = session.created_ms;
        let live = Arc::new(Live::new(session, used_ms));
        self.write().insert(live.opened().id.clone(), Arc::clone(&live));
        Ok(live)
    }

    /// The session with this id.
    pub async fn find(&self, id: &str) -> Result<Option<Arc<Live>>> {
        if let Some(live) = self.copy(id) {
            return Ok(Some(live));
        }
        let _one_at_a_time = self.loading.lock().await;
        if let Some(live) = self.copy(id) {
            return Ok(Some(live));
        }
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM sessions WHERE session_id = $1")));
        let row = query.bind(id).fetch_optional(self.database.pool()).await.map_err(Error::store("read a session"))?;
        let Some(row) = row else { return Ok(None) };
        let used_ms = row.try_get("used_ms").map_err(Error::store("read a session"))?;
        let live = Arc::new(Live::new(read(&row).map_err(Error::store("read a session"))?, used_ms));
        self.write().insert(id.to_owned(), Arc::clone(&live));
        Ok(Some(live))
    }

    /// Ends a session: in the database first, so that it does not come back. The first end stays.
    pub async fn close(&self, live: &Live, state: State, reason: &str, unmet: Vec<String>) -> Result<bool> {
        let mut tx = self.begin().await?;
        let query = sqlx::query("UPDATE sessions SET state = $1, reason = $2, unmet = $3 WHERE session_id = $4 AND state = 'active'")
            .bind(state.as_str())
            .bind(reason)
            .bind(unmet.join("\n"))
            .bind(&live.opened().id);
        query.execute(&mut *tx).await.map_err(Error::store("end a session"))?;
        tx.commit().await.map_err(Error::store("end a session"))?;
        Ok(live.close(state, reason, unmet))
    }

    /// Ends every session of a title.
    pub async fn close_title(&self, content_id: &str, reason: &str) -> Result<usize> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE sessions SET state = 'ended', reason = $1 WHERE content_id = $2 AND state = 'active'")
            .bind(reason)
            .bind(content_id)
            .execute(&mut *tx)
            .await
            .map_err(Error::store("end the sessions of a title"))?;
        tx.commit().await.map_err(Error::store("end the sessions of a title"))?;
        let closed = self.in_memory().into_iter().filter(|live| live.opened().content_id == content_id);
        Ok(closed.filter(|live| live.close(State::Ended, reason, Vec::new())).count())
    }

    /// Earlier checks of a title's sessions no longer count, in memory or after a restart.
    pub async fn doubt_title(&self, content_id: &str) -> Result<Vec<Arc<Live>>> {
        let mut tx = self.begin().await?;
        sqlx::query("UPDATE sessions SET checked_ms = 0 WHERE content_id = $1 AND state = 'active'")
            .bind(content_id)
            .execute(&mut *tx)
            .await
            .map_err(Error::store("doubt the sessions of a title"))?;
        tx.commit().await.map_err(Error::store("doubt the sessions of a title"))?;
        let doubted: Vec<_> = self.in_memory().into_iter().filter(|live| live.opened().content_id == content_id).collect();
        for live in &doubted {
            live.doubt();
        }
        Ok(doubted)
    }

    /// Sessions that were asked for something since `since`, and still play.
    #[must_use]
    pub fn in_use(&self, since: UnixMillis, now: UnixMillis) -> Vec<Arc<Live>> {
        self.in_memory().into_iter().filter(|live| live.used_ms() >= since && live.is_active(now)).collect()
    }

    /// Sessions of an account, or of all, newest first; one more than the page holds.
    pub async fn list(&self, account_id: Option<&str>, playback_id: &str, page: &Page) -> Result<Vec<Session>> {
        let (before_ms, before_id) = page.after.as_deref().map_or((i64::MAX, String::new()), place_of);
        let text = format!(
            "SELECT {COLUMNS} FROM sessions WHERE ($1 IS NULL OR account_id = $1) AND ($2 = '' OR playback_id = $2) \
             AND (created_ms < $3 OR (created_ms = $3 AND session_id < $4)) ORDER BY created_ms DESC, session_id DESC LIMIT $5"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(account_id).bind(playback_id).bind(before_ms).bind(before_id);
        let rows = query.bind(i64::from(page.size) + 1).fetch_all(self.database.pool()).await.map_err(Error::store("list sessions"))?;
        rows.iter().map(|row| read(row).map_err(Error::store("list sessions"))).collect()
    }

    /// Writes down what has changed in passing: last use and last positive check.
    pub async fn flush(&self) -> Result<()> {
        let changed: Vec<_> = self.in_memory().into_iter().filter(|live| live.take_dirty()).collect();
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        for live in changed {
            let standing = live.standing();
            sqlx::query("UPDATE sessions SET used_ms = $1, checked_ms = $2, gate_hash = $3 WHERE session_id = $4")
                .bind(live.used_ms())
                .bind(standing.checked_ms)
                .bind(standing.gate_hash)
                .bind(&live.opened().id)
                .execute(&mut *tx)
                .await
                .map_err(Error::store("write down the use of sessions"))?;
        }
        tx.commit().await.map_err(Error::store("write down the use of sessions"))
    }

    /// Drops rows that ended before `ended_before`, and copies that are no longer used.
    pub async fn sweep(&self, ended_before: UnixMillis, now: UnixMillis) -> Result<u64> {
        self.write().retain(|_, live| Arc::strong_count(live) > 1 || now - live.used_ms() < IDLE_MS);
        let mut tx = self.begin().await?;
        let query = sqlx::query("DELETE FROM sessions WHERE expires_ms < $1").bind(ended_before);
        let gone = query.execute(&mut *tx).await.map_err(Error::store("drop old sessions"))?;
        tx.commit().await.map_err(Error::store("drop old sessions"))?;
        Ok(gone.rows_affected())
    }

    fn in_memory(&self) -> Vec<Arc<Live>> {
        self.copies.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn copy(&self, id: &str) -> Option<Arc<Live>> {
        self.copies.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, Arc<Live>>> {
        self.copies.write().unwrap_or_else(PoisonError::into_inner)
    }

    async fn begin(&self) -> Result<streamgate_store::Transaction> {
        self.database.begin().await.map_err(Error::store("begin a change of sessions"))
    }
}

/// Key of a session's place in a list.
#[must_use]
pub fn place(session: &Session) -> String {
    format!("{}:{}", session.created_ms, session.id)
}

fn place_of(key: &str) -> (UnixMillis, String) {
    let (ms, id) = key.split_once(':').unwrap_or_default();
    (ms.parse().unwrap_or(0), id.to_owned())
}

fn read(row: &AnyRow) -> Result<Session, sqlx::Error> {
    let unmet: String = row.try_get("unmet")?;
    let standing = Standing {
        state: State::of_word(row.try_get("state")?),
        reason: row.try_get("reason")?,
        unmet: unmet.lines().map(str::to_owned).collect(),
        gate_hash: row.try_get("gate_hash")?,
        checked_ms: row.try_get("checked_ms")?,
    };
    Ok(Session {
        id: row.try_get("session_id")?,
        playback_id: row.try_get("playback_id")?,
        content_id: row.try_get("content_id")?,
        account_id: row.try_get("account_id")?,
        wallet: row.try_get("wallet")?,
        privileged: row.try_get::<i64, _>("privileged")? != 0,
        opened_gate: row.try_get("opened_gate")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        standing,
    })
}
