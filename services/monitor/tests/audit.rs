//! The audit log: it only grows, and a change shows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use streamgate_proto::streamgate::audit::v1::{self as pb, audit_service_server::AuditService as _};
use streamgate_store::DatabaseKind;
use support::Rig;
use tonic::{Code, Request};

fn entry(id: u32, actor: &str, outcome: pb::AuditOutcome) -> pb::AuditEntry {
    pb::AuditEntry {
        entry_id: format!("aud_{id}"),
        service: "metadata".into(),
        method: "/streamgate.metadata.v1.MetadataService/SetGate".into(),
        actor: actor.into(),
        object: format!("content_id=cnt_{id}"),
        outcome: outcome.into(),
        request_id: format!("req-{id}"),
        ..Default::default()
    }
}

async fn append(rig: &Rig, entries: Vec<pb::AuditEntry>) {
    rig.audit.append_entries(Request::new(pb::AppendEntriesRequest { entries })).await.unwrap();
}

async fn filled(count: u32) -> Rig {
    let rig = Rig::new().await;
    append(&rig, (1..=count).map(|id| entry(id, "account:a", pb::AuditOutcome::Allowed)).collect()).await;
    rig
}

async fn verify(rig: &Rig, request: pb::VerifyChainRequest) -> pb::VerifyChainResponse {
    rig.audit.verify_chain(Request::new(request)).await.unwrap().into_inner()
}

async fn list(rig: &Rig, request: pb::ListEntriesRequest) -> Vec<i64> {
    let entries = rig.audit.list_entries(Request::new(request)).await.unwrap().into_inner().entries;
    entries.into_iter().map(|entry| entry.sequence).collect()
}

/// Does something behind the service's back, as somebody with the database in hands could.
async fn behind(rig: &Rig, sql: &'static str) {
    let mut tx = rig.db.begin().await.unwrap();
    let table = if tx.kind() == DatabaseKind::Postgres { " ON audit_entries" } else { "" };
    for trigger in ["audit_entries_stay", "audit_entries_last"] {
        sqlx::query(sqlx::AssertSqlSafe(format!("DROP TRIGGER IF EXISTS {trigger}{table}"))).execute(&mut *tx).await.unwrap();
    }
    sqlx::query(sql).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_log_that_nobody_touched_is_intact() {
    let rig = filled(5).await;
    let told = verify(&rig, pb::VerifyChainRequest::default()).await;
    assert!(told.intact, "{}", told.detail);
    assert_eq!((told.checked, told.head_sequence, told.head_hash.len()), (5, 5, 64));
}

async fn a_row_that_was_changed_behind_its_back_is_named() {
    let rig = filled(5).await;
    behind(&rig, "UPDATE audit_entries SET actor = 'account:somebody else' WHERE sequence = 3").await;
    let told = verify(&rig, pb::VerifyChainRequest::default()).await;
    assert_eq!((told.intact, told.broken_sequence), (false, 3));
    assert!(told.detail.contains("changed"), "{}", told.detail);
}

async fn a_row_that_was_taken_out_is_named() {
    let rig = filled(5).await;
    behind(&rig, "DELETE FROM audit_entries WHERE sequence = 2").await;
    assert_eq!(verify(&rig, pb::VerifyChainRequest::default()).await.broken_sequence, 2);
}

async fn a_cut_at_the_end_shows_and_an_anchor_shows_even_one_that_was_covered_up() {
    let rig = filled(5).await;
    let anchor = verify(&rig, pb::VerifyChainRequest::default()).await;
    behind(&rig, "DELETE FROM audit_entries WHERE sequence > 3").await;
    assert_eq!(verify(&rig, pb::VerifyChainRequest::default()).await.broken_sequence, 4);
    behind(&rig, "UPDATE audit_head SET sequence = 3, hash = (SELECT hash FROM audit_entries WHERE sequence = 3)").await;
    assert!(verify(&rig, pb::VerifyChainRequest::default()).await.intact, "the database alone can't tell");
    let request = pb::VerifyChainRequest { anchor_sequence: anchor.head_sequence, anchor_hash: anchor.head_hash };
    assert!(!verify(&rig, request).await.intact, "who kept the anchor can");
}

async fn the_database_itself_refuses_to_change_an_entry() {
    let rig = filled(1).await;
    let mut tx = rig.db.begin().await.unwrap();
    assert!(sqlx::query("UPDATE audit_entries SET actor = 'x'").execute(&mut *tx).await.is_err());
    assert!(sqlx::query("DELETE FROM audit_entries").execute(&mut *tx).await.is_err());
}

async fn an_entry_that_arrives_again_is_there_once() {
    let rig = filled(3).await;
    append(&rig, (2..=4).map(|id| entry(id, "account:a", pb::AuditOutcome::Allowed)).collect()).await;
    assert_eq!(list(&rig, pb::ListEntriesRequest::default()).await, [4, 3, 2, 1]);
    assert!(verify(&rig, pb::VerifyChainRequest::default()).await.intact);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_at_the_same_time_make_one_chain() {
    let rig = filled(0).await;
    let audit = rig.audit.clone();
    let writers = (0..8_u32).map(|writer| {
        let audit = audit.clone();
        tokio::spawn(async move {
            for n in 0..10 {
                let entries = vec![entry(writer * 100 + n, "account:a", pb::AuditOutcome::Allowed)];
                audit.append_entries(Request::new(pb::AppendEntriesRequest { entries })).await.unwrap();
            }
        })
    });
    futures::future::join_all(writers).await;
    let told = verify(&rig, pb::VerifyChainRequest::default()).await;
    assert_eq!((told.intact, told.checked), (true, 80), "{}", told.detail);
}

async fn entries_are_found_by_actor_object_outcome_and_request_in_pages() {
    let rig = filled(4).await;
    append(&rig, vec![entry(9, "anonymous", pb::AuditOutcome::Refused)]).await;
    let all = pb::ListEntriesRequest::default;
    assert_eq!(list(&rig, pb::ListEntriesRequest { actor: "anonymous".into(), ..all() }).await, [5]);
    assert_eq!(list(&rig, pb::ListEntriesRequest { object: "content_id=cnt_2".into(), ..all() }).await, [2]);
    assert_eq!(list(&rig, pb::ListEntriesRequest { outcome: pb::AuditOutcome::Refused.into(), ..all() }).await, [5]);
    assert_eq!(list(&rig, pb::ListEntriesRequest { request_id: "req-3".into(), ..all() }).await, [3]);
    assert!(list(&rig, pb::ListEntriesRequest { service: "upload".into(), ..all() }).await.is_empty());
    let first = pb::ListEntriesRequest { page_size: 3, ..all() };
    let page = rig.audit.list_entries(Request::new(first.clone())).await.unwrap().into_inner();
    let second = pb::ListEntriesRequest { page_token: page.next_page_token, ..first };
    assert_eq!(list(&rig, second).await, [2, 1]);
}

async fn wrong_requests_are_refused() {
    let rig = Rig::new().await;
    let code = async |request| rig.audit.list_entries(Request::new(request)).await.unwrap_err().code();
    assert_eq!(code(pb::ListEntriesRequest { service: "nope".into(), ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::ListEntriesRequest { outcome: 9, ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::ListEntriesRequest { page_size: 101, ..Default::default() }).await, Code::InvalidArgument);
    let nameless = pb::AppendEntriesRequest { entries: vec![pb::AuditEntry::default()] };
    assert_eq!(rig.audit.append_entries(Request::new(nameless)).await.unwrap_err().code(), Code::InvalidArgument);
}

streamgate_testkit::on_both_engines! {
    support:
    a_log_that_nobody_touched_is_intact,
    a_row_that_was_changed_behind_its_back_is_named,
    a_row_that_was_taken_out_is_named,
    a_cut_at_the_end_shows_and_an_anchor_shows_even_one_that_was_covered_up,
    the_database_itself_refuses_to_change_an_entry,
    an_entry_that_arrives_again_is_there_once,
    entries_are_found_by_actor_object_outcome_and_request_in_pages,
    wrong_requests_are_refused,
}
