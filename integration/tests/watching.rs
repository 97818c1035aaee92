//! Who watches the platform sees it: Prometheus, dashboards, alert rules, traces, logs, the audit log and alerts, on
//! nine processes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::Result;
use serde_json::{Value, json};
use streamgate_core::service::ServiceName;
use streamgate_integration::{
    receiver::Receiver,
    rest::Rest,
    stage::{Published, Stage},
    walk::whole_title,
    watching::{Query, dashboard_queries, known_rules, rules_file, targets},
};
use streamgate_testkit::{
    Platform, Shape, default_clip,
    engines::{OtlpReceiver, Prometheus, ReceivedSpan},
    eventually,
};

/// Patience with what is read, sent or evaluated each second or so.
const BOUND: Duration = Duration::from_secs(60);
/// The traces of the upload and of the playback, and the caller's own span in them.
const UPLOAD_TRACE: &str = "11111111111111111111111111111111";
const PLAY_TRACE: &str = "22222222222222222222222222222222";
const CALLER_SPAN: &str = "00f067aa0ba902b7";
const PLAY_REQUEST: &str = "the-play-request";

/// Everything that watches, and what it watches.
struct Watched {
    stage: Stage,
    operator: Rest,
    prometheus: Prometheus,
    spans: OtlpReceiver,
    title: Published,
}

impl Watched {
    /// Starts all, and does a bit of everything that is counted.
    async fn start() -> Result<Self> {
        let spans = OtlpReceiver::start().await?;
        let rule = |kind: &str| json!({"name": kind, "kind": kind, "severity": "critical", "threshold": 0, "for_ms": 500, "clear_ms": 500});
        let mut rules = [rule("service_down"), rule("gas_price")];
        rules[1]["chain"] = json!(31337);
        let builder = Platform::builder()
            .shape(Shape::NineProcesses)
            .env("STREAMGATE_TELEMETRY__OTLP_ENDPOINT", spans.url())
            .env("STREAMGATE_TELEMETRY__SHIP_LOGS", "debug")
            .env("STREAMGATE_MONITOR__METRICS_INTERVAL_MS", "1000")
            .env("STREAMGATE_MONITOR__RULES", json!(rules).to_string())
            .env("STREAMGATE_WORKER__WEBHOOKS_TO_PRIVATE_ADDRESSES", "true");
        let mut stage = Stage::start_with(builder).await?;
        let addresses = stage.platform.ports().all().map(|(_, port)| address(port)).collect();
        let prometheus = Prometheus::start(addresses, &rules_file()).await?;
        let operator = stage.anonymous().with_bearer(stage.platform.api_key("operator")?);
        stage.creator = stage.creator.with_header("traceparent", &format!("00-{UPLOAD_TRACE}-{CALLER_SPAN}-01"));
        let title = stage.publish_ready(&default_clip()).await?;
        let watched = Self { stage, operator, prometheus, spans, title };
        watched.play().await?;
        Ok(watched)
    }

    async fn play(&self) -> Result<()> {
        let viewer = self.stage.viewer().await?.with_header("x-request-id", PLAY_REQUEST);
        let traced = viewer.with_header("traceparent", &format!("00-{PLAY_TRACE}-{CALLER_SPAN}-01"));
        let session = traced.session(&self.title.playback_id).await?;
        whole_title(&self.stage.anonymous(), &session).await?;
        let stranger = self.stage.anonymous().sign_in(&self.stage.stranger).await?;
        stranger.try_session(&self.title.playback_id).await?.expect(403)?;
        Ok(())
    }

    async fn ask(&self, path: &str) -> Result<Value> {
        self.operator.get(path).await?.expect(200)?.json()
    }

    /// The spans of a trace, when the `wanted` services are among them.
    async fn trace(&self, trace_id: &str, wanted: &[&str]) -> Vec<ReceivedSpan> {
        let of_trace = || self.spans.spans().into_iter().filter(|span| span.trace_id == trace_id).collect::<Vec<_>>();
        let what = format!("spans of {wanted:?}");
        let found = eventually(&what, BOUND, || async {
            let spans = of_trace();
            let services: BTreeSet<&str> = spans.iter().map(|span| span.service.as_str()).collect();
            Ok(wanted.iter().all(|service| services.contains(service)).then_some(spans))
        });
        found.await.unwrap_or_else(|error| panic!("{error}: {:#?}", of_trace()))
    }

    /// Runs each query until it gives something.
    async fn all_give_something(&self, queries: &[Query]) {
        for query in queries {
            let what = format!("{}: {} gives something", query.from, query.text);
            let given = eventually(&what, BOUND, || async {
                let result = self.prometheus.query(&query.text).await?;
                Ok((!result.is_empty()).then_some(()))
            });
            given.await.unwrap();
        }
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

async fn prometheus_reads_all_nine(watched: &Watched) {
    let up = eventually("Prometheus has read all nine", BOUND, || async {
        let targets = targets(&watched.prometheus).await?;
        Ok((targets.len() == 9 && targets.values().all(|health| health == "up")).then_some(()))
    });
    if up.await.is_err() {
        panic!("{:#?}", targets(&watched.prometheus).await);
    }
}

async fn every_alert_rule_is_right_and_compares_a_value_that_exists(watched: &Watched) {
    Prometheus::check_rules(&rules_file()).unwrap();
    let evaluated = eventually("all rules were evaluated", BOUND, || async {
        let rules = known_rules(&watched.prometheus).await?;
        Ok((!rules.is_empty() && rules.iter().all(|rule| !rule.health.starts_with("unknown"))).then_some(rules))
    });
    let rules = evaluated.await.unwrap();
    let unwell: Vec<_> = rules.iter().filter(|rule| rule.health != "ok").collect();
    assert!(unwell.is_empty(), "{unwell:#?}");
    let values: Vec<Query> = rules.into_iter().map(|rule| rule.value).collect();
    watched.all_give_something(&values).await;
}

async fn every_panel_of_the_dashboards_shows_something(watched: &Watched) {
    watched.all_give_something(&dashboard_queries().unwrap()).await;
}

/// Spans that lie in none of their trace, nor in the caller's.
fn orphans(spans: &[ReceivedSpan]) -> Vec<&ReceivedSpan> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).chain([CALLER_SPAN]).collect();
    spans.iter().filter(|span| !ids.contains(span.parent_id.as_str())).collect()
}

async fn a_trace_follows_a_playback_through_every_service_that_it_touches(watched: &Watched) {
    let spans = watched.trace(PLAY_TRACE, &["api-gateway", "streaming", "metadata", "auth"]).await;
    let of = |service: &str| spans.iter().find(|span| span.service == service).unwrap();
    assert_eq!(of("api-gateway").parent_id, CALLER_SPAN, "the edge is the first that the caller meets");
    // Each process sends its spans when it sees fit: a child may come before its parent.
    let whole = eventually("every span of the playback lies in another", BOUND, || async {
        let spans = watched.trace(PLAY_TRACE, &[]).await;
        Ok(orphans(&spans).is_empty().then_some(()))
    });
    if whole.await.is_err() {
        panic!("{:#?}", orphans(&watched.trace(PLAY_TRACE, &[]).await));
    }
}

/// Names of the spans that a span lies in, the innermost last.
fn way_to<'a>(spans: &'a [ReceivedSpan], span: &'a ReceivedSpan) -> Vec<&'a str> {
    let parent = |span: &ReceivedSpan| spans.iter().find(|other| other.span_id == span.parent_id);
    let mut way: Vec<&str> = std::iter::successors(Some(span), |span| parent(span)).map(|span| span.name.as_str()).collect();
    way.reverse();
    way
}

/// Whether all of `stations` lie on the way, in their order.
fn leads_through(way: &[&str], stations: &[&str]) -> bool {
    let mut left = way.iter();
    stations.iter().all(|station| left.any(|name| name == station))
}

async fn a_trace_follows_an_upload_into_the_work_that_it_causes_later(watched: &Watched) {
    const DELIVER: &str = "/streamgate.events.v1.EventService/Deliver";
    // From the upload over its event into the queue, out of that as a job, and over the job's event to the title.
    let job = ["streamgate.file.uploaded", DELIVER, "transcode", "encode"];
    let playable = [&job[..], &["streamgate.rendition.ready", DELIVER]].concat();
    let complete = [&job[..3], &["streamgate.transcoding.completed", DELIVER]].concat();
    watched.trace(UPLOAD_TRACE, &["api-gateway", "upload", "metadata", "transcoder", "worker"]).await;
    let reached = eventually("the title is published in the trace of its upload", BOUND, || async {
        let spans = watched.trace(UPLOAD_TRACE, &[]).await;
        let reaches = |stations: &[&str]| {
            let of_title = spans.iter().filter(|span| span.service == "metadata");
            of_title.map(|span| way_to(&spans, span)).any(|way| leads_through(&way, stations))
        };
        Ok((reaches(&playable) && reaches(&complete)).then_some(()))
    });
    if reached.await.is_err() {
        let spans = watched.trace(UPLOAD_TRACE, &[]).await;
        let ways: BTreeSet<Vec<&str>> = spans.iter().map(|span| way_to(&spans, span)).collect();
        panic!("{ways:#?}");
    }
    let whole = eventually("every span of the upload lies in another", BOUND, || async {
        Ok(orphans(&watched.trace(UPLOAD_TRACE, &[]).await).is_empty().then_some(()))
    });
    if whole.await.is_err() {
        panic!("{:#?}", orphans(&watched.trace(UPLOAD_TRACE, &[]).await));
    }
}

async fn the_log_of_all_nine_is_searched_in_one_place(watched: &Watched) {
    for service in ServiceName::ALL {
        let what = format!("lines of {service}");
        let lines = eventually(&what, BOUND, || async {
            let found = watched.ask(&format!("/api/v1/monitor/logs?service={service}")).await?;
            Ok(found["lines"].as_array().filter(|lines| !lines.is_empty()).cloned())
        });
        assert_eq!(lines.await.unwrap()[0]["service"], service.as_str());
    }
    let path = format!("/api/v1/monitor/logs?page_size=100&request_id={PLAY_REQUEST}");
    let wanted = BTreeSet::from(["api-gateway", "streaming", "metadata", "auth"]);
    let found = eventually("the lines of one request", BOUND, || async {
        let found = watched.ask(&path).await?;
        let lines = found["lines"].as_array().cloned().unwrap_or_default();
        let services: BTreeSet<&str> = lines.iter().filter_map(|line| line["service"].as_str()).collect();
        Ok(wanted.is_subset(&services).then_some(lines.clone()))
    });
    let lines = found.await.unwrap();
    assert!(lines.iter().all(|line| line["trace_id"] == PLAY_TRACE), "log and trace know each other: {lines:#?}");
    let text = watched.ask("/api/v1/monitor/logs?page_size=100").await.unwrap().to_string();
    let key = watched.operator.bearer().unwrap();
    assert!(!text.contains(key), "a credential is in the log");
}

async fn the_audit_log_names_who_did_what_and_who_was_refused(watched: &Watched) {
    let content_id = &watched.title.content_id;
    watched.stage.anonymous().get(&format!("/api/v1/contents/{content_id}")).await.unwrap().expect(401).unwrap();
    watched.stage.viewer().await.unwrap().get("/api/v1/audit").await.unwrap().expect(403).unwrap();
    let entries = async |query: String| {
        let what = format!("entries of {query}");
        let found = eventually(&what, BOUND, || async {
            let found = watched.ask(&format!("/api/v1/audit?{query}")).await?;
            Ok(found["entries"].as_array().filter(|entries| !entries.is_empty()).cloned())
        });
        found.await.unwrap()
    };
    let gate = "/streamgate.metadata.v1.MetadataService/SetGate";
    let set = entries(format!("method={gate}&outcome=AUDIT_OUTCOME_ALLOWED")).await.remove(0);
    assert_eq!(set["object"], format!("content_id={content_id}"));
    assert_eq!(set["actor_role"], "creator");
    assert!(set["actor"].as_str().unwrap().starts_with("account:acc_"), "{set}");
    let session = "/streamgate.streaming.v1.StreamingService/CreateSession";
    let refused = entries(format!("method={session}&outcome=AUDIT_OUTCOME_REFUSED")).await.remove(0);
    assert_eq!((refused["reason"].as_str(), refused["actor_role"].as_str()), (Some("gate_not_met"), Some("viewer")));
    let anonymous = entries("actor=anonymous&outcome=AUDIT_OUTCOME_REFUSED".to_owned()).await;
    assert!(anonymous.iter().any(|entry| entry["service"] == "metadata"), "{anonymous:#?}");
    let small = "/streamgate.audit.v1.AuditService/ListEntries";
    assert_eq!(entries(format!("method={small}&outcome=AUDIT_OUTCOME_REFUSED")).await[0]["reason"], "role_too_small");
    let verdict = watched.ask("/api/v1/audit/verify").await.unwrap();
    assert_eq!(verdict["intact"], true, "{verdict}");
}

/// What the webhook was told about alerts, by type.
fn told(hooks: &Receiver) -> BTreeMap<String, Value> {
    let bodies = hooks.got().into_iter().map(|hook| hook.body);
    bodies.map(|body| (body["type"].as_str().unwrap_or_default().to_owned(), body["data"].clone())).collect()
}

async fn a_gas_price_above_its_threshold_fires(watched: &Watched) {
    let firing = eventually("the gas price is known", BOUND, || async {
        let found = watched.ask("/api/v1/monitor/alerts?state=ALERT_STATE_FIRING&rule=gas_price").await?;
        Ok(found["alerts"].as_array().and_then(|alerts| alerts.first()).cloned())
    });
    let alert = firing.await.unwrap();
    assert_eq!(alert["target"], "eip155:31337");
    assert!(alert["summary"].as_str().unwrap().contains("gwei"), "{alert}");
}

async fn a_service_that_dies_raises_an_alert_that_an_operator_acknowledges_and_a_webhook_hears_of(watched: &mut Watched) {
    let hooks = Receiver::start().await.unwrap();
    let hook = json!({"url": hooks.url(), "all_owners": true, "event_types": ["alert.triggered", "alert.resolved"]});
    watched.operator.post("/api/v1/webhooks", &hook).await.unwrap().success().unwrap();

    watched.stage.platform.kill_service("cache").unwrap();
    let firing = eventually("the alert fires", BOUND, || async {
        let found = watched.ask("/api/v1/monitor/alerts?state=ALERT_STATE_FIRING&rule=service_down").await?;
        Ok(found["alerts"].as_array().and_then(|alerts| alerts.first()).cloned())
    });
    let alert = firing.await.unwrap();
    assert_eq!((alert["rule"].as_str(), alert["target"].as_str()), (Some("service_down"), Some("cache")));
    let health = watched.ask("/api/v1/monitor/health").await.unwrap();
    assert_eq!(health["status"], "degraded", "titles still play");
    let path = format!("/api/v1/monitor/alerts/{}/acknowledge", alert["alert_id"].as_str().unwrap());
    let acknowledged = watched.operator.post(&path, &json!({"note": "on it"})).await.unwrap().expect(200).unwrap();
    assert_eq!(acknowledged.json().unwrap()["alert"]["note"], "on it");

    watched.stage.platform.restart_service("cache").await.unwrap();
    let told = eventually("the webhook heard of both", BOUND, || async {
        let told = told(&hooks);
        Ok((told.len() == 2).then_some(told))
    });
    let told = told.await.unwrap();
    for event in ["alert.triggered", "alert.resolved"] {
        assert_eq!(told[event]["alert_id"], alert["alert_id"], "{told:#?}");
    }
    let path = "/api/v1/monitor/alerts?state=ALERT_STATE_RESOLVED";
    assert_eq!(watched.ask(path).await.unwrap()["alerts"][0]["alert_id"], alert["alert_id"]);
}

#[tokio::test]
async fn who_watches_the_platform_sees_it() {
    let mut watched = Watched::start().await.unwrap();
    prometheus_reads_all_nine(&watched).await;
    a_trace_follows_a_playback_through_every_service_that_it_touches(&watched).await;
    a_trace_follows_an_upload_into_the_work_that_it_causes_later(&watched).await;
    the_log_of_all_nine_is_searched_in_one_place(&watched).await;
    the_audit_log_names_who_did_what_and_who_was_refused(&watched).await;
    every_alert_rule_is_right_and_compares_a_value_that_exists(&watched).await;
    every_panel_of_the_dashboards_shows_something(&watched).await;
    a_gas_price_above_its_threshold_fires(&watched).await;
    a_service_that_dies_raises_an_alert_that_an_operator_acknowledges_and_a_webhook_hears_of(&mut watched).await;
}
