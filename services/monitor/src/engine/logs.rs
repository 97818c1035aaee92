//! Log lines of all services: kept for a while, within a bound, and searched.

use std::collections::BTreeMap;

use streamgate_core::{
    ids::LogLineId,
    page::Page,
    time::{UnixMillis, now_ms},
};
use streamgate_store::Database;

use super::filter::{Filter, anywhere};
use crate::{Config, Error};

/// Lines of one message of the stream.
pub const MAX_BATCH: usize = 500;
/// Bytes of a message, of all fields together, and of a field that names something.
const MAX_MESSAGE_BYTES: usize = 4 * 1024;
const MAX_FIELDS_BYTES: usize = 8 * 1024;
const MAX_NAME_BYTES: usize = 128;

/// Lines that are forgotten in one change: those who write wait no longer than that.
pub const PRUNE_BATCH: u64 = 2_000;
/// Counts all. An index holds what it asks for, so that the lines themselves are not read.
pub const TOTALS: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(size_bytes), 0) AS BIGINT) FROM logs";

const SELECT: &str = "SELECT line_id, time_ms, service, level, target, message, fields, request_id, trace_id FROM logs";

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// When it was written.
    pub time_ms: UnixMillis,
    /// By which service.
    pub service: String,
    /// Number of the level on the wire: 1 is trace, 5 is error.
    pub level: i64,
    /// By which module.
    pub target: String,
    /// The message.
    pub message: String,
    /// What was written beside it.
    pub fields: BTreeMap<String, String>,
    /// Its request.
    pub request_id: String,
    /// Its trace.
    pub trace_id: String,
}

#[derive(Debug, sqlx::FromRow)]
struct Row {
    line_id: String,
    time_ms: i64,
    service: String,
    level: i64,
    target: String,
    message: String,
    fields: String,
    request_id: String,
    trace_id: String,
}

/// What a caller looks for.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Only this service.
    pub service: String,
    /// This level and graver ones.
    pub level: Option<i64>,
    /// Only this request.
    pub request_id: String,
    /// Only this trace.
    pub trace_id: String,
    /// Somewhere in the message or the fields.
    pub text: String,
    /// Not before.
    pub start_ms: Option<UnixMillis>,
    /// Before.
    pub end_ms: Option<UnixMillis>,
}

/// The log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    db: Database,
    config: Config,
}

impl Logs {
    /// The log in `db`, within the bounds of `config`.
    #[must_use]
    pub const fn new(db: Database, config: Config) -> Self {
        Self { db, config }
    }

    /// Keeps lines. Texts that are too long are cut.
    ///
    /// # Errors
    /// What the database says; then none was kept.
    pub async fn add(&self, lines: Vec<Line>) -> Result<(), Error> {
        // Lines do not depend on each other: writers need not wait in line on a server.
        let mut tx = self.db.begin_shared().await?;
        for line in lines.into_iter().map(cut_line) {
            let fields = serde_json::to_string(&line.fields).unwrap_or_default();
            let searched = searched(&line);
            let size = fields.len() + searched.len() + line.message.len() + line.target.len();
            sqlx::query(
                "INSERT INTO logs (line_id, time_ms, service, level, target, message, fields, searched, request_id, trace_id, size_bytes) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
            )
            .bind(LogLineId::new().as_str())
            .bind(line.time_ms)
            .bind(line.service)
            .bind(line.level)
            .bind(line.target)
            .bind(line.message)
            .bind(fields)
            .bind(searched)
            .bind(line.request_id)
            .bind(line.trace_id)
            .bind(i64::try_from(size).unwrap_or(i64::MAX))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Lines that fit, newest first.
    ///
    /// # Errors
    /// A wrong page, or what the database says.
    pub async fn search(&self, wanted: &Wanted, size: u32, token: &str) -> Result<(Vec<Line>, String), Error> {
        let mut filter = Filter::default();
        filter.text("service = {}", &wanted.service);
        filter.text("request_id = {}", &wanted.request_id);
        filter.text("trace_id = {}", &wanted.trace_id);
        filter.number("level >= {}", wanted.level);
        filter.number("time_ms >= {}", wanted.start_ms);
        filter.number("time_ms < {}", wanted.end_ms);
        if !wanted.text.is_empty() {
            filter.text("searched LIKE {} ESCAPE '\\'", &anywhere(&wanted.text));
        }
        let words = filter.words();
        let page = Page::parse(size, token, &words)?;
        if let Some((time, id)) = page.after.as_deref().and_then(|after| after.split_once(' ')) {
            filter.before(time.parse().unwrap_or(i64::MAX), id);
        }
        let tail = format!("ORDER BY time_ms DESC, line_id DESC LIMIT {}", page.size + 1);
        let rows: Vec<Row> = filter.query(SELECT, &tail).fetch_all(self.db.pool()).await?;
        let (rows, next) = page.cut(rows, |row| format!("{} {}", row.time_ms, row.line_id), &words);
        Ok((rows.into_iter().map(line_of).collect(), next))
    }

    /// Forgets what is too old, and the oldest of what is too much.
    ///
    /// # Errors
    /// What the database says.
    pub async fn prune(&self) -> Result<u64, Error> {
        let (count, bytes): (i64, i64) = sqlx::query_as(TOTALS).fetch_one(self.db.pool()).await?;
        let oldest = now_ms().saturating_sub(i64::try_from(self.config.logs.keep_ms).unwrap_or(i64::MAX));
        let fits = self.fitting(count, bytes);
        let mut cutoff = (oldest, String::new());
        if count > fits {
            let first_too_many: Option<(i64, String)> =
                sqlx::query_as("SELECT time_ms, line_id FROM logs ORDER BY time_ms DESC, line_id DESC LIMIT 1 OFFSET $1")
                    .bind(fits)
                    .fetch_optional(self.db.pool())
                    .await?;
            cutoff = first_too_many.map_or(cutoff.clone(), |row| row.max(cutoff));
        }
        self.forget(cutoff).await
    }

    /// Forgets all up to a line, the oldest first.
    async fn forget(&self, cutoff: (i64, String)) -> Result<u64, Error> {
        let mut gone = 0;
        loop {
            let mut tx = self.db.begin_shared().await?;
            let done = sqlx::query(
                "DELETE FROM logs WHERE line_id IN \
                 (SELECT line_id FROM logs WHERE (time_ms, line_id) <= ($1, $2) ORDER BY time_ms, line_id LIMIT $3)",
            )
            .bind(cutoff.0)
            .bind(&cutoff.1)
            .bind(PRUNE_BATCH.cast_signed())
            .execute(&mut *tx)
            .await?;
            tx.commit().await?;
            gone += done.rows_affected();
            if done.rows_affected() < PRUNE_BATCH {
                return Ok(gone);
            }
            // Between two batches others have their turn.
            tokio::task::yield_now().await;
        }
    }

    /// How many lines may stay: by number, and by bytes at the mean size of a line.
    fn fitting(&self, count: i64, bytes: i64) -> i64 {
        let by_bytes = match bytes {
            0 => i64::MAX,
            _ => {
                i64::try_from(i128::from(self.config.logs.keep_bytes) * i128::from(count) / i128::from(bytes)).unwrap_or(i64::MAX)
            }
        };
        i64::try_from(self.config.logs.keep_lines).unwrap_or(i64::MAX).min(by_bytes)
    }
}

fn line_of(row: Row) -> Line {
    Line {
        time_ms: row.time_ms,
        service: row.service,
        level: row.level,
        target: row.target,
        message: row.message,
        fields: serde_json::from_str(&row.fields).unwrap_or_default(),
        request_id: row.request_id,
        trace_id: row.trace_id,
    }
}

fn searched(line: &Line) -> String {
    let mut text = line.message.to_lowercase();
    for (name, value) in &line.fields {
        text.push(' ');
        text.push_str(&name.to_lowercase());
        text.push('=');
        text.push_str(&value.to_lowercase());
    }
    text
}

fn cut_line(mut line: Line) -> Line {
    for name in [&mut line.service, &mut line.target, &mut line.request_id, &mut line.trace_id] {
        cut(name, MAX_NAME_BYTES);
    }
    cut(&mut line.message, MAX_MESSAGE_BYTES);
    let mut room = MAX_FIELDS_BYTES;
    line.fields.retain(|name, value| {
        cut(value, room.saturating_sub(name.len()));
        let fits = name.len() + value.len() <= room && name.len() <= MAX_NAME_BYTES;
        room -= if fits { name.len() + value.len() } else { 0 };
        fits
    });
    line
}

/// Cuts to `most` bytes, at the end of a character. PostgreSQL takes no NUL.
fn cut(text: &mut String, most: usize) {
    if text.contains('\0') {
        *text = text.replace('\0', "\u{fffd}");
    }
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_at_the_end_of_a_character_and_holds_no_nul() {
        let mut text = "a\0éé".to_owned();
        cut(&mut text, 6);
        assert_eq!(text, "a\u{fffd}é");
        cut(&mut text, 5);
        assert_eq!(text, "a\u{fffd}");
    }

    #[test]
    fn fields_fit_into_their_room() {
        let fields = (0..50).map(|n| (format!("f{n}"), "x".repeat(1_000))).collect();
        let line = Line {
            time_ms: 0,
            service: "upload".into(),
            level: 3,
            target: "t".into(),
            message: "m".repeat(MAX_MESSAGE_BYTES + 1),
            fields,
            request_id: String::new(),
            trace_id: String::new(),
        };
        let line = cut_line(line);
        assert_eq!(line.message.len(), MAX_MESSAGE_BYTES);
        let total: usize = line.fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        assert!(total <= MAX_FIELDS_BYTES && total > MAX_FIELDS_BYTES - 100, "{total}");
    }
}
