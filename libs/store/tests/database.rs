//! What services rely on in a database, on both engines.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use streamgate_core::ErrorKind;
use streamgate_store::{Database, DatabaseKind, Error, Migrations, PostgresServer};
use streamgate_testkit::{
    engines::{Engine as _, Postgres},
    eventually,
};
use tempfile::TempDir;

/// Longest wait for what must happen.
const BOUND: Duration = Duration::from_secs(30);

static STEPS: Migrations = Migrations::new(sqlx::migrate!("./tests/steps/sqlite"), sqlx::migrate!("./tests/steps/postgres"));

/// Where databases are.
enum Place {
    Files(TempDir),
    Server(PostgresServer),
}

impl Place {
    async fn open(&self, name: &str) -> Database {
        self.try_open(name, &STEPS).await.unwrap()
    }

    async fn try_open(&self, name: &str, steps: &Migrations) -> Result<Database, Error> {
        match self {
            Self::Files(folder) => Database::open(&folder.path().join(format!("{name}.db")), steps).await,
            Self::Server(server) => Database::connect(server, name, steps).await,
        }
    }
}

async fn add(db: &Database, name: &str, count: i64) -> Result<i64, Error> {
    let mut tx = db.begin().await?;
    let seq = sqlx::query_scalar("INSERT INTO things (name, count) VALUES ($1, $2) RETURNING seq");
    let seq = seq.bind(name).bind(count).fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(seq)
}

async fn count_of(db: &Database, name: &str) -> Option<i64> {
    sqlx::query_scalar("SELECT count FROM things WHERE name = $1").bind(name).fetch_optional(db.pool()).await.unwrap()
}

async fn how_many(db: &Database) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(db.pool()).await.unwrap()
}

async fn keeps_the_contract(place: &Place) {
    every_type_reads_back(place).await;
    writers_lose_no_update(place).await;
    a_reader_sees_nothing_uncommitted(place).await;
    readers_refuse_to_write(place).await;
    a_taken_name_is_told_from_other_trouble(place).await;
    a_snapshot_stays_at_its_moment(place).await;
    one_of_many_shared_changes_wins(place).await;
    rows_outlive_a_restart_and_an_upgrade(place).await;
    openers_at_once_take_each_step_once(place).await;
}

async fn every_type_reads_back(place: &Place) {
    type Row = (i64, Option<String>, Option<i64>, Option<f64>, Option<Vec<u8>>);
    type Given<'a> = (&'a str, Option<i64>, Option<f64>, Option<&'a [u8]>);
    let db = place.open("types").await;
    let body: Vec<u8> = (0..=255).collect();
    let rows: [Given<'_>; 4] = [
        ("all", Some(i64::MIN), Some(0.1), Some(&body)),
        ("none", None, None, None),
        ("empty", Some(i64::MAX), Some(f64::MAX), Some(&[])),
        ("ünï'\"\\💥", Some(0), Some(-0.5), Some(b"\0")),
    ];
    for (n, (name, count, share, body)) in rows.into_iter().enumerate() {
        let mut tx = db.begin().await.unwrap();
        let query = sqlx::query_as(
            "INSERT INTO things (name, count, share, body) VALUES ($1, $2, $3, $4) RETURNING seq, name, count, share, body",
        );
        let row: Row = query.bind(name).bind(count).bind(share).bind(body).fetch_one(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let wanted = (n as i64 + 1, Some(name.to_owned()), count, share, body.map(<[u8]>::to_vec));
        assert_eq!(row, wanted);
        let read: Row = sqlx::query_as("SELECT seq, name, count, share, body FROM things WHERE seq = $1")
            .bind(row.0)
            .fetch_one(db.pool())
            .await
            .unwrap();
        assert_eq!(read, wanted);
    }
    let sum: i64 = sqlx::query_scalar("SELECT CAST(sum(seq) AS BIGINT) FROM things").fetch_one(db.pool()).await.unwrap();
    assert_eq!((sum, how_many(&db).await), (10, 4));
}

async fn writers_lose_no_update(place: &Place) {
    // Two handles are two processes to each other.
    let (one, two) = (place.open("line").await, place.open("line").await);
    add(&one, "n", 0).await.unwrap();
    let step = |db: Database| async move {
        let mut tx = db.begin().await.unwrap();
        let n: i64 = sqlx::query_scalar("SELECT count FROM things WHERE name = 'n'").fetch_one(&mut *tx).await.unwrap();
        sqlx::query("UPDATE things SET count = $1 WHERE name = 'n'").bind(n + 1).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    futures::future::join_all((0..50).map(|n| step(if n % 2 == 0 { one.clone() } else { two.clone() }))).await;
    assert_eq!(count_of(&one, "n").await, Some(50));
}

async fn a_reader_sees_nothing_uncommitted(place: &Place) {
    let db = place.open("readers").await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO things (name) VALUES ('x')").execute(&mut *tx).await.unwrap();
    assert_eq!(how_many(&db).await, 0);
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(kept, 0, "a dropped change left something");
    sqlx::query("INSERT INTO things (name) VALUES ('x')").execute(&mut *tx).await.unwrap();
    tx.rollback().await.unwrap();
    assert_eq!(how_many(&db).await, 0);
}

async fn readers_refuse_to_write(place: &Place) {
    let db = place.open("refuse").await;
    let refused = sqlx::query("INSERT INTO things (name) VALUES ('x')").execute(db.pool()).await.unwrap_err();
    assert!(matches!(Error::from(refused), Error::ReadOnly));
}

async fn a_taken_name_is_told_from_other_trouble(place: &Place) {
    let db = place.open("taken").await;
    add(&db, "a", 1).await.unwrap();
    let Err(Error::Database(taken)) = add(&db, "a", 2).await else { panic!("a second row of one name") };
    assert!(taken.as_database_error().unwrap().is_unique_violation());
    // The change that failed holds nothing up.
    add(&db, "b", 1).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    let ignored = sqlx::query("INSERT INTO things (name) VALUES ('a') ON CONFLICT DO NOTHING").execute(&mut *tx).await.unwrap();
    assert_eq!(ignored.rows_affected(), 0);
}

async fn a_snapshot_stays_at_its_moment(place: &Place) {
    let db = place.open("snapshot").await;
    let mut snapshot = db.snapshot().await.unwrap();
    let before: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&mut *snapshot).await.unwrap();
    add(&db, "later", 1).await.unwrap();
    let after: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&mut *snapshot).await.unwrap();
    assert_eq!((before, after, how_many(&db).await), (0, 0, 1));
}

async fn one_of_many_shared_changes_wins(place: &Place) {
    let (one, two) = (place.open("shared").await, place.open("shared").await);
    add(&one, "free", 0).await.unwrap();
    let claim = |db: Database| async move {
        let mut tx = db.begin_shared().await.unwrap();
        let claimed = sqlx::query("UPDATE things SET count = 1 WHERE name = 'free' AND count = 0").execute(&mut *tx).await;
        tx.commit().await.unwrap();
        claimed.unwrap().rows_affected()
    };
    let claims = (0..20).map(|n| claim(if n % 2 == 0 { one.clone() } else { two.clone() }));
    assert_eq!(futures::future::join_all(claims).await.iter().sum::<u64>(), 1);
}

async fn rows_outlive_a_restart_and_an_upgrade(place: &Place) {
    let db = place.try_open("upgrade", &STEPS.first(1)).await.unwrap();
    add(&db, "old", 7).await.unwrap();
    db.close().await;
    let db = place.open("upgrade").await;
    let row: (i64, String) = sqlx::query_as("SELECT count, note FROM things").fetch_one(db.pool()).await.unwrap();
    assert_eq!(row, (7, "none".to_owned()));
    db.close().await;
    // A version that knows less must not write over what a newer one has made.
    let older = place.try_open("upgrade", &STEPS.first(1)).await.unwrap_err();
    assert!(matches!(older, Error::Migrate(_)), "{older:?}");
}

async fn openers_at_once_take_each_step_once(place: &Place) {
    let opened = futures::future::join_all((0..6).map(|_| place.open("together"))).await;
    add(&opened[0], "x", 1).await.unwrap();
    assert_eq!(how_many(&opened[5]).await, 1);
    let steps: i64 = sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(opened[1].pool()).await.unwrap();
    assert_eq!(steps, 2);
}

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    keeps_the_contract(&Place::Files(tempfile::tempdir().unwrap())).await;
}

#[tokio::test]
async fn postgresql_keeps_the_contract() {
    let server = Postgres::start().await.unwrap();
    keeps_the_contract(&Place::Server(PostgresServer::parse(&server.url()).unwrap())).await;
}

#[tokio::test]
async fn a_server_that_goes_away_is_unavailable_and_comes_back_by_itself() {
    let mut server = Postgres::start().await.unwrap();
    let place = Place::Server(PostgresServer::parse(&server.url()).unwrap());
    let db = place.open("away").await;
    add(&db, "kept", 1).await.unwrap();
    server.stop().await.unwrap();
    let read = sqlx::query("SELECT 1").execute(db.pool()).await.map_err(Error::from).unwrap_err();
    assert_eq!(read.kind(), ErrorKind::Unavailable, "{read:?}");
    let opened = place.try_open("away", &STEPS).await.unwrap_err();
    assert_eq!(opened.kind(), ErrorKind::Unavailable, "{opened:?}");
    server.restart().await.unwrap();
    eventually("the database answers", BOUND, async || Ok(db.ping().await.is_ok().then_some(()))).await.unwrap();
    assert_eq!(count_of(&db, "kept").await, Some(1));
    add(&db, "again", 2).await.unwrap();
}

#[tokio::test]
async fn limits_of_the_server_side_are_set_and_said_as_unavailable() {
    let server = Postgres::start().await.unwrap();
    let place = Place::Server(PostgresServer::parse(&server.url()).unwrap());
    let db = place.open("limits").await;
    assert_eq!(db.kind(), DatabaseKind::Postgres);
    for (setting, wanted) in [
        ("statement_timeout", "10s"),
        ("lock_timeout", "8s"),
        ("idle_in_transaction_session_timeout", "30s"),
        ("search_path", "limits"),
    ] {
        let found: String = sqlx::query_scalar("SELECT current_setting($1)").bind(setting).fetch_one(db.pool()).await.unwrap();
        assert_eq!(found, wanted, "{setting}");
    }
    let mut tx = db.begin().await.unwrap();
    sqlx::query("SET LOCAL statement_timeout = 50").execute(&mut *tx).await.unwrap();
    let slow = sqlx::query("SELECT CAST(pg_sleep(5) AS TEXT)").execute(&mut *tx).await.map_err(Error::from).unwrap_err();
    assert_eq!(slow.kind(), ErrorKind::Unavailable, "{slow:?}");
    drop(tx);
    let reads = (0..40).map(|_| sqlx::query("SELECT CAST(pg_sleep(0.02) AS TEXT)").execute(db.pool()));
    assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));
    let count = server.query("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'limits'").unwrap();
    assert!(count.trim().parse::<u32>().unwrap() <= 8, "{count} connections");
}

#[tokio::test]
async fn a_step_that_waits_for_others_is_taken_later() {
    let server = Postgres::start().await.unwrap();
    let place = Place::Server(PostgresServer::parse(&server.url()).unwrap());
    let db = place.open("waits").await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("LOCK TABLE _sqlx_migrations IN ACCESS EXCLUSIVE MODE").execute(&mut *tx).await.unwrap();
    let opened = place.try_open("waits", &STEPS).await.unwrap_err();
    assert_eq!(opened.kind(), ErrorKind::Unavailable, "{opened:?}");
    tx.rollback().await.unwrap();
    place.open("waits").await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_and_never_shown() {
    let server = Postgres::start().await.unwrap();
    let wrong = PostgresServer::parse(&server.url().replace("only-for-tests", "wrong-secret")).unwrap();
    let refused = Database::connect(&wrong, "x", &Migrations::none()).await.unwrap_err();
    assert!(!format!("{wrong:?} {refused:?} {refused}").contains("wrong-secret"));
    for bad in ["x", "mysql://a@b/c", "postgres:///name", "postgres://host"] {
        PostgresServer::parse(bad).unwrap_err();
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_to_be_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b%20c?#.db");
    std::fs::write(&path, vec![7; 4096]).unwrap();
    let failed = Database::open(&path, &Migrations::none()).await.unwrap_err();
    assert!(matches!(failed, Error::Corrupt(_)), "{failed:?}");
    std::fs::remove_file(&path).unwrap();
    Database::open(&path, &Migrations::none()).await.unwrap().close().await;
    assert!(path.exists(), "a path that looks like a URL is still a path");
}
