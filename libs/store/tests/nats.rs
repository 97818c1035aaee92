//! Events through a real NATS, whatever happens to it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod town;

use std::{collections::HashSet, sync::Arc};

use streamgate_core::{ErrorKind, ServiceName, time::now_ms};
use streamgate_proto::streamgate::events::v1 as pb;
use streamgate_proto::streamgate::events::v1::event_admin_service_server::EventAdminService;
use streamgate_store::{Admin, Database};
use streamgate_testkit::engines::{Engine as _, Nats, Postgres};
use tonic::Request;
use town::{Recorder, Running, Stage, count, started, until, uploaded};

/// A service on the broker, with what it heard.
struct Service {
    own: ServiceName,
    db: Database,
    recorder: Arc<Recorder>,
    running: Running,
}

impl Service {
    async fn start(own: ServiceName, stage: &Stage, nats: &Nats) -> Self {
        let db = stage.open(own.as_str()).await;
        let recorder = Recorder::new(&db);
        let running = Running::on_broker(own, &db, &nats.url(), &recorder);
        Self { own, db, recorder, running }
    }

    async fn until_sent(&self) {
        let sent = || async { (count(&self.db, "SELECT count(*) FROM outbox_deliveries").await == 0).then_some(()) };
        until(sent).await.unwrap_or_else(|| panic!("{} still has events to send", self.own));
    }
}

async fn upload_and_its_consumers(stage: &Stage, nats: &Nats) -> (Service, Service, Service) {
    tokio::join!(
        Service::start(ServiceName::Upload, stage, nats),
        Service::start(ServiceName::Metadata, stage, nats),
        Service::start(ServiceName::Transcoder, stage, nats)
    )
}

fn assert_each_once(effects: &[String]) {
    let once: HashSet<_> = effects.iter().collect();
    assert_eq!(once.len(), effects.len(), "{effects:?}");
}

async fn everybody_hears_what_concerns_them_once_and_in_order(stage: &Stage, nats: &Nats) {
    let (upload, metadata, transcoder) = upload_and_its_consumers(stage, nats).await;
    for n in 0..10 {
        upload.running.send("a", uploaded(&format!("a{n}"))).await;
        upload.running.send("b", started(&format!("b{n}"))).await;
    }
    let names = |subject: &str| (0..10).map(|n| format!("{subject}{n}")).collect::<Vec<_>>();
    assert_eq!(metadata.recorder.until_effects("a", 10).await, names("a"));
    assert_eq!(metadata.recorder.until_effects("b", 10).await, names("b"));
    assert_eq!(transcoder.recorder.until_effects("a", 10).await, names("a"));
    upload.until_sent().await;
    assert_eq!(transcoder.recorder.effects().len(), 10, "the transcoder hears of no job");
    assert!(upload.recorder.effects().is_empty());
    for service in [upload, metadata, transcoder] {
        service.running.stop().await;
    }
}

#[tokio::test]
async fn everybody_hears_what_concerns_them_on_sqlite() {
    let nats = Nats::start().await.unwrap();
    everybody_hears_what_concerns_them_once_and_in_order(&Stage::sqlite(), &nats).await;
}

#[tokio::test]
async fn everybody_hears_what_concerns_them_on_postgresql() {
    let (nats, server) = tokio::try_join!(Nats::start(), Postgres::start()).unwrap();
    let stage = Stage::Postgres { server: Arc::new(server), prefix: "nats" };
    everybody_hears_what_concerns_them_once_and_in_order(&stage, &nats).await;
}

#[tokio::test]
async fn a_relay_killed_between_publishing_and_marking_publishes_again_and_nobody_acts_twice() {
    let (nats, stage) = (Nats::start().await.unwrap(), Stage::sqlite());
    let (upload, metadata, transcoder) = upload_and_its_consumers(&stage, &nats).await;
    upload.running.send("c", uploaded("one")).await;
    metadata.recorder.until_effects("one", 1).await;
    upload.until_sent().await;
    upload.running.kill().await;
    // The row as the kill would have left it.
    let mut tx = upload.db.begin().await.unwrap();
    let unmark =
        "INSERT INTO outbox_deliveries (consumer, seq, subject, next_ms) SELECT 'nats', seq, subject, 0 FROM outbox_events";
    sqlx::raw_sql(unmark).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
    let upload = Service::start(ServiceName::Upload, &stage, &nats).await;
    upload.running.send("c", uploaded("two")).await;
    for consumer in [&metadata, &transcoder] {
        consumer.recorder.until_effects("two", 1).await;
        assert_eq!(consumer.recorder.effects(), ["one", "two"]);
    }
}

#[tokio::test]
async fn what_happens_while_nats_is_stopped_arrives_when_it_is_back() {
    let (mut nats, stage) = (Nats::start().await.unwrap(), Stage::sqlite());
    let (upload, metadata, transcoder) = upload_and_its_consumers(&stage, &nats).await;
    upload.running.send("c", uploaded("before")).await;
    metadata.recorder.until_effects("before", 1).await;
    nats.stop().await.unwrap();
    for n in 0..5 {
        upload.running.send("c", uploaded(&format!("during {n}"))).await;
    }
    let tried = || async { (count(&upload.db, "SELECT max(attempts) FROM outbox_deliveries").await > 0).then_some(()) };
    until(tried).await.expect("it was noticed that NATS is away");
    nats.restart().await.unwrap();
    upload.running.send("c", uploaded("after")).await;
    for consumer in [&metadata, &transcoder] {
        consumer.recorder.until_effects("after", 1).await;
        let during = (0..5).map(|n| format!("during {n}"));
        let expected: Vec<_> = ["before".to_owned()].into_iter().chain(during).chain(["after".to_owned()]).collect();
        assert_eq!(consumer.recorder.effects(), expected, "all of it, in order, once");
    }
}

#[tokio::test]
async fn a_wiped_nats_loses_nothing_for_old_and_new_consumers() {
    let (mut nats, stage) = (Nats::start().await.unwrap(), Stage::sqlite());
    let upload = Service::start(ServiceName::Upload, &stage, &nats).await;
    let metadata = Service::start(ServiceName::Metadata, &stage, &nats).await;
    for n in 0..5 {
        upload.running.send(&format!("subject {n}"), uploaded(&format!("u{n}"))).await;
    }
    metadata.recorder.until_effects("u", 5).await;
    upload.until_sent().await;
    // The transcoder never ran: only the stream had its five events.
    nats.wipe().await.unwrap();
    upload.running.send("subject 5", uploaded("u5")).await;
    nats.restart().await.unwrap();
    let transcoder = Service::start(ServiceName::Transcoder, &stage, &nats).await;
    let mut late = transcoder.recorder.until_effects("u", 6).await;
    late.sort();
    assert_eq!(late, ["u0", "u1", "u2", "u3", "u4", "u5"]);
    metadata.recorder.until_effects("u5", 1).await;
    assert_each_once(&metadata.recorder.effects());
}

#[tokio::test]
async fn a_stream_that_was_deleted_under_running_services_is_filled_again() {
    let (nats, stage) = (Nats::start().await.unwrap(), Stage::sqlite());
    let (upload, metadata, _transcoder) = upload_and_its_consumers(&stage, &nats).await;
    upload.running.send("c", uploaded("one")).await;
    metadata.recorder.until_effects("one", 1).await;
    upload.until_sent().await;
    let client = async_nats::connect(nats.url()).await.unwrap();
    async_nats::jetstream::new(client).delete_stream("STREAMGATE").await.unwrap();
    upload.running.send("c", uploaded("two")).await;
    metadata.recorder.until_effects("two", 1).await;
    assert_eq!(metadata.recorder.effects(), ["one", "two"]);
    let told_again = || async {
        (count(&upload.db, "SELECT count(*) FROM outbox_events WHERE stream_seq IS NOT NULL").await == 2).then_some(())
    };
    until(told_again).await.expect("the new stream holds both");
}

#[tokio::test]
async fn a_poison_event_becomes_the_consumers_dead_letter_and_can_be_retried() {
    let (nats, stage) = (Nats::start().await.unwrap(), Stage::sqlite());
    let (upload, metadata, _transcoder) = upload_and_its_consumers(&stage, &nats).await;
    metadata.recorder.refuse("poison", ErrorKind::Internal, 3);
    for name in ["first", "poison", "last"] {
        upload.running.send("c", uploaded(name)).await;
    }
    metadata.recorder.until_effects("last", 1).await;
    assert_eq!(metadata.recorder.effects(), ["first", "last"]);
    let admin = Admin::of(&metadata.running.bus);
    let letters = || async {
        let asked = pb::ListDeadLettersRequest { service: "metadata".into(), ..Default::default() };
        admin.list_dead_letters(Request::new(asked)).await.unwrap().into_inner().dead_letters.pop()
    };
    let letter = until(letters).await.expect("a dead letter");
    assert_eq!((letter.consumer.as_str(), letter.attempts), ("metadata", 3));
    assert_eq!(letter.event.unwrap().source, "upload");
    let retry = pb::RetryDeadLetterRequest { service: "metadata".into(), dead_letter_id: letter.dead_letter_id };
    admin.retry_dead_letter(Request::new(retry)).await.unwrap();
    metadata.recorder.until_effects("poison", 1).await;
    assert_eq!(metadata.recorder.effects(), ["first", "last", "poison"]);
}

#[tokio::test]
async fn a_replay_reaches_one_consumer_and_acts_again_only_when_asked() {
    let (nats, stage) = (Nats::start().await.unwrap(), Stage::sqlite());
    let (upload, metadata, transcoder) = upload_and_its_consumers(&stage, &nats).await;
    upload.running.send("c", uploaded("one")).await;
    metadata.recorder.until_effects("one", 1).await;
    transcoder.recorder.until_effects("one", 1).await;
    upload.until_sent().await;
    let admin = Admin::of(&upload.running.bus);
    let replay = |again| pb::ReplayEventsRequest {
        service: "upload".into(),
        consumer: "metadata".into(),
        from_time: Some(streamgate_core::time::to_timestamp(now_ms() - 3_600_000)),
        again,
        ..Default::default()
    };
    assert_eq!(admin.replay_events(Request::new(replay(false))).await.unwrap().into_inner().queued, 1);
    upload.until_sent().await;
    upload.running.send("c", uploaded("two")).await;
    metadata.recorder.until_effects("two", 1).await;
    assert_eq!(metadata.recorder.effects(), ["one", "two"], "it had acted on it");
    admin.replay_events(Request::new(replay(true))).await.unwrap();
    let again = || async { (metadata.recorder.effects().len() == 4).then_some(()) };
    until(again).await.expect("it acts on both again");
    assert_eq!(transcoder.recorder.effects(), ["one", "two"], "nobody else hears of it");
}

#[tokio::test]
async fn replicas_of_a_consumer_share_the_stream_and_keep_the_order() {
    let (nats, server) = tokio::try_join!(Nats::start(), Postgres::start()).unwrap();
    let stage = Stage::Postgres { server: Arc::new(server), prefix: "replicas" };
    let upload = Service::start(ServiceName::Upload, &stage, &nats).await;
    let replicas =
        [Service::start(ServiceName::Metadata, &stage, &nats).await, Service::start(ServiceName::Metadata, &stage, &nats).await];
    for n in 0..40 {
        upload.running.send(&format!("subject {}", n % 4), uploaded(&format!("{} {n:02}", n % 4))).await;
    }
    let all = || async {
        let count = replicas.iter().map(|replica| replica.recorder.effects().len()).sum::<usize>();
        (count >= 40).then_some(count)
    };
    assert_eq!(until(all).await.expect("all are handled"), 40, "each by one replica");
    for subject in 0..4 {
        for replica in &replicas {
            let prefix = format!("{subject} ");
            let of: Vec<_> = replica.recorder.effects().into_iter().filter(|name| name.starts_with(&prefix)).collect();
            assert!(of.is_sorted(), "{of:?}");
        }
    }
}
