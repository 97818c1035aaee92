//! Health and metrics over the handlers, with services that are faked.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use streamgate_core::ServiceName;
use streamgate_monitor::engine::Reachable;
use streamgate_proto::streamgate::monitor::v1 as pb;
use streamgate_runtime::CancellationToken;
use streamgate_testkit::eventually;
use support::{BOUND, FIRST, Rig};
use tokio_util::sync::DropGuard;
use tonic::Code;

/// Watches until the guard is dropped.
fn watch(rig: &Rig) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(rig.poller.clone().watch_health(stop.clone()));
    stop.drop_guard()
}

async fn until(rig: &Rig, what: &str, is_so: impl Fn(&pb::GetHealthResponse) -> bool) -> pb::GetHealthResponse {
    let seen = eventually(what, BOUND, || async { Ok(Some(rig.health().await).filter(&is_so)) });
    seen.await.unwrap()
}

fn of<'a>(told: &'a pb::GetHealthResponse, name: &str) -> &'a pb::ServiceHealth {
    told.services.iter().find(|service| service.service == name).unwrap()
}

async fn all_nine_are_watched_and_told() {
    let rig = Rig::new().await;
    assert_eq!(rig.health().await.status, "degraded", "nothing was asked yet");
    let _watching = watch(&rig);
    let told = until(&rig, "all serve", |told| told.status == "healthy").await;
    assert_eq!(told.services.len(), 9);
    assert!(told.services.iter().all(|service| service.state() == pb::HealthState::Serving && service.detail.is_empty()));
    assert_eq!(of(&told, "upload").instances[0].address, FIRST);
    assert!(rig.exposed().contains("up{target=\"upload\"} 1"));
}

async fn a_service_that_is_down_or_hangs_is_told_and_comes_back() {
    let rig = Rig::new().await;
    let _watching = watch(&rig);
    until(&rig, "all serve", |told| told.status == "healthy").await;
    rig.fake.answers(ServiceName::Upload, Some(Err("it can't be reached".into())));
    rig.fake.answers(ServiceName::Worker, None);
    let told = until(&rig, "both are away", |told| {
        [of(told, "upload"), of(told, "worker")].iter().all(|service| service.state() == pb::HealthState::Unreachable)
    })
    .await;
    assert_eq!(told.status, "degraded");
    assert_eq!(of(&told, "upload").detail, "it can't be reached");
    assert_eq!(of(&told, "worker").detail, "it did not answer in time");
    assert!(rig.exposed().contains("up{target=\"worker\"} 0"));
    rig.fake.answers(ServiceName::Upload, Some(Ok(Reachable::Serving)));
    rig.fake.answers(ServiceName::Worker, Some(Ok(Reachable::Serving)));
    until(&rig, "all serve again", |told| told.status == "healthy").await;
}

async fn nobody_can_play_without_the_edge() {
    let rig = Rig::new().await;
    rig.fake.answers(ServiceName::ApiGateway, Some(Ok(Reachable::NotServing)));
    let _watching = watch(&rig);
    let told = until(&rig, "the edge drains", |told| told.status == "unhealthy").await;
    assert_eq!(told.services[0].state(), pb::HealthState::NotServing);
}

async fn instances_that_come_and_go_are_followed() {
    let rig = Rig::new().await;
    let both = vec![FIRST.to_owned(), "10.0.0.2:1".to_owned()];
    rig.fake.instances.lock().unwrap().insert(ServiceName::Upload, both);
    rig.fake.instance_answers(ServiceName::Upload, "10.0.0.2:1", Some(Err("it can't be reached".into())));
    let _watching = watch(&rig);
    let told = until(&rig, "both are known", |told| of(told, "upload").instances.len() == 2 && told.status == "healthy").await;
    assert_eq!(of(&told, "upload").instances[1].state(), pb::HealthState::Unreachable);
    rig.fake.instances.lock().unwrap().insert(ServiceName::Upload, vec!["10.0.0.2:1".to_owned()]);
    let told = until(&rig, "only the broken one is left", |told| of(told, "upload").instances.len() == 1).await;
    assert_eq!(of(&told, "upload").state(), pb::HealthState::Unreachable);
}

async fn the_newest_metrics_stay_while_a_service_is_away() {
    let rig = Rig::new().await;
    let text = "# TYPE jobs gauge\njobs{type=\"sweep\"} 3\nbroken {\n".to_owned();
    rig.fake.metrics.lock().unwrap().insert(ServiceName::Worker, Ok(text));
    rig.poller.read_metrics().await;
    let first = rig.metrics_of("worker").await.unwrap();
    assert_eq!(first[0].samples.len(), 1);
    let sample = &first[0].samples[0];
    assert_eq!((sample.name.as_str(), sample.labels["type"].as_str(), sample.value), ("jobs", "sweep", 3.0));
    rig.fake.metrics.lock().unwrap().insert(ServiceName::Worker, Err("it can't be reached".into()));
    rig.poller.read_metrics().await;
    assert_eq!(rig.metrics_of("worker").await.unwrap(), first);
    assert!(rig.exposed().contains("monitor_failed_scrapes_total{target=\"worker\"} 1"));
    assert_eq!(rig.metrics_of("").await.unwrap().len(), 9);
}

async fn a_service_that_does_not_exist_is_refused() {
    let rig = Rig::new().await;
    assert_eq!(rig.metrics_of("nope").await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(rig.metrics_of("cache").await.unwrap()[0].scrape_time, None, "never read");
}

streamgate_testkit::on_both_engines! {
    support:
    all_nine_are_watched_and_told,
    a_service_that_is_down_or_hangs_is_told_and_comes_back,
    nobody_can_play_without_the_edge,
    instances_that_come_and_go_are_followed,
    the_newest_metrics_stay_while_a_service_is_away,
    a_service_that_does_not_exist_is_refused,
}
