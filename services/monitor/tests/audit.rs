//! The audit log: it only grows, and a change shows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use streamgate_monitor::{
    AuditHandler, Metrics,
    engine::audit::{Audit, MAX_BATCH, WALK_ROWS},
};
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

/// A walk that knows the head that `told` names.
fn anchored(told: &pb::VerifyChainResponse) -> pb::VerifyChainRequest {
    let (anchor_sequence, anchor_hash) = (told.head_sequence, told.head_hash.clone());
    pb::VerifyChainRequest { anchor_sequence, anchor_hash, ..Default::default() }
}

/// Goes on where `told` stopped.
fn after(told: &pb::VerifyChainResponse, request: pb::VerifyChainRequest) -> pb::VerifyChainRequest {
    pb::VerifyChainRequest { start_sequence: told.next_sequence, start_hash: told.next_hash.clone(), ..request }
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
    let request = anchored(&anchor);
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

async fn a_log_that_is_too_long_for_one_call_is_walked_in_several() {
    let mut rig = filled(0).await;
    rig.audit.audit = rig.audit.audit.walked_for(Duration::ZERO);
    let count = u32::try_from(WALK_ROWS).unwrap() + 10;
    for from in (1..=count).step_by(MAX_BATCH) {
        let until = count.min(from + u32::try_from(MAX_BATCH).unwrap() - 1);
        append(&rig, (from..=until).map(|id| entry(id, "account:a", pb::AuditOutcome::Allowed)).collect()).await;
    }
    let begun = verify(&rig, pb::VerifyChainRequest::default()).await;
    assert_eq!((begun.intact, begun.broken_sequence, begun.checked), (false, 0, WALK_ROWS), "what is not known is not intact");
    assert!(begun.detail.contains("go on"), "{}", begun.detail);
    let done = verify(&rig, after(&begun, anchored(&begun))).await;
    assert_eq!((done.intact, done.checked, done.next_sequence, done.next_hash.as_str()), (true, 10, 0, ""), "{}", done.detail);
    assert!(verify(&rig, after(&begun, anchor_of(&rig, 7).await)).await.intact, "an anchor may lie before the start");
    let wrong = pb::VerifyChainRequest { anchor_hash: done.head_hash.clone(), ..anchor_of(&rig, 7).await };
    assert_eq!(verify(&rig, after(&begun, wrong)).await.broken_sequence, 7);
    let other = pb::VerifyChainResponse { next_hash: done.head_hash, ..begun.clone() };
    let told = verify(&rig, after(&other, pb::VerifyChainRequest::default())).await;
    assert_eq!((told.intact, told.broken_sequence), (false, WALK_ROWS + 1), "it follows another entry");

    behind(&rig, "DELETE FROM audit_entries WHERE sequence > 900").await;
    behind(&rig, "UPDATE audit_head SET sequence = 900, hash = (SELECT hash FROM audit_entries WHERE sequence = 900)").await;
    let told = verify(&rig, after(&begun, pb::VerifyChainRequest::default())).await;
    assert_eq!((told.intact, told.broken_sequence), (false, 901), "the start is an anchor too: {}", told.detail);
}

async fn anchor_of(rig: &Rig, sequence: i64) -> pb::VerifyChainRequest {
    let (anchor_hash,): (String,) = sqlx::query_as("SELECT hash FROM audit_entries WHERE sequence = $1")
        .bind(sequence)
        .fetch_one(rig.db.pool())
        .await
        .unwrap();
    pb::VerifyChainRequest { anchor_sequence: sequence, anchor_hash, ..Default::default() }
}

async fn writers_at_the_same_time_make_one_chain() {
    let rig = filled(0).await;
    let elsewhere = Audit::new(support::open(&rig.folder.path().join("monitor.db")).await);
    let replica = AuditHandler { audit: elsewhere, metrics: Metrics::default() };
    let writers = (0..8_u32).map(|writer| {
        let audit = if writer % 2 == 0 { rig.audit.clone() } else { replica.clone() };
        tokio::spawn(async move {
            for n in 0..10 {
                let entries = vec![entry(writer * 100 + n, "account:a", pb::AuditOutcome::Allowed)];
                audit.append_entries(Request::new(pb::AppendEntriesRequest { entries })).await.unwrap();
            }
        })
    });
    for written in futures::future::join_all(writers).await {
        written.unwrap();
    }
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
    let code = async |request| rig.audit.verify_chain(Request::new(request)).await.unwrap_err().code();
    assert_eq!(code(pb::VerifyChainRequest { start_sequence: -1, ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::VerifyChainRequest { start_sequence: 4, ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::VerifyChainRequest { anchor_hash: "a".repeat(64), ..Default::default() }).await, Code::InvalidArgument);
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
    a_log_that_is_too_long_for_one_call_is_walked_in_several,
    writers_at_the_same_time_make_one_chain,
    entries_are_found_by_actor_object_outcome_and_request_in_pages,
    wrong_requests_are_refused,
}
