//! The log: kept within bounds, and found again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;

use streamgate_core::{
    Failure, ServiceName,
    time::{now_ms, to_timestamp},
};
use streamgate_monitor::{
    Config, LogConfig,
    engine::logs::{Line, PRUNE_BATCH, TOTALS, Wanted},
};
use streamgate_proto::streamgate::monitor::v1::{
    self as pb,
    monitor_service_server::{MonitorService as _, MonitorServiceServer},
};
use streamgate_runtime::{LINES_TAKEN, Service, testing};
use streamgate_store::DatabaseKind;
use streamgate_testkit::eventually;
use support::{BOUND, Rig};
use tonic::{Code, Request};

fn line(service: &str, level: pb::LogLevel, message: &str, time_ms: i64) -> Line {
    Line {
        time_ms,
        service: service.into(),
        level: i64::from(i32::from(level)),
        target: "test".into(),
        message: message.into(),
        fields: BTreeMap::from([("upload_id".into(), "upl_7".into())]),
        request_id: format!("req-{service}"),
        trace_id: String::new(),
    }
}

async fn search(rig: &Rig, request: pb::SearchLogsRequest) -> Vec<String> {
    let lines = rig.handler.search_logs(Request::new(request)).await.unwrap().into_inner().lines;
    lines.into_iter().map(|line| line.message).collect()
}

async fn lines_are_found_by_service_level_request_time_and_text() {
    let rig = Rig::new().await;
    let now = now_ms();
    let lines = vec![
        line("upload", pb::LogLevel::Info, "begun 100%", now - 30),
        line("upload", pb::LogLevel::Error, "Disk is FULL", now - 20),
        line("auth", pb::LogLevel::Warn, "slow", now - 10),
    ];
    rig.logs.add(lines).await.unwrap();
    let all = pb::SearchLogsRequest::default;
    assert_eq!(search(&rig, all()).await, ["slow", "Disk is FULL", "begun 100%"], "newest first");
    let of = |service: &str| pb::SearchLogsRequest { service: service.into(), ..all() };
    assert_eq!(search(&rig, of("auth")).await, ["slow"]);
    assert_eq!(search(&rig, pb::SearchLogsRequest { level: pb::LogLevel::Warn.into(), ..all() }).await, ["slow", "Disk is FULL"]);
    assert_eq!(search(&rig, pb::SearchLogsRequest { request_id: "req-auth".into(), ..all() }).await, ["slow"]);
    let text = |text: &str| pb::SearchLogsRequest { text: text.into(), ..all() };
    assert_eq!(search(&rig, text("disk is full")).await, ["Disk is FULL"]);
    assert_eq!(search(&rig, text("0%")).await, ["begun 100%"], "a per cent sign is one");
    assert_eq!(search(&rig, text("upl_7")).await.len(), 3, "fields are searched too");
    assert!(search(&rig, text("upl%7")).await.is_empty());
    let window =
        pb::SearchLogsRequest { start_time: Some(to_timestamp(now - 20)), end_time: Some(to_timestamp(now - 10)), ..all() };
    assert_eq!(search(&rig, window).await, ["Disk is FULL"]);
}

async fn pages_hold_every_line_once_even_within_one_millisecond() {
    let rig = Rig::new().await;
    let lines = (0..7).map(|n| line("upload", pb::LogLevel::Info, &n.to_string(), 1_000 + n / 3)).collect();
    rig.logs.add(lines).await.unwrap();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let (lines, next) = rig.logs.search(&Wanted::default(), 2, &token).await.unwrap();
        seen.extend(lines.into_iter().map(|line| line.message));
        token = next;
        if token.is_empty() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, ["0", "1", "2", "3", "4", "5", "6"]);
}

async fn wrong_filters_are_refused() {
    let rig = Rig::new().await;
    let code = async |request| rig.handler.search_logs(Request::new(request)).await.unwrap_err().code();
    assert_eq!(code(pb::SearchLogsRequest { service: "nope".into(), ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::SearchLogsRequest { level: 99, ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::SearchLogsRequest { text: "x".repeat(300), ..Default::default() }).await, Code::InvalidArgument);
    assert_eq!(code(pb::SearchLogsRequest { page_token: "zz".into(), ..Default::default() }).await, Code::InvalidArgument);
}

async fn the_oldest_lines_go_when_there_are_too_many_or_they_are_too_old() {
    let logs = LogConfig { keep_lines: 3, keep_ms: 60_000, ..LogConfig::default() };
    let rig = Rig::with(Config { logs, ..Config::default() }).await;
    let now = now_ms();
    rig.logs.add((0..5).map(|n| line("upload", pb::LogLevel::Info, &n.to_string(), now - 10 + n)).collect()).await.unwrap();
    assert_eq!(rig.logs.prune().await.unwrap(), 2);
    assert_eq!(search(&rig, pb::SearchLogsRequest::default()).await, ["4", "3", "2"]);
    rig.logs.add(vec![line("upload", pb::LogLevel::Info, "old", now - 61_000)]).await.unwrap();
    rig.logs.prune().await.unwrap();
    assert_eq!(search(&rig, pb::SearchLogsRequest::default()).await, ["4", "3", "2"]);
}

async fn bytes_are_bounded_too() {
    let logs = LogConfig { keep_bytes: 10_000, ..LogConfig::default() };
    let rig = Rig::with(Config { logs, ..Config::default() }).await;
    let long = "x".repeat(900);
    rig.logs.add((0..20).map(|n| line("upload", pb::LogLevel::Info, &long, now_ms() + n)).collect()).await.unwrap();
    rig.logs.prune().await.unwrap();
    let (bytes,): (i64,) =
        sqlx::query_as("SELECT CAST(SUM(size_bytes) AS BIGINT) FROM logs").fetch_one(rig.db.pool()).await.unwrap();
    assert!(bytes <= 10_000 && bytes > 5_000, "{bytes}");
}

async fn counting_reads_an_index_and_not_the_lines() {
    let rig = Rig::new().await;
    let mut reader = rig.db.snapshot().await.unwrap();
    let plan = match rig.db.kind() {
        DatabaseKind::Sqlite => {
            let steps: Vec<(i64, i64, i64, String)> = sqlx::query_as(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {TOTALS}")))
                .fetch_all(&mut *reader)
                .await
                .unwrap();
            steps.into_iter().map(|(.., step)| step).collect()
        }
        DatabaseKind::Postgres => {
            // An empty table is read at once, so that is made to look dear.
            for other in ["SET LOCAL enable_seqscan = off", "SET LOCAL enable_bitmapscan = off"] {
                sqlx::query(other).execute(&mut *reader).await.unwrap();
            }
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN {TOTALS}"));
            sqlx::query_scalar::<_, String>(explain).fetch_all(&mut *reader).await.unwrap().join("\n")
        }
    };
    assert!(plan.contains("COVERING INDEX") || plan.contains("Index Only Scan"), "{plan}");
}

async fn forgetting_goes_in_batches_beside_other_changes() {
    let logs = LogConfig { keep_lines: 1, ..LogConfig::default() };
    let rig = Rig::with(Config { logs, ..Config::default() }).await;
    let (now, count) = (now_ms(), i64::try_from(2 * PRUNE_BATCH).unwrap());
    rig.logs.add((0..=count).map(|n| line("upload", pb::LogLevel::Info, "x", now - count + n)).collect()).await.unwrap();
    if rig.db.kind() == DatabaseKind::Sqlite {
        assert_eq!(rig.logs.prune().await.unwrap(), 2 * PRUNE_BATCH);
        return;
    }
    // A change that is serial, and holds the last line that has to go.
    let mut other = rig.db.begin().await.unwrap();
    sqlx::query("SELECT 1 FROM logs WHERE time_ms = $1 FOR UPDATE").bind(now - 1).execute(&mut *other).await.unwrap();
    let logs = rig.logs.clone();
    let pruning = tokio::spawn(async move { logs.prune().await.unwrap() });
    let first = eventually("the first batch is gone", BOUND, || async {
        let (left,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM logs").fetch_one(rig.db.pool()).await?;
        Ok((left == count / 2 + 1).then_some(()))
    });
    first.await.unwrap();
    drop(other);
    assert_eq!(pruning.await.unwrap(), 2 * PRUNE_BATCH);
}

/// A batch of so many lines.
fn batch(lines: usize, dropped: u64) -> pb::PushLogsRequest {
    let line = pb::LogLine { level: pb::LogLevel::Info.into(), message: "pushed".into(), ..Default::default() };
    pb::PushLogsRequest { lines: vec![line; lines], dropped }
}

async fn a_sender_learns_what_was_taken_before_the_monitor_stopped() {
    let rig = Rig::new().await;
    let service = Service::new().grpc(MonitorServiceServer::new(rig.handler.clone()));
    let running = testing::serve(ServiceName::Monitor, service).await.unwrap();
    let (sender, batches) = futures::channel::mpsc::unbounded();
    let mut monitor = running.mesh().monitor();
    let pushing = tokio::spawn(async move { monitor.push_logs(batches).await });
    sender.unbounded_send(batch(2, 3)).unwrap();
    let taken = eventually("the first batch is taken", BOUND, || async {
        Ok(rig.exposed().contains("monitor_log_lines_dropped_total 3").then_some(()))
    });
    taken.await.unwrap();
    rig.handler.stop.cancel();
    let status = pushing.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert_eq!(status.metadata().get(LINES_TAKEN).unwrap(), "5");
    assert!(Failure::from(&status).retry_after.is_some());
    assert_eq!(search(&rig, pb::SearchLogsRequest::default()).await.len(), 2);
    drop(sender);
    running.stop().await;
}

streamgate_testkit::on_both_engines! {
    support:
    lines_are_found_by_service_level_request_time_and_text,
    pages_hold_every_line_once_even_within_one_millisecond,
    wrong_filters_are_refused,
    the_oldest_lines_go_when_there_are_too_many_or_they_are_too_old,
    bytes_are_bounded_too,
    counting_reads_an_index_and_not_the_lines,
    forgetting_goes_in_batches_beside_other_changes,
    a_sender_learns_what_was_taken_before_the_monitor_stopped,
}
