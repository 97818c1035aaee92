//! Rows of sessions.

use sqlx::{Row as _, any::AnyRow};
use streamgate_core::{page::Page, time::UnixMillis};
use streamgate_store::{Database, Transaction};

use super::session::{Live, Marks, Session, Standing, State};

type Result<T> = std::result::Result<T, sqlx::Error>;

/// Rows of one page of changes.
const MOST_CHANGES: usize = 5_000;
/// Rows that one change drops, so that others get their turn.
const MOST_DROPPED: i64 = 10_000;
/// Sessions that one opening ends at the most.
const MOST_SURPLUS: i64 = 20;

const COLUMNS: &str = "session_id, playback_id, content_id, owner, account_id, wallet, privileged, opened_gate, gate_hash, state, \
                       reason, unmet, created_ms, expires_ms, checked_ms, used_ms, playing, doubted_ms";

/// Which sessions a list holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only those that this account opened.
    pub viewer: Option<String>,
    /// Only those of this account's titles.
    pub owner: Option<String>,
    /// Only those of this playback id, unless empty.
    pub playback_id: String,
    /// Only those of this title, unless empty.
    pub content_id: String,
    /// Only those that play at this time.
    pub active_at: Option<UnixMillis>,
}

impl Filter {
    /// The same for every page of one list.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let Self { viewer, owner, playback_id, content_id, active_at } = self;
        format!("{viewer:?}/{owner:?}/{playback_id}/{content_id}/{}", active_at.is_some())
    }
}

/// Place of a change among all: its time, and the session's id.
pub(super) type ChangePlace = (UnixMillis, String);

/// What another process may have done to a session.
#[derive(Debug)]
pub struct Change {
    /// The session.
    pub id: String,
    /// When it was done.
    pub changed_ms: UnixMillis,
    /// Where it is.
    pub state: State,
    /// Why it ended.
    pub reason: String,
    /// What was missing.
    pub unmet: Vec<String>,
    /// Whether its viewer started and did not stop.
    pub playing: bool,
    /// When it was last doubted.
    pub doubted_ms: UnixMillis,
}

/// A session that ended just now, or whose viewer stopped.
#[derive(Debug)]
pub struct Ended {
    /// The session as it is now.
    pub session: Session,
    /// Whether its viewer was playing.
    pub was_playing: bool,
    /// From the first request for media to the last request.
    pub watched_ms: i64,
    /// Bytes of media given out.
    pub sent_bytes: i64,
}

/// Marks of a session that was opened just now.
pub(super) const fn first_marks(session: &Session) -> Marks {
    Marks { used_ms: session.created_ms, playing: false, doubted_ms: 0 }
}

pub(super) async fn insert(tx: &mut Transaction, session: &Session) -> Result<()> {
    let standing = &session.standing;
    sqlx::query(
        "INSERT INTO sessions (session_id, playback_id, content_id, owner, account_id, wallet, privileged, opened_gate, gate_hash, state, \
         created_ms, expires_ms, checked_ms, used_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(&session.id)
    .bind(&session.playback_id)
    .bind(&session.content_id)
    .bind(&session.owner)
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
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn find(database: &Database, id: &str) -> Result<Option<(Session, Marks)>> {
    let text = format!("SELECT {COLUMNS} FROM sessions WHERE session_id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(text)).bind(id).fetch_optional(database.pool()).await?;
    let Some(row) = row else { return Ok(None) };
    let marks = Marks {
        used_ms: row.try_get("used_ms")?,
        playing: row.try_get::<i64, _>("playing")? != 0,
        doubted_ms: row.try_get("doubted_ms")?,
    };
    Ok(Some((read(&row)?, marks)))
}

pub(super) async fn running(
    database: &Database,
    account: Option<&str>,
    playback_id: &str,
    ends_after: UnixMillis,
) -> Result<Option<String>> {
    let whose = if account.is_some() { "account_id = $3" } else { "account_id IS NULL" };
    let text = format!(
        "SELECT session_id FROM sessions WHERE playback_id = $1 AND state = 'active' AND expires_ms > $2 AND {whose} \
         ORDER BY expires_ms DESC LIMIT 1"
    );
    let mut query = sqlx::query_scalar(sqlx::AssertSqlSafe(text)).bind(playback_id).bind(ends_after);
    if let Some(account) = account {
        query = query.bind(account);
    }
    query.fetch_optional(database.pool()).await
}

pub(super) async fn surplus(database: &Database, account: &str, most: u32, now: UnixMillis) -> Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT session_id FROM sessions WHERE account_id = $1 AND state = 'active' AND expires_ms > $2 \
         ORDER BY used_ms DESC, session_id LIMIT $3 OFFSET $4",
    )
    .bind(account)
    .bind(now)
    .bind(MOST_SURPLUS)
    .bind(i64::from(most) - 1)
    .fetch_all(database.pool())
    .await
}

/// Ends a session that had not ended.
pub(super) async fn close(
    tx: &mut Transaction,
    id: &str,
    state: State,
    reason: &str,
    unmet: &[String],
    now: UnixMillis,
    sent: u64,
) -> Result<Option<Ended>> {
    let playing = was_playing(tx, id).await?;
    let text = format!(
        "UPDATE sessions SET state = $1, reason = $2, unmet = $3, changed_ms = $4, playing = 0, sent_bytes = sent_bytes + $5 \
         WHERE session_id = $6 AND state = 'active' RETURNING {COLUMNS}, started_ms, sent_bytes"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(state.as_str())
        .bind(reason)
        .bind(unmet.join("\n"))
        .bind(now)
        .bind(i64::try_from(sent).unwrap_or(i64::MAX))
        .bind(id)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(|row| ended(&row, playing)).transpose()
}

async fn was_playing(tx: &mut Transaction, id: &str) -> Result<bool> {
    let playing = sqlx::query("SELECT 1 FROM sessions WHERE session_id = $1 AND playing = 1").bind(id);
    Ok(playing.fetch_optional(&mut **tx).await?.is_some())
}

/// Ends all sessions of a title that had not ended.
pub(super) async fn close_title(tx: &mut Transaction, content_id: &str, reason: &str, now: UnixMillis) -> Result<Vec<Ended>> {
    let query = sqlx::query_scalar("SELECT session_id FROM sessions WHERE content_id = $1 AND state = 'active'");
    let open: Vec<String> = query.bind(content_id).fetch_all(&mut **tx).await?;
    let mut all = Vec::with_capacity(open.len());
    for id in open {
        all.extend(close(tx, &id, State::Ended, reason, &[], now, 0).await?);
    }
    Ok(all)
}

pub(super) async fn doubt_title(tx: &mut Transaction, content_id: &str, at: UnixMillis) -> Result<()> {
    let query = sqlx::query(
        "UPDATE sessions SET checked_ms = 0, doubted_ms = $1, changed_ms = $1 WHERE content_id = $2 AND state = 'active'",
    );
    query.bind(at).bind(content_id).execute(&mut **tx).await?;
    Ok(())
}

/// Notes that a viewer has started, unless that is known.
pub(super) async fn start(tx: &mut Transaction, id: &str, now: UnixMillis) -> Result<bool> {
    let query = sqlx::query(
        "UPDATE sessions SET playing = 1, used_ms = $1, changed_ms = $1, \
         started_ms = CASE WHEN started_ms = 0 THEN $1 ELSE started_ms END WHERE session_id = $2 AND playing = 0 AND state = 'active'",
    );
    Ok(query.bind(now).bind(id).execute(&mut **tx).await?.rows_affected() == 1)
}

/// Sessions whose viewers were told to have started, and have gone since: at most `limit`.
pub(super) async fn gone(database: &Database, idle_since: UnixMillis, now: UnixMillis, limit: i64) -> Result<Vec<String>> {
    sqlx::query_scalar("SELECT session_id FROM sessions WHERE playing = 1 AND (used_ms < $1 OR expires_ms < $2) LIMIT $3")
        .bind(idle_since)
        .bind(now)
        .bind(limit)
        .fetch_all(database.pool())
        .await
}

/// Notes that a viewer has stopped, if it still has not been seen since.
pub(super) async fn stop(tx: &mut Transaction, id: &str, idle_since: UnixMillis, now: UnixMillis) -> Result<Option<Ended>> {
    let text = format!(
        "UPDATE sessions SET playing = 0, changed_ms = $2 WHERE session_id = $3 AND playing = 1 AND (used_ms < $1 OR expires_ms < $2) \
         RETURNING {COLUMNS}, started_ms, sent_bytes"
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(idle_since).bind(now).bind(id);
    query.fetch_optional(&mut **tx).await?.map(|row| ended(&row, true)).transpose()
}

/// The oldest changes that come after a place, and the place of the last one when there are more.
pub(super) async fn changed_after(database: &Database, after: &ChangePlace) -> Result<(Vec<Change>, Option<ChangePlace>)> {
    let query = sqlx::query(
        "SELECT session_id, changed_ms, state, reason, unmet, playing, doubted_ms FROM sessions \
         WHERE (changed_ms, session_id) > ($1, $2) ORDER BY changed_ms, session_id LIMIT $3",
    );
    let most = i64::try_from(MOST_CHANGES).unwrap_or(i64::MAX);
    let rows = query.bind(after.0).bind(&after.1).bind(most).fetch_all(database.pool()).await?;
    let changes = rows.iter().map(change).collect::<Result<Vec<_>>>()?;
    let last = changes.last().filter(|_| changes.len() == MOST_CHANGES).map(|last| (last.changed_ms, last.id.clone()));
    Ok((changes, last))
}

fn change(row: &AnyRow) -> Result<Change> {
    Ok(Change {
        id: row.try_get("session_id")?,
        changed_ms: row.try_get("changed_ms")?,
        state: State::of_word(&row.try_get::<String, _>("state")?),
        reason: row.try_get("reason")?,
        unmet: lines(&row.try_get::<String, _>("unmet")?),
        playing: row.try_get::<i64, _>("playing")? != 0,
        doubted_ms: row.try_get("doubted_ms")?,
    })
}

pub(super) async fn list(database: &Database, filter: &Filter, page: &Page) -> Result<Vec<Session>> {
    let (before_ms, before_id) = page.after.as_deref().map_or((i64::MAX, String::new()), place_of);
    // Only the conditions that are wanted: an index serves each of them.
    let mut conditions = String::from("(created_ms < $1 OR (created_ms = $1 AND session_id < $2))");
    let mut texts = Vec::new();
    let wanted = [
        ("account_id", filter.viewer.as_deref()),
        ("owner", filter.owner.as_deref()),
        ("playback_id", Some(filter.playback_id.as_str()).filter(|id| !id.is_empty())),
        ("content_id", Some(filter.content_id.as_str()).filter(|id| !id.is_empty())),
    ];
    for (column, value) in wanted {
        if let Some(value) = value {
            texts.push(value);
            conditions.push_str(&format!(" AND {column} = ${}", 3 + texts.len()));
        }
    }
    if filter.active_at.is_some() {
        conditions.push_str(&format!(" AND state = 'active' AND expires_ms > ${}", 4 + texts.len()));
    }
    let text = format!("SELECT {COLUMNS} FROM sessions WHERE {conditions} ORDER BY created_ms DESC, session_id DESC LIMIT $3");
    let mut query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(before_ms).bind(before_id).bind(i64::from(page.size) + 1);
    for value in texts {
        query = query.bind(value);
    }
    if let Some(now) = filter.active_at {
        query = query.bind(now);
    }
    query.fetch_all(database.pool()).await?.iter().map(read).collect()
}

/// Writes down the use of a session. A check counts only if nobody doubted the session since, in any process.
pub(super) async fn write_use(tx: &mut Transaction, live: &Live) -> Result<()> {
    let (doubted_ms, standing) = (live.doubted_ms(), live.standing());
    sqlx::query(
        "UPDATE sessions SET used_ms = CASE WHEN used_ms < $1 THEN $1 ELSE used_ms END, sent_bytes = sent_bytes + $2, \
         checked_ms = CASE WHEN doubted_ms <= $3 AND checked_ms < $4 THEN $4 ELSE checked_ms END, \
         gate_hash = CASE WHEN doubted_ms <= $3 THEN $5 ELSE gate_hash END WHERE session_id = $6",
    )
    .bind(live.used_ms())
    .bind(i64::try_from(live.take_sent()).unwrap_or(i64::MAX))
    .bind(doubted_ms)
    .bind(standing.checked_ms)
    .bind(standing.gate_hash)
    .bind(&live.opened().id)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

pub(super) async fn delete_ended(tx: &mut Transaction, ended_before: UnixMillis) -> Result<u64> {
    let query = sqlx::query(
        "DELETE FROM sessions WHERE session_id IN (SELECT session_id FROM sessions WHERE expires_ms < $1 AND playing = 0 LIMIT $2)",
    );
    Ok(query.bind(ended_before).bind(MOST_DROPPED).execute(&mut **tx).await?.rows_affected())
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

fn ended(row: &AnyRow, was_playing: bool) -> Result<Ended> {
    let (used_ms, started_ms): (i64, i64) = (row.try_get("used_ms")?, row.try_get("started_ms")?);
    let watched_ms = if started_ms > 0 { (used_ms - started_ms).max(0) } else { 0 };
    Ok(Ended { session: read(row)?, was_playing, watched_ms, sent_bytes: row.try_get("sent_bytes")? })
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

fn read(row: &AnyRow) -> Result<Session> {
    let standing = Standing {
        state: State::of_word(&row.try_get::<String, _>("state")?),
        reason: row.try_get("reason")?,
        unmet: lines(&row.try_get::<String, _>("unmet")?),
        gate_hash: row.try_get("gate_hash")?,
        checked_ms: row.try_get("checked_ms")?,
    };
    Ok(Session {
        id: row.try_get("session_id")?,
        playback_id: row.try_get("playback_id")?,
        content_id: row.try_get("content_id")?,
        owner: row.try_get("owner")?,
        account_id: row.try_get("account_id")?,
        wallet: row.try_get("wallet")?,
        privileged: row.try_get::<i64, _>("privileged")? != 0,
        opened_gate: row.try_get("opened_gate")?,
        created_ms: row.try_get("created_ms")?,
        expires_ms: row.try_get("expires_ms")?,
        standing,
    })
}
