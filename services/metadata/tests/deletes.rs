//! Titles that go: away, back, and for good; and titles that an older version wrote.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use streamgate_core::{Role, time::now_ms};
use streamgate_metadata::{Config, MIGRATIONS};
use streamgate_proto::streamgate::metadata::v1 as pb;
use streamgate_store::{Database, PostgresServer};
use support::{Fixture, as_account, reason};
use tonic::Code;

/// Lets the time of a deleted title be over.
async fn time_is_over(titles: &Fixture, id: &str) {
    let mut tx = titles.db.begin().await.unwrap();
    let past = "UPDATE contents SET purge_ms = $2 WHERE content_id = $1";
    sqlx::query(past).bind(id).bind(now_ms() - 1).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_deleted_title_comes_back_as_it_was(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let request = pb::CreateContentRequest { title: "Phoenix".into(), tags: vec!["birds".into()], ..Default::default() };
    let content = titles.create_with(&owner, request).await.unwrap();
    titles.delete(&owner, &content.content_id).await.unwrap();
    let deleted = pb::ListContentsRequest { deleted: true, ..Default::default() };
    assert_eq!(titles.list(&owner, deleted.clone()).await, ["Phoenix"]);
    assert!(titles.list(&as_account(Role::Creator), deleted.clone()).await.is_empty());
    assert_eq!(titles.undelete(&as_account(Role::Creator), &content.content_id).await.unwrap_err().code(), Code::NotFound);

    // Its media may become whole meanwhile.
    for event in support::life_of(&content.content_id) {
        titles.deliver(event).await.unwrap();
    }
    let back = titles.undelete(&owner, &content.content_id).await.unwrap();
    assert_eq!((back.playback_ids.as_slice(), back.status.as_str()), (content.playback_ids.as_slice(), "ready"));
    assert_eq!((back.delete_time, back.purge_time), (None, None));
    assert_eq!(titles.undelete(&owner, &content.content_id).await.unwrap(), back, "repeating is success");
    assert_eq!(titles.search(&owner, "phoenix").await.unwrap(), ["Phoenix"]);
    let tagged = pb::ListContentsRequest { tags: vec!["birds".into()], ..Default::default() };
    assert_eq!(titles.list(&owner, tagged).await, ["Phoenix"]);
    assert!(titles.list(&owner, deleted).await.is_empty());
    assert!(titles.info(&content.playback_ids[0]).await.unwrap().playable);
    assert_eq!(titles.purge(0).await, pb::PurgeContentsResponse { purged: 0, more: false });
}

async fn a_title_whose_time_is_over_is_gone_for_good_and_others_are_told(titles: Fixture) {
    let owner = as_account(Role::Creator);
    let mut ids = Vec::new();
    for title in ["One", "Two", "Three", "Kept"] {
        let content = titles.create(&owner, title).await;
        titles.delete(&owner, &content.content_id).await.unwrap();
        ids.push(content.content_id);
    }
    assert_eq!(titles.purge(0).await.purged, 0, "their time is not over");
    for id in &ids[..3] {
        time_is_over(&titles, id).await;
    }
    assert_eq!(titles.undelete(&owner, &ids[0]).await.unwrap_err().code(), Code::NotFound, "too late, though not yet purged");
    assert_eq!(titles.purge(2).await, pb::PurgeContentsResponse { purged: 2, more: true });
    assert_eq!(titles.purge(2).await, pb::PurgeContentsResponse { purged: 1, more: false });
    assert_eq!(titles.purge(2).await.purged, 0);
    let told = titles.outbox_types().await.into_iter().filter(|kind| kind == "content.purged").count();
    assert_eq!(told, 3, "once for each");
    assert_eq!(titles.list(&owner, pb::ListContentsRequest { deleted: true, ..Default::default() }).await, ["Kept"]);
    titles.delete(&owner, &ids[0]).await.expect("deleting what is gone is success");
    assert_eq!(reason(&titles.delete(&as_account(Role::Creator), &ids[0]).await.unwrap_err()), "content_unknown");
    let left: Vec<String> =
        sqlx::query_scalar("SELECT title FROM contents WHERE purged = 1").fetch_all(titles.db.pool()).await.unwrap();
    assert_eq!(left, ["", "", ""], "nothing that was said about them is kept");
}

#[tokio::test]
async fn without_a_time_to_bring_it_back_a_deleted_title_can_be_purged_at_once() {
    let titles = Fixture::with(Config { undelete_ms: 0, ..Config::default() }).await;
    let owner = as_account(Role::Creator);
    let content = titles.create(&owner, "Gone").await;
    titles.delete(&owner, &content.content_id).await.unwrap();
    assert_eq!(titles.undelete(&owner, &content.content_id).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(titles.purge(0).await.purged, 1);
}

const OLD_TITLE: &str = "INSERT INTO contents (content_id, owner, request_hash, title, description, tags, status, create_ms, update_ms, delete_ms) \
     VALUES ($1, $2, '', $3, 'an old text', '[\"Retro\"]', 'ready', 1, 1, $4)";

/// Writes two titles with the first version of the schema, one of them deleted.
async fn write_old(db: &Database, owner: &str) {
    let mut tx = db.begin().await.unwrap();
    for (title, deleted) in [("Old Café", None), ("Old and deleted", Some(5_i64))] {
        let id = streamgate_core::ids::ContentId::new().to_string();
        sqlx::query(OLD_TITLE).bind(id).bind(owner).bind(title).bind(deleted).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    db.close().await;
}

async fn check_upgraded(titles: &Fixture, owner: &streamgate_core::Caller) {
    assert_eq!(titles.engine.index_all().await.unwrap(), 2);
    assert_eq!(titles.engine.index_all().await.unwrap(), 0);
    assert_eq!(titles.search(owner, "cafe").await.unwrap(), ["Old Café"]);
    let tagged = pb::ListContentsRequest { tags: vec!["retro".into()], order_by: "title".into(), ..Default::default() };
    assert_eq!(titles.list(owner, tagged).await, ["Old Café"]);
    assert_eq!(titles.purge(0).await.purged, 1, "what was deleted before can't come back");
}

#[tokio::test]
async fn titles_that_an_older_version_wrote_are_found_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.db");
    let owner = as_account(Role::Creator);
    write_old(&Database::open(&path, &MIGRATIONS.first(1)).await.unwrap(), owner.account().unwrap().id.as_str()).await;
    let titles = Fixture::over(Database::open(&path, &MIGRATIONS).await.unwrap(), Config::default(), Some(folder));
    check_upgraded(&titles, &owner).await;
}

#[tokio::test]
async fn titles_that_an_older_version_wrote_are_found_on_postgres() {
    let postgres = streamgate_testkit::engines::Postgres::start().await.unwrap();
    let server = PostgresServer::parse(&postgres.url()).unwrap();
    let owner = as_account(Role::Creator);
    let old = Database::connect(&server, "metadata", &MIGRATIONS.first(1)).await.unwrap();
    write_old(&old, owner.account().unwrap().id.as_str()).await;
    let titles = Fixture::on_postgres(&server, "metadata", Config::default()).await;
    check_upgraded(&titles, &owner).await;
}

support::on_both_engines! {
    a_deleted_title_comes_back_as_it_was,
    a_title_whose_time_is_over_is_gone_for_good_and_others_are_told,
}
