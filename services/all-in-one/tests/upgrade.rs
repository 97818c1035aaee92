//! Databases that earlier versions have filled are brought up to date without losing a row.
//!
//! `upgrade/<service>_<step>.sql` is what a service had written when its schema had that step.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use sqlx::{AssertSqlSafe, Row as _};
use streamgate_store::{Database, DatabaseKind, Migrations, PostgresServer};
use streamgate_testkit::engines::Postgres;

/// Columns that a later step takes away: what they held is made from others.
const DROPPED: [(&str, &str); 1] = [("contents", "words")];

/// One service's schema.
struct Schema {
    name: &'static str,
    migrations: &'static Migrations,
    /// What was written at each step.
    written: &'static [&'static str],
    /// What later steps had to make of it: a question with one text for an answer.
    made: &'static [(&'static str, &'static str)],
}

macro_rules! schema {
    ($name:literal, $migrations:path, [$($step:literal),*], [$($made:expr),* $(,)?]) => {
        Schema {
            name: $name,
            migrations: &$migrations,
            written: &[$(include_str!(concat!("upgrade/", $name, "_", $step, ".sql"))),*],
            made: &[$($made),*],
        }
    };
}

static SCHEMAS: [Schema; 7] = [
    schema!("auth", streamgate_auth::MIGRATIONS, [1], []),
    schema!(
        "upload",
        streamgate_upload::MIGRATIONS,
        [1, 2],
        [
            (
                "SELECT string_agg(owner || '=' || held_bytes, ',') FROM (SELECT * FROM accounts ORDER BY owner) a",
                "acc_1=170,acc_2=0"
            ),
            ("SELECT CAST(received_bytes AS TEXT) FROM uploads WHERE id = 'upl_2'", "70"),
        ]
    ),
    schema!(
        "metadata",
        streamgate_metadata::MIGRATIONS,
        [1, 2],
        [("SELECT purge_ms || ' ' || purged FROM contents WHERE content_id = 'cnt_2'", "7 0")]
    ),
    schema!(
        "transcoder",
        streamgate_transcoder::MIGRATIONS,
        [1, 2],
        [
            ("SELECT string_agg(CAST(version AS TEXT), ',') FROM (SELECT version FROM jobs ORDER BY seq) j", "1,2,1"),
            ("SELECT playable_ms || ' ' || profile FROM jobs WHERE job_id = 'job_1'", "10 default"),
        ]
    ),
    schema!("streaming", streamgate_streaming::MIGRATIONS, [1, 2], []),
    schema!(
        "worker",
        streamgate_worker::MIGRATIONS,
        [1, 2, 3],
        [("SELECT CAST(expire_ms AS TEXT) FROM jobs WHERE job_id = 'job_3'", "604800003")]
    ),
    schema!("monitor", streamgate_monitor::MIGRATIONS, [1], []),
];

/// A row: its columns as text.
type Row = BTreeMap<String, Option<String>>;
/// All rows of each table.
type Rows = BTreeMap<String, Vec<Row>>;

enum Engine<'a> {
    Sqlite(&'a Path),
    Postgres(&'a PostgresServer),
}

impl Engine<'_> {
    async fn open(&self, name: &str, migrations: &Migrations) -> Database {
        match self {
            Self::Sqlite(folder) => Database::open(&folder.join(format!("{name}.db")), migrations).await.unwrap(),
            Self::Postgres(server) => Database::connect(server, name, migrations).await.unwrap(),
        }
    }
}

async fn write(db: &Database, text: &str) {
    let (before, after) = match db.kind() {
        DatabaseKind::Sqlite => ("x'", "'"),
        DatabaseKind::Postgres => ("'\\x", "'::bytea"),
    };
    let mut sql = String::new();
    for (n, part) in text.split("BYTES(").enumerate() {
        let (bytes, rest) = if n == 0 { ("", part) } else { part.split_once(')').unwrap() };
        if n > 0 {
            sql += &format!("{before}{bytes}{after}");
        }
        sql += rest;
    }
    let mut tx = db.begin().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

/// Every row of every table of the service itself.
async fn rows(db: &Database) -> Rows {
    let columns = match db.kind() {
        DatabaseKind::Sqlite => {
            "SELECT m.name, p.name FROM sqlite_master m JOIN pragma_table_info(m.name) p WHERE m.type = 'table' \
             AND m.name NOT LIKE '%fts%' AND m.name NOT LIKE 'sqlite%'"
        }
        DatabaseKind::Postgres => {
            "SELECT table_name::text, column_name::text FROM information_schema.columns WHERE table_schema = current_schema()"
        }
    };
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (table, column) in sqlx::query_as::<_, (String, String)>(columns).fetch_all(db.pool()).await.unwrap() {
        if !table.starts_with('_') {
            tables.entry(table).or_default().push(column);
        }
    }
    let mut found = Rows::new();
    for (table, columns) in tables {
        let as_text = |column: &String| match db.kind() {
            DatabaseKind::Sqlite => format!("quote({column})"),
            DatabaseKind::Postgres => format!("CAST({column} AS TEXT)"),
        };
        let texts: Vec<String> = columns.iter().map(as_text).collect();
        let select = format!("SELECT {} FROM {table}", texts.join(", "));
        let all = sqlx::query(AssertSqlSafe(select)).fetch_all(db.pool()).await.unwrap();
        let read = |row: &sqlx::any::AnyRow| columns.iter().enumerate().map(|(n, name)| (name.clone(), row.get(n))).collect();
        found.insert(table, all.iter().map(read).collect());
    }
    found
}

/// Every row is still there, with what its columns held.
fn expect_kept(service: &str, step: usize, before: &Rows, after: &Rows) {
    for (table, old) in before {
        let new = after.get(table).unwrap_or_else(|| panic!("{service}: step {step} drops {table}"));
        assert!(new.len() >= old.len(), "{service}: step {step} loses rows of {table}");
        let Some((first_old, first_new)) = old.first().zip(new.first()) else { continue };
        let gone: Vec<&String> = first_old.keys().filter(|column| !first_new.contains_key(*column)).collect();
        assert!(
            gone.iter().all(|column| DROPPED.contains(&(table.as_str(), column.as_str()))),
            "{service}: {table} loses {gone:?}"
        );
        let seen = |row: &Row| -> Row {
            row.clone().into_iter().filter(|(name, _)| first_old.contains_key(name) && !gone.contains(&name)).collect()
        };
        let kept: BTreeSet<Row> = new.iter().map(seen).collect();
        for row in old {
            assert!(kept.contains(&seen(row)), "{service}: step {step} changes a row of {table}:\n{row:?}\n{kept:?}");
        }
    }
}

async fn upgrades(schema: &Schema, engine: &Engine<'_>) {
    let steps = schema.migrations.count();
    let mut before = Rows::new();
    for step in 1..=steps {
        let db = engine.open(schema.name, &schema.migrations.first(step)).await;
        expect_kept(schema.name, step, &before, &rows(&db).await);
        if let Some(text) = schema.written.get(step - 1) {
            write(&db, text).await;
        }
        before = rows(&db).await;
        db.close().await;
    }
    let filled = before.values().filter(|rows| !rows.is_empty()).count();
    assert!(filled >= 1 && schema.written.len() <= steps, "{}: nothing was written", schema.name);
    let db = engine.open(schema.name, schema.migrations).await;
    expect_kept(schema.name, steps, &before, &rows(&db).await);
    for (question, answer) in schema.made {
        let made: String = sqlx::query_scalar(*question).fetch_one(db.pool()).await.unwrap();
        assert_eq!(made, *answer, "{}: {question}", schema.name);
    }
    db.close().await;
}

#[tokio::test]
async fn every_row_of_every_earlier_schema_survives_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    for schema in &SCHEMAS {
        upgrades(schema, &Engine::Sqlite(folder.path())).await;
    }
}

#[tokio::test]
async fn every_row_of_every_earlier_schema_survives_on_postgresql() {
    let postgres = Postgres::start().await.unwrap();
    let server = PostgresServer::parse(&postgres.url()).unwrap();
    for schema in &SCHEMAS {
        upgrades(schema, &Engine::Postgres(&server)).await;
    }
}

#[test]
fn every_table_of_a_service_is_filled_by_some_step() {
    for schema in &SCHEMAS {
        let made: BTreeSet<String> =
            schema.migrations.of(DatabaseKind::Postgres).iter().flat_map(|step| tables_of(step.sql.as_str())).collect();
        let written = schema.written.concat();
        for table in made {
            let is_derived = ["content_words", "search_words"].contains(&table.as_str());
            assert!(is_derived || written.contains(&format!(" {table} ")), "{}: no row of {table} in tests/upgrade", schema.name);
        }
    }
}

fn tables_of(sql: &str) -> Vec<String> {
    sql.lines()
        .filter_map(|line| line.strip_prefix("CREATE TABLE "))
        .map(|rest| rest.split([' ', '(']).next().unwrap().to_owned())
        .collect()
}
