//! Cron schedules, at any moment a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use streamgate_proto::streamgate::worker::v1::{self as pb, worker_service_server::WorkerService as _};
use streamgate_worker::{
    Handler, Metrics,
    engine::{
        CronSchedule, Priority, Schedules, Submit,
        cron::{CatchUp, Cron},
    },
    jobs::Registry,
};
use support::{Fixture, Scripted, asked};
use tonic::Code;

const HOUR_MS: i64 = 60 * 60 * 1000;

fn hourly(catch_up: CatchUp, no_overlap: bool) -> CronSchedule {
    CronSchedule {
        name: "hourly".into(),
        cron: "0 * * * *".into(),
        time_zone: String::new(),
        catch_up,
        job_type: "count".into(),
        priority: Priority::High,
        params: None,
        paused: false,
        no_overlap,
        next_ms: 0,
        last_ms: None,
    }
}

async fn fire_all(schedules: &Schedules, now: i64) {
    while schedules.fire_next(now).await.unwrap() {}
}

async fn a_schedule_fires_once_for_each_time_whichever_worker_looks() {
    let jobs = Fixture::open().await;
    let (one, other) =
        (Schedules::new(jobs.queue.clone(), Registry::default()), Schedules::new(jobs.queue.clone(), Registry::default()));
    let cron = Cron::parse("0 * * * *", "").unwrap();
    let put = one.put(hourly(CatchUp::Once, false), &cron, 10).await.unwrap();
    assert_eq!((put.next_ms, one.next_time().await.unwrap()), (HOUR_MS, Some(HOUR_MS)));
    fire_all(&one, HOUR_MS - 1).await;
    assert!(jobs.all(None).await.is_empty());
    tokio::join!(fire_all(&one, HOUR_MS), fire_all(&other, HOUR_MS));
    fire_all(&other, HOUR_MS + 5_000).await;
    let queued = jobs.all(None).await;
    assert_eq!((queued.len(), queued[0].priority), (1, Priority::High));
    let listed = one.list(0, "").await.unwrap().schedules.remove(0);
    assert_eq!((listed.next_ms, listed.last_ms), (2 * HOUR_MS, Some(HOUR_MS)));
}

#[tokio::test]
async fn a_schedule_that_cannot_be_read_is_paused_and_holds_up_no_other() {
    let jobs = Fixture::open().await;
    let schedules = Schedules::new(jobs.queue.clone(), Registry::default());
    let cron = Cron::parse("0 * * * *", "").unwrap();
    for name in ["a", "b"] {
        schedules.put(CronSchedule { name: name.into(), ..hourly(CatchUp::Once, false) }, &cron, 10).await.unwrap();
    }
    // No encoded message begins with a tag of nought.
    jobs.change("UPDATE cron_schedules SET params = $1 WHERE name = 'a'", vec![0, 0, 0]).await;
    fire_all(&schedules, HOUR_MS).await;
    assert_eq!(jobs.all(None).await.len(), 1);
    let listed = schedules.list(0, "").await.unwrap().schedules;
    assert_eq!(listed.iter().map(|schedule| schedule.paused).collect::<Vec<_>>(), [true, false], "an operator sees which");
}

#[tokio::test]
async fn missed_times_are_made_good_as_the_schedule_says() {
    for (catch_up, no_overlap, queued) in
        [(CatchUp::Skip, false, 0), (CatchUp::Once, false, 1), (CatchUp::All, false, 5), (CatchUp::All, true, 1)]
    {
        let jobs = Fixture::open().await;
        let schedules = Schedules::new(jobs.queue.clone(), Registry::default());
        schedules.put(hourly(catch_up, no_overlap), &Cron::parse("0 * * * *", "").unwrap(), 10).await.unwrap();
        fire_all(&schedules, 5 * HOUR_MS + HOUR_MS / 2).await;
        assert_eq!(jobs.all(None).await.len(), queued, "{catch_up:?} {no_overlap}");
        assert_eq!(schedules.next_time().await.unwrap(), Some(6 * HOUR_MS));
    }
}

async fn a_paused_or_deleted_schedule_queues_nothing() {
    let jobs = Fixture::open().await;
    let schedules = Schedules::new(jobs.queue.clone(), Registry::default());
    let cron = Cron::parse("0 * * * *", "").unwrap();
    schedules.put(CronSchedule { paused: true, ..hourly(CatchUp::All, false) }, &cron, 10).await.unwrap();
    fire_all(&schedules, 3 * HOUR_MS).await;
    schedules.put(hourly(CatchUp::All, false), &cron, 3 * HOUR_MS).await.unwrap();
    schedules.delete("hourly").await.unwrap();
    schedules.delete("hourly").await.unwrap();
    fire_all(&schedules, 9 * HOUR_MS).await;
    assert!(jobs.all(None).await.is_empty() && schedules.list(0, "").await.unwrap().schedules.is_empty());
}

async fn a_schedule_that_is_applied_again_keeps_its_times() {
    let jobs = Fixture::open().await;
    let schedules = Schedules::new(jobs.queue.clone(), Registry::default());
    let cron = Cron::parse("0 * * * *", "").unwrap();
    schedules.put(hourly(CatchUp::All, false), &cron, 10).await.unwrap();
    fire_all(&schedules, HOUR_MS).await;
    // Three times were missed, and somebody changes its priority.
    let urgent = CronSchedule { priority: Priority::Low, ..hourly(CatchUp::All, false) };
    let again = schedules.put(urgent, &cron, 4 * HOUR_MS + 10).await.unwrap();
    assert_eq!((again.next_ms, again.last_ms), (2 * HOUR_MS, Some(HOUR_MS)));
    fire_all(&schedules, 4 * HOUR_MS + 20).await;
    assert_eq!(jobs.all(None).await.len(), 4);
    // Other times are counted from now.
    let later = CronSchedule { cron: "30 * * * *".into(), ..hourly(CatchUp::All, false) };
    let moved = schedules.put(later, &Cron::parse("30 * * * *", "").unwrap(), 9 * HOUR_MS).await.unwrap();
    assert_eq!((moved.next_ms, moved.last_ms), (9 * HOUR_MS + HOUR_MS / 2, Some(4 * HOUR_MS)));
}

async fn a_schedule_that_is_called_as_a_type_is_not_its_interval() {
    let jobs = Fixture::open().await;
    let schedules = Schedules::new(jobs.queue.clone(), Registry::default());
    let named = CronSchedule { name: "count".into(), ..hourly(CatchUp::Once, true) };
    schedules.put(named, &Cron::parse("0 * * * *", "").unwrap(), 10).await.unwrap();
    jobs.queue.tick(Submit::new("count"), Duration::from_secs(60), HOUR_MS).await.unwrap();
    fire_all(&schedules, HOUR_MS).await;
    let keys: Vec<_> = jobs.all(None).await.into_iter().map(|job| job.unique_key).collect();
    assert_eq!(keys, ["cron:count", "interval:count"]);
    assert_eq!(jobs.events().await, ["job.submitted"; 2], "whatever has queued it");
}

async fn a_schedule_is_refused_with_the_field_that_is_wrong() {
    let jobs = Fixture::open().await;
    let handler = Handler::new(jobs.queue.clone(), Registry::default().with(Scripted::default()), Metrics::default());
    let good = || pb::Schedule {
        name: "nightly".into(),
        cron: "30 3 * * *".into(),
        time_zone: "Europe/Berlin".into(),
        r#type: "scripted".into(),
        ..Default::default()
    };
    let put = async |schedule| handler.schedule_job(asked(pb::ScheduleJobRequest { schedule: Some(schedule) })).await;
    let stored = put(good()).await.unwrap().into_inner().schedule.unwrap();
    assert!(stored.next_time.is_some());
    for (field, bad) in [
        ("schedule.name", pb::Schedule { name: "a b".into(), ..good() }),
        ("schedule.cron", pb::Schedule { cron: "often".into(), ..good() }),
        ("schedule.time_zone", pb::Schedule { time_zone: "Mars".into(), ..good() }),
        ("schedule.type", pb::Schedule { r#type: "mine".into(), ..good() }),
        ("schedule.priority", pb::Schedule { priority: 9, ..good() }),
        ("schedule.catch_up", pb::Schedule { catch_up: 9, ..good() }),
    ] {
        let refused = put(bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{field}");
        let failure = streamgate_core::Failure::from(&refused);
        assert_eq!(failure.fields.first().map(|fault| fault.field.as_str()), Some(field));
    }
}

streamgate_testkit::on_both_engines! {
    support:
    a_schedule_fires_once_for_each_time_whichever_worker_looks,
    a_paused_or_deleted_schedule_queues_nothing,
    a_schedule_that_is_applied_again_keeps_its_times,
    a_schedule_that_is_called_as_a_type_is_not_its_interval,
    a_schedule_is_refused_with_the_field_that_is_wrong,
}
