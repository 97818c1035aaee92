//! Stored schedules: a restart neither skips nor repeats a time, and of several workers one queues it.

use sqlx::FromRow;
use streamgate_core::{page::Page, time::UnixMillis};
use streamgate_proto::streamgate::worker::v1::job_params::Kind;
use streamgate_store::Transaction;

use super::{
    Priority, Queue, Submit,
    cron::{CatchUp, Cron},
    rows::{decode_params, encode_params},
};
use crate::{Error, jobs::Registry};

/// Tokens of pages of this list work for no other.
const LIST: &str = "schedules";
/// Schedules at the most: each is looked at when its time comes.
const MAX_SCHEDULES: i64 = 1_000;

/// A schedule.
#[derive(Debug, Clone)]
pub struct CronSchedule {
    /// Its name.
    pub name: String,
    /// Cron expression.
    pub cron: String,
    /// IANA name; empty for UTC.
    pub time_zone: String,
    /// What becomes of missed times.
    pub catch_up: CatchUp,
    /// Kind of work.
    pub job_type: String,
    /// Which runs first.
    pub priority: Priority,
    /// What its jobs are told.
    pub params: Option<Kind>,
    /// It queues nothing.
    pub paused: bool,
    /// A job is left out while the one before has not ended.
    pub no_overlap: bool,
    /// When it queues next.
    pub next_ms: UnixMillis,
    /// When it last did.
    pub last_ms: Option<UnixMillis>,
}

/// One page of schedules.
#[derive(Debug, Clone)]
pub struct SchedulePage {
    /// The schedules by name.
    pub schedules: Vec<CronSchedule>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

#[derive(FromRow)]
struct Row {
    name: String,
    cron: String,
    time_zone: String,
    catch_up: i64,
    #[sqlx(rename = "type")]
    job_type: String,
    priority: i64,
    params: Vec<u8>,
    paused: i64,
    no_overlap: i64,
    next_ms: i64,
    last_ms: Option<i64>,
}

macro_rules! select_schedules {
    ($tail:literal) => {
        concat!(
            "SELECT name, cron, time_zone, catch_up, type, priority, params, paused, no_overlap, next_ms, last_ms FROM cron_schedules ",
            $tail
        )
    };
}

impl Row {
    /// Whether all of it is what was written.
    fn is_sound(&self) -> bool {
        let is_known = CatchUp::of_number(self.catch_up).is_some() && Priority::of_number(self.priority).is_some();
        is_known && decode_params(&self.params).is_some()
    }
}

/// What can't be read is shown as if it were not there: such a schedule is paused.
impl From<Row> for CronSchedule {
    fn from(row: Row) -> Self {
        Self {
            catch_up: CatchUp::of_number(row.catch_up).unwrap_or_default(),
            priority: Priority::of_number(row.priority).unwrap_or_default(),
            params: decode_params(&row.params).flatten(),
            name: row.name,
            cron: row.cron,
            time_zone: row.time_zone,
            job_type: row.job_type,
            paused: row.paused != 0,
            no_overlap: row.no_overlap != 0,
            next_ms: row.next_ms,
            last_ms: row.last_ms,
        }
    }
}

/// The schedules of a queue. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Schedules {
    queue: Queue,
    registry: Registry,
}

impl Schedules {
    /// Fills `queue` with what `registry` knows.
    #[must_use]
    pub const fn new(queue: Queue, registry: Registry) -> Self {
        Self { queue, registry }
    }

    fn submit(&self, schedule: &CronSchedule) -> Submit {
        Submit {
            priority: schedule.priority,
            params: schedule.params.clone(),
            unique_key: schedule.no_overlap.then(|| format!("cron:{}", schedule.name)),
            ..self.registry.submit(&schedule.job_type)
        }
    }

    /// Stores a schedule in the place of the one with its name. Times that were missed stay missed, unless other times are
    /// given.
    ///
    /// # Errors
    /// An expression that matches no time, or too many schedules.
    pub async fn put(&self, mut schedule: CronSchedule, cron: &Cron, now: UnixMillis) -> Result<CronSchedule, Error> {
        let mut tx = self.queue.database().begin().await?;
        let (others,): (i64,) = sqlx::query_as("SELECT count(*) FROM cron_schedules WHERE name <> $1")
            .bind(&schedule.name)
            .fetch_one(&mut *tx)
            .await?;
        if others >= MAX_SCHEDULES {
            return Err(Error::TooManySchedules(MAX_SCHEDULES));
        }
        let stored: (UnixMillis, Option<UnixMillis>) = sqlx::query_as(
            "INSERT INTO cron_schedules (name, cron, time_zone, catch_up, type, priority, params, paused, no_overlap, next_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (name) DO UPDATE SET cron = excluded.cron, time_zone = excluded.time_zone, catch_up = excluded.catch_up, \
             type = excluded.type, priority = excluded.priority, params = excluded.params, paused = excluded.paused, \
             no_overlap = excluded.no_overlap, next_ms = CASE WHEN cron_schedules.cron = excluded.cron \
             AND cron_schedules.time_zone = excluded.time_zone AND cron_schedules.paused = excluded.paused \
             THEN cron_schedules.next_ms ELSE excluded.next_ms END RETURNING next_ms, last_ms",
        )
        .bind(&schedule.name)
        .bind(&schedule.cron)
        .bind(&schedule.time_zone)
        .bind(schedule.catch_up as i64)
        .bind(&schedule.job_type)
        .bind(schedule.priority as i64)
        .bind(encode_params(schedule.params.clone()))
        .bind(i64::from(schedule.paused))
        .bind(i64::from(schedule.no_overlap))
        .bind(cron.after(now)?)
        .fetch_one(&mut *tx)
        .await?;
        tx.commit().await?;
        (schedule.next_ms, schedule.last_ms) = stored;
        Ok(schedule)
    }

    /// Ends a schedule.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        let mut tx = self.queue.database().begin().await?;
        sqlx::query("DELETE FROM cron_schedules WHERE name = $1").bind(name).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Schedules by name.
    ///
    /// # Errors
    /// When the page is not one of this list.
    pub async fn list(&self, size: u32, token: &str) -> Result<SchedulePage, Error> {
        let page = Page::parse(size, token, LIST)?;
        let rows: Vec<Row> = sqlx::query_as(select_schedules!("WHERE name > $1 ORDER BY name LIMIT $2"))
            .bind(page.after.clone().unwrap_or_default())
            .bind(i64::from(page.size) + 1)
            .fetch_all(self.queue.database().pool())
            .await?;
        let schedules = rows.into_iter().map(CronSchedule::from).collect();
        let (schedules, next_page_token) = page.cut(schedules, |schedule| schedule.name.clone(), LIST);
        Ok(SchedulePage { schedules, next_page_token })
    }

    /// Queues the jobs of one schedule whose time has come; says whether there was one.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn fire_next(&self, now: UnixMillis) -> Result<bool, Error> {
        let mut tx = self.queue.database().begin().await?;
        let row: Option<Row> =
            sqlx::query_as(select_schedules!("WHERE paused = 0 AND next_ms <= $1 ORDER BY next_ms, name LIMIT 1"))
                .bind(now)
                .fetch_optional(&mut *tx)
                .await?;
        let Some(row) = row else { return Ok(false) };
        let (is_sound, schedule) = (row.is_sound(), CronSchedule::from(row));
        let cron = Cron::parse(&schedule.cron, &schedule.time_zone).and_then(|cron| Ok((cron.after(now)?, cron)));
        match cron.map_err(Error::from).and_then(|cron| if is_sound { Ok(cron) } else { Err(corrupt(&schedule)) }) {
            Ok((next_ms, cron)) => {
                let times = cron.due(schedule.catch_up, schedule.next_ms, now);
                for _ in &times {
                    self.queue.submit_in(&mut tx, self.submit(&schedule), now).await?;
                }
                advance(&mut tx, &schedule.name, next_ms, times.last().copied().or(schedule.last_ms)).await?;
            }
            // A zone that a newer database of zones has no more, or a damaged row: it must not hold up the others.
            Err(error) => {
                tracing::error!(schedule = schedule.name, %error, "a schedule was paused, since it can't be read any more");
                sqlx::query("UPDATE cron_schedules SET paused = 1 WHERE name = $1")
                    .bind(&schedule.name)
                    .execute(&mut *tx)
                    .await?;
            }
        }
        tx.commit().await?;
        self.queue.wake();
        Ok(true)
    }

    /// When the next schedule has its time.
    ///
    /// # Errors
    /// When the database can't be used.
    pub async fn next_time(&self) -> Result<Option<UnixMillis>, Error> {
        let next = sqlx::query_scalar("SELECT min(next_ms) FROM cron_schedules WHERE paused = 0");
        Ok(next.fetch_one(self.queue.database().pool()).await?)
    }
}

fn corrupt(schedule: &CronSchedule) -> Error {
    Error::CorruptSchedule(schedule.name.clone())
}

async fn advance(tx: &mut Transaction, name: &str, next_ms: UnixMillis, last_ms: Option<UnixMillis>) -> Result<(), Error> {
    sqlx::query("UPDATE cron_schedules SET next_ms = $2, last_ms = $3 WHERE name = $1")
        .bind(name)
        .bind(next_ms)
        .bind(last_ms)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
