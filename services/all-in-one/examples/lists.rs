//! Walks lists of a million rows from their first page to their last, for `scripts/bench/lists`.
//!
//!     lists [ROWS]
//!
//! On SQLite and on a PostgreSQL of its own. Prints, for each list and engine, how long a page of 100 takes.
#![allow(clippy::print_stdout, reason = "what a script reads")]

use std::{error::Error, future::Future, path::Path, time::Instant};

use sqlx::AssertSqlSafe;
use streamgate_core::{Account, Caller, Identity, Role, ServiceName};
use streamgate_metadata::engine::{Changes, Direction, List, Order};
use streamgate_monitor::engine::audit::{Audit, Wanted};
use streamgate_store::{Database, DatabaseKind, Migrations, Outbox, PostgresServer};
use streamgate_testkit::engines::Postgres;
use streamgate_worker::engine::{Filter, Queue, State};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Rows of a page: the most that a caller may ask for.
const PAGE: u32 = 100;
/// Rows of one statement, so that none comes near the longest that one may take.
const BATCH: u64 = 20_000;
const OWNER: &str = "acc_00000000000000000000000000000001";

/// A number as the 32 digits of an id.
const ID: &str = "substr('00000000000000000000000000000000' || CAST(i AS TEXT), length(CAST(i AS TEXT)) + 1)";
const TITLES: &str = "INSERT INTO contents (content_id, owner, request_hash, title, description, tags, status, title_key, indexed, create_ms, \
    update_ms) SELECT 'cnt_' || {id}, '{owner}', '', 'Title ' || (i * 7919 % 1000003), 'What it is about.', '[]', 'ready', \
    'title ' || (i * 7919 % 1000003), 1, i, i FROM n";
const JOBS: &str = "INSERT INTO jobs (job_id, type, state, attempts, max_attempts, create_ms, run_ms, end_ms) \
    SELECT 'job_' || {id}, 'sweep_uploads', 3, 1, 5, i, i, i FROM n";
const ENTRIES: &str = "INSERT INTO audit_entries (sequence, entry_id, time_ms, service, method, actor, actor_role, actor_wallet, object, \
    outcome, reason, request_id, missing_before, previous_hash, hash) SELECT i, 'aud_' || {id}, i, 'metadata', '/m/SetGate', 'account:a', \
    'creator', '', 'content_id=cnt_1', 1, '', 'r', 0, '', '' FROM n";

enum Place<'a> {
    Folder(&'a Path),
    Server(&'a PostgresServer),
}

impl Place<'_> {
    async fn open(&self, name: &str, migrations: &Migrations) -> Outcome<Database> {
        Ok(match self {
            Self::Folder(folder) => Database::open(&folder.join(format!("{name}.db")), migrations).await?,
            Self::Server(server) => Database::connect(server, name, migrations).await?,
        })
    }

    const fn name(&self) -> &'static str {
        match self {
            Self::Folder(_) => "sqlite",
            Self::Server(_) => "postgres",
        }
    }
}

/// Adds `rows` rows, in which `i` counts from 1.
async fn fill(db: &Database, insert: &str, table: &str, rows: u64) -> Outcome<()> {
    let insert = insert.replace("{id}", ID).replace("{owner}", OWNER);
    for from in (1..=rows).step_by(usize::try_from(BATCH)?) {
        let last = rows.min(from + BATCH - 1);
        let numbers =
            format!("WITH RECURSIVE n(i) AS (SELECT CAST({from} AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {last})");
        // The numbers stand before the rows that are made of them, wherever the engine wants them.
        let text = insert.replacen(" SELECT ", &format!(" {numbers} SELECT "), 1);
        let mut tx = db.begin().await?;
        sqlx::query(AssertSqlSafe(text)).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    if db.kind() == DatabaseKind::Postgres {
        let mut tx = db.begin().await?;
        sqlx::query(AssertSqlSafe(format!("ANALYZE {table}"))).execute(&mut *tx).await?;
        tx.commit().await?;
    }
    Ok(())
}

/// Goes through all pages, and prints what they took.
async fn walk<F, Fut>(place: &Place<'_>, list: &str, rows: u64, page: F) -> Outcome<()>
where
    F: Fn(String) -> Fut,
    Fut: Future<Output = Outcome<(usize, String)>>,
{
    let (mut token, mut seen, mut took) = (String::new(), 0, Vec::new());
    loop {
        let began = Instant::now();
        let (count, next) = page(token).await?;
        took.push(began.elapsed().as_secs_f64() * 1000.0);
        seen += count as u64;
        if next.is_empty() {
            break;
        }
        token = next;
    }
    if seen != rows {
        return Err(format!("{list}: {seen} of {rows} rows").into());
    }
    took.sort_by(f64::total_cmp);
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!("{} {list} {:.3} {:.3}", place.name(), at(50), at(99));
    Ok(())
}

async fn titles(place: &Place<'_>, rows: u64) -> Outcome<()> {
    let db = place.open("metadata", &streamgate_metadata::MIGRATIONS).await?;
    fill(&db, TITLES, "contents", rows).await?;
    let outbox = Outbox::new(ServiceName::Metadata);
    let engine = streamgate_metadata::engine::Engine::new(
        db,
        outbox,
        streamgate_metadata::Metrics::default(),
        streamgate_metadata::Config::default(),
        Changes::untold(),
    );
    let account = Account { id: OWNER.parse()?, role: Role::Creator, wallet: None };
    let caller = Caller { identity: Identity::Account(account), request_id: "r".into() };
    for (name, order) in [("titles_newest", Order::Created(Direction::Down)), ("titles_by_name", Order::Title(Direction::Up))] {
        let list = List { order, ..List::default() };
        let (engine, caller, list) = (&engine, &caller, &list);
        walk(place, name, rows, |token| async move {
            let page = engine.list(caller, PAGE, &token, list).await?;
            Ok((page.contents.len(), page.next_page_token))
        })
        .await?;
    }
    Ok(())
}

async fn jobs(place: &Place<'_>, rows: u64) -> Outcome<()> {
    let db = place.open("worker", &streamgate_worker::MIGRATIONS).await?;
    fill(&db, JOBS, "jobs", rows).await?;
    let queue = Queue::new(db, Outbox::new(ServiceName::Worker));
    let filter = Filter { state: Some(State::Succeeded), job_type: String::new() };
    let (queue, filter) = (&queue, &filter);
    walk(place, "jobs_of_a_state", rows, |token| async move {
        let page = queue.list(PAGE, &token, filter).await?;
        Ok((page.jobs.len(), page.next_page_token))
    })
    .await
}

async fn entries(place: &Place<'_>, rows: u64) -> Outcome<()> {
    let db = place.open("monitor", &streamgate_monitor::MIGRATIONS).await?;
    fill(&db, ENTRIES, "audit_entries", rows).await?;
    let audit = Audit::new(db);
    let wanted = Wanted { actor: "account:a".into(), ..Wanted::default() };
    let (audit, wanted) = (&audit, &wanted);
    walk(place, "audit_of_an_actor", rows, |token| async move {
        let (entries, next) = audit.list(wanted, PAGE, &token).await?;
        Ok((entries.len(), next))
    })
    .await
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let rows: u64 = std::env::args().nth(1).map_or(Ok(1_000_000), |text| text.parse())?;
    let folder = tempfile::tempdir()?;
    let postgres = Postgres::start_durable().await?;
    let server = PostgresServer::parse(&postgres.url())?;
    for place in [Place::Folder(folder.path()), Place::Server(&server)] {
        titles(&place, rows).await?;
        jobs(&place, rows).await?;
        entries(&place, rows).await?;
    }
    Ok(())
}
