//! A database with many readers and one writer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use streamgate_core::ErrorKind;
use streamgate_store::{Database, Migrations};
use tempfile::tempdir;

async fn open(path: &std::path::Path) -> Database {
    let db = Database::open(path, &Migrations::none()).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    sqlx::query("CREATE TABLE IF NOT EXISTS counter (n INTEGER NOT NULL) STRICT").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    db
}

#[tokio::test]
async fn writers_wait_in_line_and_lose_no_update() {
    let folder = tempdir().unwrap();
    let db = open(&folder.path().join("a.db")).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO counter VALUES (0)").execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let add = || async {
        let mut tx = db.begin().await.unwrap();
        let n: i64 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(&mut *tx).await.unwrap();
        sqlx::query("UPDATE counter SET n = $1").bind(n + 1).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    };
    futures::future::join_all((0..50).map(|_| add())).await;
    let n: i64 = sqlx::query_scalar("SELECT n FROM counter").fetch_one(db.pool()).await.unwrap();
    assert_eq!(n, 50);
}

#[tokio::test]
async fn a_reader_goes_on_beside_a_writer_and_sees_nothing_uncommitted() {
    let folder = tempdir().unwrap();
    let db = open(&folder.path().join("a.db")).await;
    let mut tx = db.begin().await.unwrap();
    sqlx::query("INSERT INTO counter VALUES (1)").execute(&mut *tx).await.unwrap();
    let seen: i64 = sqlx::query_scalar("SELECT count(*) FROM counter").fetch_one(db.pool()).await.unwrap();
    assert_eq!(seen, 0);
    drop(tx);
    let mut tx = db.begin().await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM counter").fetch_one(&mut *tx).await.unwrap();
    assert_eq!(kept, 0, "a dropped change left something");
}

#[tokio::test]
async fn the_readers_pool_refuses_to_write() {
    let folder = tempdir().unwrap();
    let db = open(&folder.path().join("a.db")).await;
    let refused = sqlx::query("INSERT INTO counter VALUES (1)").execute(db.pool()).await.unwrap_err();
    assert_eq!(streamgate_store::Error::from(refused).kind(), ErrorKind::Unavailable);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_said_to_be_damaged() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a.db");
    std::fs::write(&path, vec![7; 4096]).unwrap();
    let failed = Database::open(&path, &Migrations::none()).await.unwrap_err();
    assert!(matches!(failed, streamgate_store::Error::Corrupt(_)), "{failed:?}");
}
