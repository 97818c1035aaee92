//! What an operator sees of events and can do about them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod town;

use std::sync::Arc;

use streamgate_client::Mesh;
use streamgate_core::{Caller, ErrorKind, Identity, ServiceName, events::Settings, time::now_ms};
use streamgate_proto::streamgate::events::v1 as pb;
use streamgate_proto::streamgate::events::v1::event_admin_service_server::EventAdminService;
use streamgate_store::{Admin, Database, EventBus};
use streamgate_testkit::engines::Postgres;
use tonic::{Code, Request};
use town::{Neighbours, Running, Stage, count, started, until, uploaded};

const SERVICE: &str = "upload";

fn ask<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let identity = Identity::Service { name: ServiceName::ApiGateway, on_behalf_of: None };
    request.extensions_mut().insert(Caller { identity, request_id: "r".into() });
    request
}

async fn dead_letters(admin: &Admin, page_size: u32) -> Vec<pb::DeadLetter> {
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let asked = pb::ListDeadLettersRequest { service: SERVICE.into(), page_size, page_token };
        let page = admin.list_dead_letters(ask(asked)).await.unwrap().into_inner();
        assert!(page.dead_letters.len() <= page_size as usize);
        all.extend(page.dead_letters);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

async fn dead_letters_are_listed_retried_and_dropped(stage: &Stage) {
    let (db, to) = (stage.open("dead").await, Arc::new(Neighbours::default()));
    let upload = Running::beside(&db, &to);
    for n in 0..5 {
        to.refuse(&format!("d{n}"), ErrorKind::InvalidArgument, 1);
        upload.send("c", started(&format!("d{n}"))).await;
    }
    upload.send("c", started("good")).await;
    to.until_taken(ServiceName::Metadata, 1).await;
    let admin = Admin::of(&upload.bus);
    let letters = until(|| async { Some(dead_letters(&admin, 2).await).filter(|letters| letters.len() == 5) }).await.unwrap();
    let first = &letters[0];
    assert_eq!((first.consumer.as_str(), first.attempts, first.reason.as_str()), ("metadata", 1, "fault"));
    assert_eq!(first.event.as_ref().unwrap().r#type, "streamgate.transcoding.started");

    let dead_letter_id = first.dead_letter_id.clone();
    let retry = pb::RetryDeadLetterRequest { service: SERVICE.into(), dead_letter_id: dead_letter_id.clone() };
    admin.retry_dead_letter(ask(retry.clone())).await.unwrap();
    assert_eq!(to.until_taken(ServiceName::Metadata, 2).await, ["good", "d0"]);
    assert_eq!(admin.retry_dead_letter(ask(retry)).await.unwrap_err().code(), Code::NotFound);

    let dead_letter_id = letters[1].dead_letter_id.clone();
    let delete = pb::DeleteDeadLetterRequest { service: SERVICE.into(), dead_letter_id };
    admin.delete_dead_letter(ask(delete)).await.unwrap();
    assert_eq!(dead_letters(&admin, 100).await.len(), 3);
    upload.stop().await;
}

async fn events_are_listed_and_replayed_from_any_point_to_one_consumer(stage: &Stage) {
    let (db, to) = (stage.open("replay").await, Arc::new(Neighbours::default()));
    let upload = Running::beside(&db, &to);
    for n in 0..4 {
        upload.send(&format!("subject {}", n % 2), uploaded(&format!("u{n}"))).await;
    }
    upload.send("subject 0", started("s")).await;
    to.until_taken(ServiceName::Metadata, 5).await;
    to.until_taken(ServiceName::Transcoder, 4).await;
    let admin = Admin::of(&upload.bus);
    let list = |subject: &str| pb::ListEventsRequest { service: SERVICE.into(), subject: subject.into(), ..Default::default() };
    let arrived = || async {
        let events = admin.list_events(ask(list(""))).await.unwrap().into_inner().events;
        Some(events).filter(|events| events.len() == 5 && events.iter().all(|event| event.waiting_for.is_empty()))
    };
    let all = until(arrived).await.expect("all have arrived");
    assert_eq!(admin.list_events(ask(list("subject 1"))).await.unwrap().into_inner().events.len(), 2);

    let replay = pb::ReplayEventsRequest {
        service: SERVICE.into(),
        consumer: "transcoder".into(),
        from_sequence: all[1].sequence,
        max_events: 2,
        ..Default::default()
    };
    let answer = admin.replay_events(ask(replay.clone())).await.unwrap().into_inner();
    assert_eq!((answer.queued, answer.next_sequence), (2, all[3].sequence));
    let answer = admin.replay_events(ask(pb::ReplayEventsRequest { from_sequence: answer.next_sequence, ..replay })).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!((answer.queued, answer.next_sequence), (1, 0), "what does not concern the consumer is passed by");
    let mut again = to.until_taken(ServiceName::Transcoder, 7).await.split_off(4);
    again.sort();
    assert_eq!(again, ["u1", "u2", "u3"]);
    assert_eq!(to.taken_by(ServiceName::Metadata).len(), 5, "nobody else hears of it");
    upload.stop().await;
}

async fn old_events_go_and_those_that_wait_stay(stage: &Stage) {
    let (db, to) = (stage.open("purge").await, Arc::new(Neighbours::default()));
    to.go_away(Some(ServiceName::Transcoder));
    let upload = Running::beside(&db, &to);
    upload.send("a", uploaded("waits")).await;
    for n in 0..3 {
        upload.send("b", started(&format!("{n}"))).await;
    }
    to.until_taken(ServiceName::Metadata, 4).await;
    upload.stop().await;
    age(&db, 8).await;
    // It tidies up when it starts.
    let upload = Running::beside(&db, &to);
    let one_left = || async { (count(&db, "SELECT count(*) FROM outbox_events").await == 1).then_some(()) };
    until(one_left).await.expect("old ones go");
    to.go_away(None);
    assert_eq!(to.until_taken(ServiceName::Transcoder, 1).await, ["waits"]);
    upload.stop().await;
}

async fn age(db: &Database, days: i64) {
    let mut tx = db.begin().await.unwrap();
    let query = sqlx::query("UPDATE outbox_events SET created_ms = $1");
    query.bind(now_ms() - days * 24 * 60 * 60 * 1000).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn on_sqlite() {
    let stage = Stage::sqlite();
    dead_letters_are_listed_retried_and_dropped(&stage).await;
    events_are_listed_and_replayed_from_any_point_to_one_consumer(&stage).await;
    old_events_go_and_those_that_wait_stay(&stage).await;
}

#[tokio::test]
async fn on_postgresql() {
    let stage = Stage::Postgres { server: Arc::new(Postgres::start().await.unwrap()), prefix: "admin" };
    dead_letters_are_listed_retried_and_dropped(&stage).await;
    events_are_listed_and_replayed_from_any_point_to_one_consumer(&stage).await;
    old_events_go_and_those_that_wait_stay(&stage).await;
}

#[tokio::test]
async fn what_names_no_service_or_too_many_events_is_refused() {
    let stage = Stage::sqlite();
    let db = stage.open("refused").await;
    let mesh: Mesh = town::mesh(ServiceName::Upload);
    let admin = Admin::of(&EventBus::new(db, ServiceName::Upload, mesh, &Settings::default()));
    for service in ["", "nobody"] {
        let asked = pb::ListDeadLettersRequest { service: service.into(), ..Default::default() };
        assert_eq!(admin.list_dead_letters(ask(asked)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let replay = pb::ReplayEventsRequest { service: SERVICE.into(), consumer: "metadata".into(), ..Default::default() };
    let wrong = [
        pb::ReplayEventsRequest { consumer: "nobody".into(), ..replay.clone() },
        pb::ReplayEventsRequest { max_events: 10_001, ..replay.clone() },
        pb::ReplayEventsRequest { from_sequence: -1, ..replay },
    ];
    for asked in wrong {
        assert_eq!(admin.replay_events(ask(asked)).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let elsewhere = pb::ListEventsRequest { service: "metadata".into(), ..Default::default() };
    let answer = admin.list_events(ask(elsewhere)).await.unwrap_err();
    assert_eq!(answer.code(), Code::Unavailable, "metadata is asked, and is not there");
}
