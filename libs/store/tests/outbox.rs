//! Events reach every consumer, whatever fails on the way, on either database.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod town;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use streamgate_core::{ErrorKind, ServiceName, ids::EventId};
use streamgate_proto::streamgate::events::v1::{DeliverRequest, Event, event_service_server::EventService as _};
use streamgate_store::{Database, Events, Migrations, Outbox, PostgresServer};
use streamgate_testkit::engines::{Engine as _, Postgres};
use town::{Neighbours, Recorder, Running, Stage, count, started, until, uploaded};

const WAITING: &str = "SELECT count(*) FROM outbox_deliveries";
const CLAIMED_FOR_METADATA: &str = "SELECT count(*) FROM outbox_deliveries
    WHERE consumer = 'metadata' AND next_ms > extract(epoch FROM now()) * 1000 + 1000";
const DEAD: &str = "SELECT count(*) FROM dead_letters";

async fn an_event_leaves_at_once_and_only_when_it_is_committed(stage: &Stage) {
    let (db, to) = (stage.open("commit").await, Arc::new(Neighbours::default()));
    let upload = Running::beside(&db, &to);
    let mut tx = db.begin().await.unwrap();
    upload.outbox.add(&mut tx, "c", started("taken back")).await.unwrap();
    tx.rollback().await.unwrap();
    upload.send("c", started("kept")).await;
    assert_eq!(to.until_taken(ServiceName::Metadata, 1).await, ["kept"]);
    let began = Instant::now();
    for taken in 2..12 {
        upload.send("c", started("next")).await;
        to.until_taken(ServiceName::Metadata, taken).await;
    }
    // Whoever waits for the next look at the rows waits five seconds, each time.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    until_empty(&db).await;
    upload.stop().await;
    assert_eq!(count(&db, "SELECT count(*) FROM outbox_events").await, 11);
}

/// Waits until every consumer has every event: the others than metadata too.
async fn until_empty(db: &Database) {
    until(|| async { (count(db, WAITING).await == 0).then_some(()) }).await.expect("all events leave");
}

async fn a_subject_stays_in_order_through_failures_and_holds_back_no_other(stage: &Stage) {
    let (db, to) = (stage.open("order").await, Arc::new(Neighbours::default()));
    to.refuse("a0", ErrorKind::Unavailable, u32::MAX);
    let upload = Running::beside(&db, &to);
    for n in 0..5 {
        upload.send("a", started(&format!("a{n}"))).await;
        upload.send("b", started(&format!("b{n}"))).await;
    }
    let names = |subject: &str| (0..5).map(|n| format!("{subject}{n}")).collect::<Vec<_>>();
    assert_eq!(to.until_taken(ServiceName::Metadata, 5).await, names("b"), "b does not wait for a");
    to.refuse("a0", ErrorKind::Unavailable, 0);
    let taken = to.until_taken(ServiceName::Metadata, 10).await;
    assert_eq!(taken[5..], names("a"));
    upload.stop().await;
}

async fn a_consumer_that_is_away_holds_back_no_other_and_catches_up(stage: &Stage) {
    let (db, to) = (stage.open("away").await, Arc::new(Neighbours::default()));
    to.go_away(Some(ServiceName::Transcoder));
    let upload = Running::beside(&db, &to);
    upload.send("c", uploaded("u1")).await;
    upload.send("c", uploaded("u2")).await;
    assert_eq!(to.until_taken(ServiceName::Metadata, 2).await, ["u1", "u2"]);
    // More often than an event may fail by its own fault: who is away is no fault of the event.
    let tried = until(|| async { (count(&db, "SELECT max(attempts) FROM outbox_deliveries").await > 5).then_some(()) });
    tried.await.expect("it is tried again and again");
    assert_eq!(count(&db, DEAD).await, 0);
    to.go_away(None);
    assert_eq!(to.until_taken(ServiceName::Transcoder, 2).await, ["u1", "u2"]);
    upload.stop().await;
}

async fn a_poison_event_becomes_a_dead_letter_and_the_next_one_goes_on(stage: &Stage) {
    let (db, to) = (stage.open("poison").await, Arc::new(Neighbours::default()));
    to.refuse("wrong", ErrorKind::InvalidArgument, u32::MAX);
    to.refuse("crashes", ErrorKind::Internal, u32::MAX);
    to.refuse("heals", ErrorKind::Internal, 2);
    let upload = Running::beside(&db, &to);
    for name in ["wrong", "crashes", "panics", "heals", "good"] {
        upload.send("c", started(name)).await;
    }
    assert_eq!(to.until_taken(ServiceName::Metadata, 2).await, ["heals", "good"]);
    until_empty(&db).await;
    upload.stop().await;
    assert_eq!(count(&db, DEAD).await, 3);
    let attempts: Vec<i64> =
        sqlx::query_scalar("SELECT attempts FROM dead_letters ORDER BY dead_ms").fetch_all(db.pool()).await.unwrap();
    assert_eq!(attempts, [1, 3, 3], "what is wrong is not tried again; what may heal is, as often as patience allows");
}

async fn events_that_were_waiting_leave_after_a_kill(stage: &Stage) {
    let to = Arc::new(Neighbours::default());
    {
        let db = stage.open("kill").await;
        to.go_away(Some(ServiceName::Metadata));
        let upload = Running::beside(&db, &to);
        upload.send("c", started("one")).await;
        upload.send("c", started("two")).await;
        upload.kill().await;
        db.close().await;
    }
    to.go_away(None);
    let db = stage.open("kill").await;
    let upload = Running::beside(&db, &to);
    assert_eq!(to.until_taken(ServiceName::Metadata, 2).await, ["one", "two"]);
    upload.stop().await;
}

async fn replicas_share_the_work_and_keep_the_order(stage: &Stage) {
    let (db, to) = (stage.open("replicas").await, Arc::new(Neighbours::default()));
    let replicas = [Running::beside(&db, &to), Running::beside(&stage.open("replicas").await, &to)];
    for n in 0..20 {
        replicas[n % 2].send(&format!("subject {}", n % 4), started(&format!("{} {n:02}", n % 4))).await;
    }
    let taken = to.until_taken(ServiceName::Metadata, 20).await;
    for subject in 0..4 {
        let of: Vec<_> = taken.iter().filter(|name| name.starts_with(&format!("{subject} "))).collect();
        assert!(of.is_sorted() && of.len() == 5, "{of:?}");
    }
    for replica in replicas {
        replica.stop().await;
    }
    assert_eq!(to.taken_by(ServiceName::Metadata).len(), 20, "each was delivered once");
}

#[tokio::test]
async fn what_a_replica_had_to_itself_when_the_server_died_goes_on_at_once() {
    let mut server = Postgres::start().await.unwrap();
    let at = PostgresServer::parse(&server.url()).unwrap();
    let (db, to) = (Database::connect(&at, "claims", &Migrations::none()).await.unwrap(), Arc::new(Neighbours::default()));
    let hold = to.hold();
    let upload = Running::beside(&db, &to);
    upload.send("c", started("one")).await;
    // Claimed, read, and on its way: a claim alone is not read yet.
    to.until_held().await;
    assert_eq!(count(&db, CLAIMED_FOR_METADATA).await, 1);
    server.kill();
    hold.close();
    // It is delivered, and can't be written down.
    assert_eq!(to.until_taken(ServiceName::Metadata, 1).await, ["one"]);
    server.restart().await.unwrap();
    let began = Instant::now();
    let empty = until(|| async {
        let left: Option<i64> = sqlx::query_scalar(WAITING).fetch_one(db.pool()).await.ok();
        (left == Some(0)).then_some(())
    });
    empty.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(30), "a claim ends after 45 s: {:?}", began.elapsed());
    upload.stop().await;
}

async fn an_event_that_comes_twice_has_one_effect_unless_it_is_asked_for_again(stage: &Stage) {
    let db = stage.open("twice").await;
    let recorder = Recorder::new(&db);
    let server = Events::new(recorder.clone()).remembered_in(db.clone());
    let event = Event { id: EventId::new().to_string(), payload: Some(started("x")), ..Event::default() };
    for (again, effects) in [(false, 1), (false, 1), (true, 2), (false, 2)] {
        let request = DeliverRequest { event: Some(event.clone()), again };
        server.deliver(tonic::Request::new(request)).await.unwrap();
        assert_eq!(recorder.effects().len(), effects);
    }
    let unknown = DeliverRequest { event: Some(Event { payload: None, ..event }), again: false };
    let refused = server.deliver(tonic::Request::new(unknown)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

macro_rules! on_both_engines {
    ($($scenario:ident),* $(,)?) => {
        mod on_sqlite {
            use super::Stage;
            $(
                #[tokio::test]
                async fn $scenario() {
                    super::$scenario(&Stage::sqlite()).await;
                }
            )*
        }

        /// One server for all: starting one takes longer than most of them.
        #[tokio::test]
        async fn the_same_holds_on_postgresql() {
            let server = Arc::new(Postgres::start().await.unwrap());
            $(
                let stage = Stage::Postgres { server: Arc::clone(&server), prefix: "outbox" };
                $scenario(&stage).await;
            )*
            let stage = Stage::Postgres { server, prefix: "outbox" };
            replicas_share_the_work_and_keep_the_order(&stage).await;
        }
    };
}

on_both_engines!(
    an_event_leaves_at_once_and_only_when_it_is_committed,
    a_subject_stays_in_order_through_failures_and_holds_back_no_other,
    a_consumer_that_is_away_holds_back_no_other_and_catches_up,
    a_poison_event_becomes_a_dead_letter_and_the_next_one_goes_on,
    events_that_were_waiting_leave_after_a_kill,
    an_event_that_comes_twice_has_one_effect_unless_it_is_asked_for_again,
);

#[tokio::test]
async fn a_database_from_before_dead_letters_keeps_its_events() {
    let stage = Stage::sqlite();
    let Stage::Sqlite(folder) = &stage else { unreachable!() };
    let path = folder.path().join("old.db");
    let old = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = <sqlx::SqliteConnection as sqlx::Connection>::connect_with(&old).await.unwrap();
    sqlx::raw_sql(include_str!("../src/events/migrations/sqlite/0001_events.sql")).execute(&mut connection).await.unwrap();
    let rows = "INSERT INTO outbox_events (id, subject, body, created_ms) VALUES ('e1', 'c', x'00', 1), ('e2', 'c', x'00', 2);
        INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms, dead, error) VALUES
            ('metadata', 1, 'c', 1, 1, 'fault: it was'), ('metadata', 2, 'c', 1, 0, NULL);";
    sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    sqlx::Connection::close(connection).await.unwrap();

    let db = stage.open("old").await;
    assert_eq!((count(&db, WAITING).await, count(&db, DEAD).await), (1, 1));
    assert_eq!(count(&db, "SELECT count(*) FROM dead_letters WHERE id = 'e1:metadata' AND detail = 'fault: it was'").await, 1);
    let _usable = Outbox::new(ServiceName::Upload);
}
