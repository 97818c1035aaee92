//! Events reach every consumer, whatever fails on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use streamgate_core::{ErrorKind, Failure, ServiceName};
use streamgate_proto::streamgate::events::v1::{
    DeliverRequest, Event, FileUploaded, TranscodingStarted, event::Payload, event_service_server::EventService as _,
};
use streamgate_store::{Database, Delivery, EventHandler, Events, Inbox, Migrations, Outbox, event_server};
use tempfile::tempdir;
use tokio_util::sync::CancellationToken;

/// Remembers what it took, and fails as told.
#[derive(Default)]
struct Neighbours {
    taken: Mutex<Vec<(ServiceName, String)>>,
    /// How often a delivery of this payload's job is refused before it is taken.
    refusals: Mutex<HashMap<String, (ErrorKind, u32)>>,
    away: Mutex<Option<ServiceName>>,
}

#[async_trait]
impl Delivery for Neighbours {
    async fn deliver(&self, to: ServiceName, event: Event) -> Result<(), Failure> {
        if *self.away.lock().unwrap() == Some(to) {
            return Err(Failure::new(ErrorKind::Unavailable, "unavailable", "away"));
        }
        let name = name_of(&event);
        if let Some((kind, left)) = self.refusals.lock().unwrap().get_mut(&name)
            && *left > 0
        {
            *left -= 1;
            return Err(Failure::new(*kind, "fault", "made by the test"));
        }
        self.taken.lock().unwrap().push((to, name));
        Ok(())
    }
}

impl Neighbours {
    fn taken_by(&self, who: ServiceName) -> Vec<String> {
        self.taken.lock().unwrap().iter().filter(|(to, _)| *to == who).map(|(_, name)| name.clone()).collect()
    }

    async fn until_taken(&self, who: ServiceName, count: usize) -> Vec<String> {
        let began = Instant::now();
        loop {
            let taken = self.taken_by(who);
            if taken.len() >= count {
                return taken;
            }
            assert!(began.elapsed() < Duration::from_secs(20), "{who} took only {taken:?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn name_of(event: &Event) -> String {
    match event.payload.as_ref().unwrap() {
        Payload::TranscodingStarted(started) => started.job_id.clone(),
        Payload::FileUploaded(uploaded) => uploaded.upload_id.clone(),
        other => panic!("not sent by these tests: {other:?}"),
    }
}

fn started(name: &str) -> Payload {
    Payload::TranscodingStarted(TranscodingStarted { job_id: name.into(), content_id: "c".into(), ..Default::default() })
}

fn uploaded(name: &str) -> Payload {
    Payload::FileUploaded(FileUploaded { upload_id: name.into(), ..FileUploaded::default() })
}

async fn open(folder: &Path) -> Database {
    Database::open(&folder.join("db/test.db"), &Migrations::none()).await.unwrap()
}

struct Relay {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), streamgate_store::Error>>,
}

impl Relay {
    fn start(outbox: &Outbox, to: &Arc<Neighbours>) -> Self {
        let stop = CancellationToken::new();
        Self { task: tokio::spawn(outbox.relay(Arc::clone(to), stop.clone())), stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

async fn send(db: &Database, outbox: &Outbox, subject: &str, payload: Payload) {
    let mut tx = db.begin().await.unwrap();
    outbox.add(&mut tx, subject, payload).await.unwrap();
    tx.commit().await.unwrap();
}

async fn rows(db: &Database, dead: bool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM outbox_deliveries WHERE dead = $1")
        .bind(i64::from(dead))
        .fetch_one(db.pool())
        .await
        .unwrap()
}

#[tokio::test]
async fn an_event_leaves_at_once_and_only_when_it_is_committed() {
    let folder = tempdir().unwrap();
    let db = open(folder.path()).await;
    let (outbox, to) = (Outbox::new(db.clone(), ServiceName::Upload), Arc::new(Neighbours::default()));
    let relay = Relay::start(&outbox, &to);

    let mut tx = db.begin().await.unwrap();
    outbox.add(&mut tx, "c", started("taken back")).await.unwrap();
    tx.rollback().await.unwrap();
    let began = Instant::now();
    send(&db, &outbox, "c", started("kept")).await;
    assert_eq!(to.until_taken(ServiceName::Metadata, 1).await, ["kept"]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    relay.stop().await;
    assert_eq!(rows(&db, false).await, 0);
}

#[tokio::test]
async fn events_of_a_subject_stay_in_order_through_failures_and_hold_back_no_other() {
    let folder = tempdir().unwrap();
    let db = open(folder.path()).await;
    let (outbox, to) = (Outbox::new(db.clone(), ServiceName::Upload), Arc::new(Neighbours::default()));
    to.refusals.lock().unwrap().insert("a0".into(), (ErrorKind::Unavailable, 4));
    let relay = Relay::start(&outbox, &to);
    for n in 0..5 {
        send(&db, &outbox, "a", started(&format!("a{n}"))).await;
        send(&db, &outbox, "b", started(&format!("b{n}"))).await;
    }
    let taken = to.until_taken(ServiceName::Metadata, 10).await;
    let of = |subject: char| taken.iter().filter(|name| name.starts_with(subject)).cloned().collect::<Vec<_>>();
    assert_eq!(of('a'), ["a0", "a1", "a2", "a3", "a4"]);
    assert_eq!(of('b'), ["b0", "b1", "b2", "b3", "b4"]);
    assert!(taken[0].starts_with('b'), "b waited for a: {taken:?}");
    relay.stop().await;
}

#[tokio::test]
async fn a_consumer_that_is_away_holds_back_no_other_and_catches_up() {
    let folder = tempdir().unwrap();
    let db = open(folder.path()).await;
    let (outbox, to) = (Outbox::new(db.clone(), ServiceName::Upload), Arc::new(Neighbours::default()));
    *to.away.lock().unwrap() = Some(ServiceName::Transcoder);
    let relay = Relay::start(&outbox, &to);
    send(&db, &outbox, "c", uploaded("u1")).await;
    send(&db, &outbox, "c", uploaded("u2")).await;
    assert_eq!(to.until_taken(ServiceName::Metadata, 2).await, ["u1", "u2"]);
    assert!(to.taken_by(ServiceName::Transcoder).is_empty());
    *to.away.lock().unwrap() = None;
    assert_eq!(to.until_taken(ServiceName::Transcoder, 2).await, ["u1", "u2"]);
    relay.stop().await;
}

#[tokio::test]
async fn a_poison_event_is_parked_and_the_next_one_goes_on() {
    let folder = tempdir().unwrap();
    let db = open(folder.path()).await;
    let (outbox, to) = (Outbox::new(db.clone(), ServiceName::Upload), Arc::new(Neighbours::default()));
    to.refusals.lock().unwrap().insert("bad".into(), (ErrorKind::InvalidArgument, u32::MAX));
    let relay = Relay::start(&outbox, &to);
    send(&db, &outbox, "c", started("bad")).await;
    send(&db, &outbox, "c", started("good")).await;
    assert_eq!(to.until_taken(ServiceName::Metadata, 1).await, ["good"]);
    relay.stop().await;
    assert_eq!((rows(&db, true).await, rows(&db, false).await), (1, 0));
    let error: String = sqlx::query_scalar("SELECT error FROM outbox_deliveries").fetch_one(db.pool()).await.unwrap();
    assert_eq!(error, "fault: made by the test");
}

#[tokio::test]
async fn events_that_were_waiting_leave_after_a_restart() {
    let folder = tempdir().unwrap();
    let to = Arc::new(Neighbours::default());
    {
        let db = open(folder.path()).await;
        let outbox = Outbox::new(db.clone(), ServiceName::Upload);
        *to.away.lock().unwrap() = Some(ServiceName::Metadata);
        let relay = Relay::start(&outbox, &to);
        send(&db, &outbox, "c", started("one")).await;
        send(&db, &outbox, "c", started("two")).await;
        relay.stop().await;
        db.close().await;
    }
    *to.away.lock().unwrap() = None;
    let db = open(folder.path()).await;
    let relay = Relay::start(&Outbox::new(db.clone(), ServiceName::Upload), &to);
    assert_eq!(to.until_taken(ServiceName::Metadata, 2).await, ["one", "two"]);
    relay.stop().await;
}

/// Counts effects, and fails after the effect of the first call was taken back.
struct Counting {
    db: Database,
    effects: Mutex<u32>,
}

#[async_trait]
impl EventHandler for Counting {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        let mut tx = self.db.begin().await?;
        if Inbox::first_time(&mut tx, &event.id).await? {
            *self.effects.lock().unwrap() += 1;
        }
        tx.commit().await?;
        Ok(())
    }
}

#[tokio::test]
async fn an_event_that_comes_twice_has_one_effect() {
    let folder = tempdir().unwrap();
    let db = open(folder.path()).await;
    let handler = Arc::new(Counting { db, effects: Mutex::new(0) });
    let _server = event_server(handler.clone());
    let id = streamgate_core::ids::EventId::new().to_string();
    for _ in 0..2 {
        let event = Event { id: id.clone(), payload: Some(started("x")), ..Event::default() };
        let request = tonic::Request::new(DeliverRequest { event: Some(event), ..Default::default() });
        Events::new(handler.clone()).deliver(request).await.unwrap();
    }
    assert_eq!(*handler.effects.lock().unwrap(), 1);
    let unreadable = tonic::Request::new(DeliverRequest { event: Some(Event { id, ..Event::default() }) });
    let refused = Events::new(handler).deliver(unreadable).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}
