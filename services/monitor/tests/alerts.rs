//! Alerts from the first sign to their end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::time::Duration;

use streamgate_core::{ServiceName, time::now_ms};
use streamgate_monitor::{
    Config,
    engine::{
        Reachable,
        alerts::{Kind, Rule, Severity},
    },
};
use streamgate_proto::streamgate::{
    events::v1::{Event, event::Payload},
    monitor::v1::{self as pb, monitor_service_server::MonitorService as _},
};
use support::{FIRST, Rig, of_operator};
use tonic::{Code, Request};

const FOR: i64 = 1_000;
const CLEAR: i64 = 500;

fn rule(kind: Kind, threshold: f64) -> Rule {
    let chain = (kind == Kind::GasPrice).then_some(1);
    let (for_ms, clear_ms) = (FOR as u64, CLEAR as u64);
    Rule { name: kind.as_str().into(), kind, severity: Severity::Critical, threshold, for_ms, clear_ms, chain }
}

async fn rig(rules: Vec<Rule>) -> Rig {
    Rig::with(Config { rules, ..Config::default() }).await
}

async fn alerts(rig: &Rig, state: pb::AlertState) -> Vec<pb::Alert> {
    let request = pb::ListAlertsRequest { state: state.into(), ..Default::default() };
    rig.handler.list_alerts(Request::new(request)).await.unwrap().into_inner().alerts
}

fn down(rig: &Rig, is_down: bool) {
    let answer = if is_down { Err("it can't be reached".to_owned()) } else { Ok(Reachable::Serving) };
    rig.handler.seen.note_health(ServiceName::Upload, FIRST, answer, Duration::ZERO, 0);
}

async fn events(rig: &Rig) -> Vec<&'static str> {
    use prost::Message as _;
    let rows: Vec<(Vec<u8>,)> =
        sqlx::query_as("SELECT body FROM outbox_events ORDER BY seq").fetch_all(rig.db.pool()).await.unwrap();
    let payloads = rows.into_iter().map(|(body,)| Event::decode(body.as_slice()).unwrap().payload.unwrap());
    payloads
        .map(|payload| match payload {
            Payload::AlertTriggered(told) if told.service == "upload" => "triggered",
            Payload::AlertResolved(_) => "resolved",
            _ => "other",
        })
        .collect()
}

async fn an_alert_waits_fires_is_acknowledged_and_resolves_and_tells_of_it_once() {
    let rig = rig(vec![rule(Kind::ServiceDown, 0.0)]).await;
    down(&rig, true);
    rig.evaluator.evaluate(0).await.unwrap();
    rig.evaluator.evaluate(FOR - 1).await.unwrap();
    let pending = alerts(&rig, pb::AlertState::Pending).await;
    assert_eq!((pending.len(), pending[0].target.as_str()), (1, "upload"));
    assert!(events(&rig).await.is_empty(), "nobody is called for what may pass");

    rig.evaluator.evaluate(FOR).await.unwrap();
    rig.evaluator.evaluate(FOR + 1).await.unwrap();
    let firing = alerts(&rig, pb::AlertState::Firing).await;
    assert_eq!(firing[0].summary, "upload does not serve: it can't be reached");
    assert_eq!(events(&rig).await, ["triggered"]);
    assert!(rig.exposed().contains("monitor_alerts_firing{rule=\"service_down\"} 1"));

    let message = pb::AcknowledgeAlertRequest { alert_id: firing[0].alert_id.clone(), note: "looking".into() };
    let (request, operator) = of_operator(message.clone());
    let told = rig.handler.acknowledge_alert(request).await.unwrap().into_inner().alert.unwrap();
    assert_eq!((told.state(), told.acknowledged_by.as_str()), (pb::AlertState::Acknowledged, operator.as_str()));
    let (again, _) = of_operator(pb::AcknowledgeAlertRequest { note: "me too".into(), ..message });
    assert_eq!(rig.handler.acknowledge_alert(again).await.unwrap().into_inner().alert.unwrap(), told, "the first one stays");

    down(&rig, false);
    rig.evaluator.evaluate(2_000).await.unwrap();
    down(&rig, true);
    rig.evaluator.evaluate(2_100).await.unwrap();
    down(&rig, false);
    rig.evaluator.evaluate(2_200).await.unwrap();
    rig.evaluator.evaluate(2_200 + CLEAR - 1).await.unwrap();
    assert_eq!(alerts(&rig, pb::AlertState::Acknowledged).await.len(), 1, "it flapped, so it has not been away for long");
    rig.evaluator.evaluate(2_200 + CLEAR).await.unwrap();
    assert_eq!(alerts(&rig, pb::AlertState::Resolved).await.len(), 1);
    assert_eq!(events(&rig).await, ["triggered", "resolved"]);
}

async fn a_short_trouble_leaves_no_alert() {
    let rig = rig(vec![rule(Kind::ServiceDown, 0.0)]).await;
    down(&rig, true);
    rig.evaluator.evaluate(0).await.unwrap();
    down(&rig, false);
    rig.evaluator.evaluate(FOR).await.unwrap();
    assert!(alerts(&rig, pb::AlertState::Unspecified).await.is_empty());
}

async fn only_a_firing_alert_that_exists_can_be_acknowledged() {
    let rig = rig(vec![rule(Kind::ServiceDown, 0.0)]).await;
    down(&rig, true);
    rig.evaluator.evaluate(0).await.unwrap();
    let pending = alerts(&rig, pb::AlertState::Pending).await.remove(0);
    let code = async |alert_id: String, note: String| {
        let (request, _) = of_operator(pb::AcknowledgeAlertRequest { alert_id, note });
        rig.handler.acknowledge_alert(request).await.unwrap_err().code()
    };
    assert_eq!(code(pending.alert_id.clone(), String::new()).await, Code::FailedPrecondition);
    assert_eq!(code("alr_00000000000000000000000000000000".into(), String::new()).await, Code::NotFound);
    assert_eq!(code("nope".into(), String::new()).await, Code::InvalidArgument);
    assert_eq!(code(pending.alert_id, "x".repeat(501)).await, Code::InvalidArgument);
}

fn counters(ok: u32, broken: u32, slow: u32) -> String {
    let labels = "method=\"/streamgate.auth.v1.AuthService/Login\"";
    let all = ok + broken;
    format!(
        "streamgate_rpc_handled_total{{{labels},code=\"0\"}} {ok}\nstreamgate_rpc_handled_total{{{labels},code=\"13\"}} {broken}\n\
         streamgate_rpc_seconds_bucket{{{labels},code=\"0\",le=\"0.1\"}} {}\n\
         streamgate_rpc_seconds_bucket{{{labels},code=\"0\",le=\"5.0\"}} {all}\n",
        all - slow
    )
}

async fn errors_latency_queues_disk_audit_files_and_gas_each_raise_their_alert() {
    let rules = vec![
        rule(Kind::ErrorRate, 0.05),
        rule(Kind::Latency, 1.0),
        rule(Kind::QueueAge, 600.0),
        rule(Kind::Disk, 0.0),
        rule(Kind::AuditFiles, 0.0),
        rule(Kind::GasPrice, 100.0),
    ];
    let rig = rig(rules).await;
    let now = now_ms();
    let read = |text: String, at: i64| {
        let samples = streamgate_monitor::engine::parse(&text).samples;
        rig.handler.seen.note_scrape(ServiceName::Auth, FIRST, samples, at);
    };
    read(counters(100, 0, 0), now - 10_000);
    read(counters(150, 10, 30), now);
    let queue = "streamgate_worker_oldest_queued_seconds 700\nstreamgate_audit_unreadable_files 1\n";
    rig.handler.seen.note_scrape(ServiceName::Worker, FIRST, streamgate_monitor::engine::parse(queue).samples, now);
    let none = streamgate_monitor::engine::parse("streamgate_audit_unreadable_files 0\n").samples;
    rig.handler.seen.note_scrape(ServiceName::Cache, FIRST, none, now);
    rig.fake.gas.lock().unwrap().insert(1, 120.0);
    let stop = streamgate_runtime::CancellationToken::new();
    tokio::spawn(rig.handler.system.clone().watch(rig.metrics.clone(), stop.clone()));
    tokio::spawn(rig.evaluator.clone().watch_gas(stop.clone()));
    let all_active = streamgate_testkit::eventually("gas and disk are known", support::BOUND, || async {
        Ok(rig.evaluator.rules().await.iter().all(|(_, inactive)| inactive.is_empty()).then_some(()))
    });
    all_active.await.unwrap();
    rig.evaluator.evaluate(now).await.unwrap();
    rig.evaluator.evaluate(now + FOR).await.unwrap();
    let mut firing: Vec<(String, String)> =
        alerts(&rig, pb::AlertState::Firing).await.into_iter().map(|alert| (alert.rule, alert.target)).collect();
    firing.sort();
    let expected = [
        ("audit_files", "worker"),
        ("disk", "data_dir"),
        ("error_rate", "auth"),
        ("gas_price", "eip155:1"),
        ("latency", "auth"),
        ("queue_age", "worker"),
    ];
    assert_eq!(firing, expected.map(|(rule, target)| (rule.to_owned(), target.to_owned())));
    stop.cancel();
}

async fn an_instance_that_can_t_be_read_any_more_keeps_no_alert_alive() {
    let rig = rig(vec![rule(Kind::ErrorRate, 0.05), rule(Kind::QueueAge, 600.0)]).await;
    let read = |service: ServiceName, address: &str, text: &str, at: i64| {
        let samples = streamgate_monitor::engine::parse(text).samples;
        rig.handler.seen.note_scrape(service, address, samples, at);
    };
    let queue = |age: u32| format!("streamgate_worker_oldest_queued_seconds {age}\n");
    let now = now_ms();
    read(ServiceName::Auth, FIRST, &counters(100, 0, 0), now - 10_000);
    read(ServiceName::Auth, FIRST, &counters(150, 50, 0), now);
    read(ServiceName::Worker, FIRST, &queue(700), now);
    rig.evaluator.evaluate(now).await.unwrap();
    rig.evaluator.evaluate(now + FOR).await.unwrap();
    assert_eq!(alerts(&rig, pb::AlertState::Firing).await.len(), 2);

    let (second, later) = ("10.0.0.2:1", now + 60_000);
    read(ServiceName::Auth, second, &counters(0, 0, 0), later - 10_000);
    read(ServiceName::Auth, second, &counters(50, 0, 0), later);
    read(ServiceName::Worker, second, &queue(1), later);
    let told = rig.metrics_of("auth").await.unwrap()[0].requests.unwrap();
    assert_eq!((told.count, told.errors), (50, 0), "only the second one was read lately");
    rig.evaluator.evaluate(later).await.unwrap();
    rig.evaluator.evaluate(later + CLEAR).await.unwrap();
    assert_eq!(alerts(&rig, pb::AlertState::Resolved).await.len(), 2);
}

async fn a_rule_that_can_t_be_evaluated_says_so() {
    let rig = rig(vec![rule(Kind::GasPrice, 1.0), rule(Kind::ServiceDown, 0.0)]).await;
    let request = Request::new(pb::ListAlertRulesRequest {});
    let rules = rig.handler.list_alert_rules(request).await.unwrap().into_inner().rules;
    assert!(rules[0].inactive_reason.contains("chain 1"), "{}", rules[0].inactive_reason);
    assert!(rules[1].inactive_reason.is_empty());
}

async fn alerts_come_in_pages_newest_first() {
    let rig = rig(vec![rule(Kind::ServiceDown, 0.0)]).await;
    for service in [ServiceName::Upload, ServiceName::Cache, ServiceName::Worker] {
        rig.handler.seen.note_health(service, FIRST, Err("gone".into()), Duration::ZERO, 0);
    }
    rig.evaluator.evaluate(0).await.unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListAlertsRequest { page_size: 2, page_token: token, ..Default::default() };
        let page = rig.handler.list_alerts(Request::new(request)).await.unwrap().into_inner();
        seen.extend(page.alerts.into_iter().map(|alert| alert.alert_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.is_sorted_by(|a, b| a > b));
}

streamgate_testkit::on_both_engines! {
    support:
    an_alert_waits_fires_is_acknowledged_and_resolves_and_tells_of_it_once,
    a_short_trouble_leaves_no_alert,
    only_a_firing_alert_that_exists_can_be_acknowledged,
    errors_latency_queues_disk_audit_files_and_gas_each_raise_their_alert,
    an_instance_that_can_t_be_read_any_more_keeps_no_alert_alive,
    a_rule_that_can_t_be_evaluated_says_so,
    alerts_come_in_pages_newest_first,
}
