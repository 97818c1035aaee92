//! Sessions that come back, that are told of, and that several processes serve.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "the support is shared")]

mod support;

use streamgate_core::{Caller, Role, time::now_ms};
use streamgate_proto::streamgate::streaming::v1::{self as pb, streaming_service_server::StreamingService as _};
use streamgate_streaming::{Config, engine::neighbours::Verdict};
use support::{Fixture, anonymous, as_account, call, reason, viewer};

async fn listed(play: &Fixture, caller: &Caller, request: pb::ListSessionsRequest) -> Vec<pb::Session> {
    play.handler.list_sessions(call(caller, request)).await.unwrap().into_inner().sessions
}

async fn entry(play: &Fixture, caller: &Caller) -> pb::AssetHeader {
    play.read_with(caller, play.asset("", "master.m3u8")).await.unwrap().0
}

async fn an_entry_asked_for_again_and_again_stays_in_one_session() {
    let mut play = Fixture::open().await;
    let caller = viewer();
    for round in 0..4 {
        entry(&play, &caller).await;
        if round == 1 {
            play.restart();
        }
    }
    assert_eq!(listed(&play, &caller, pb::ListSessionsRequest::default()).await.len(), 1);
    let segment = pb::ReadAssetRequest { token: String::new(), ..play.asset("", "1/v720/00001.m4s") };
    assert!(play.read_with(&caller, segment).await.is_ok(), "the account reads under its session");
    assert_eq!(listed(&play, &caller, pb::ListSessionsRequest::default()).await.len(), 1);
    assert_ne!(
        entry(&play, &viewer()).await.new_token,
        entry(&play, &caller).await.new_token,
        "everybody in a session of his own"
    );
}

async fn nobody_plays_on_under_a_session_of_other_rights() {
    let play = Fixture::open().await;
    let operator = as_account(Role::Operator, Some(support::WALLET));
    entry(&play, &operator).await;
    let streamgate_core::Identity::Account(account) = &operator.identity else { unreachable!() };
    let demoted = streamgate_core::Account { role: Role::Viewer, ..account.clone() };
    let demoted = Caller { identity: streamgate_core::Identity::Account(demoted), request_id: "r".into() };
    play.set_verdict(Verdict::Denied(vec!["hold a pass".into()]));
    for path in ["master.m3u8", "1/v720/00001.m4s"] {
        let status = play.read_with(&demoted, play.asset("", path)).await.unwrap_err();
        assert_eq!(reason(&status), "gate_not_met", "{path}");
    }
}

async fn a_session_that_lost_its_gate_is_not_taken_up_again() {
    let play = Fixture::always_checking().await;
    let caller = viewer();
    entry(&play, &caller).await;
    play.set_verdict(Verdict::Denied(vec!["hold a pass".into()]));
    let status = play.read_with(&caller, play.asset("", "master.m3u8")).await.unwrap_err();
    assert_eq!(reason(&status), "gate_not_met");
    play.set_verdict(Verdict::Granted);
    entry(&play, &caller).await;
    assert_eq!(listed(&play, &caller, pb::ListSessionsRequest::default()).await.len(), 2);
    let active = pb::ListSessionsRequest { active_only: true, ..Default::default() };
    assert_eq!(listed(&play, &caller, active).await.len(), 1);
}

async fn one_session_too_many_ends_the_one_unused_for_longest() {
    let play = Fixture::with(Config { sessions_per_account: 2, ..Config::default() }).await;
    let caller = viewer();
    let mut tokens = Vec::new();
    for _ in 0..3 {
        let before = now_ms();
        tokens.push(play.create(&caller, &play.playback_id).await.unwrap().token);
        while now_ms() == before {
            tokio::task::yield_now().await;
        }
    }
    assert_eq!(play.reason_of(&tokens[0], "master.m3u8").await, "session_revoked");
    assert!(play.read(&tokens[1], "master.m3u8").await.is_ok() && play.read(&tokens[2], "master.m3u8").await.is_ok());
    assert!(play.create(&viewer(), &play.playback_id).await.is_ok(), "others are not counted");
}

async fn an_end_in_one_process_is_known_in_the_other_after_a_look() {
    let play = Fixture::open().await;
    let other = play.replica_engine();
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    assert!(other.entitled(&opened.token, &play.playback_id).await.is_ok(), "any process serves the session");
    play.end(&as_account(Role::Operator, None), &opened.session_id).await.unwrap();
    other.follow().await.unwrap();
    let refused = other.entitled(&opened.token, &play.playback_id).await.unwrap_err();
    assert_eq!(refused.reason(), "session_revoked");
}

async fn an_end_before_looks_that_failed_is_known_after_the_next_that_succeeds() {
    let play = Fixture::open().await;
    let other = play.replica_engine();
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    other.entitled(&opened.token, &play.playback_id).await.unwrap();
    other.follow().await.unwrap();
    play.end(&as_account(Role::Operator, None), &opened.session_id).await.unwrap();
    for (from, to) in [("sessions", "sessions_away"), ("sessions_away", "sessions")] {
        change(&play, &format!("ALTER TABLE {from} RENAME TO {to}")).await;
        // A look may begin at a later time than the end.
        let before = now_ms();
        while now_ms() == before {
            tokio::task::yield_now().await;
        }
        assert_eq!(other.follow().await.is_ok(), to == "sessions");
    }
    let refused = other.entitled(&opened.token, &play.playback_id).await.unwrap_err();
    assert_eq!(refused.reason(), "session_revoked");
}

async fn an_end_is_found_among_more_changes_than_a_page_holds() {
    let play = Fixture::open().await;
    let other = play.replica_engine();
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    other.entitled(&opened.token, &play.playback_id).await.unwrap();
    play.end(&as_account(Role::Operator, None), &opened.session_id).await.unwrap();
    // A page of the same time whose ids come before, and one of later times.
    change(
        &play,
        "INSERT INTO sessions (session_id, playback_id, content_id, privileged, opened_gate, gate_hash, state, created_ms, \
         expires_ms, checked_ms, used_ms, changed_ms) \
         WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000) \
         SELECT 'a' || n, playback_id, content_id, 0, '', '', 'active', created_ms, expires_ms, 0, 0, \
         changed_ms + CASE WHEN n > 5000 THEN 1 ELSE 0 END FROM sessions, numbers WHERE state = 'ended'",
    )
    .await;
    other.follow().await.unwrap();
    let refused = other.entitled(&opened.token, &play.playback_id).await.unwrap_err();
    assert_eq!(refused.reason(), "session_revoked");
}

async fn change(play: &Fixture, statement: &str) {
    let mut tx = play.db.begin().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn a_gate_changed_in_one_process_counts_in_the_other() {
    let play = Fixture::open().await;
    let other = play.replica_engine();
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    other.entitled(&opened.token, &play.playback_id).await.unwrap();
    play.engine.gate_changed(&play.content_id).await.unwrap();
    play.set_verdict(Verdict::Unknown);
    other.follow().await.unwrap();
    // A look at an old check of this process must not bring it back.
    other.flush().await.unwrap();
    let refused = other.entitled(&opened.token, &play.playback_id).await.unwrap_err();
    assert_eq!(refused.reason(), "ownership_unknown");
}

async fn what_a_viewer_does_is_told_once() {
    let play = Fixture::with(Config { stopped_after_seconds: 0, ..Config::default() }).await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    for path in ["master.m3u8", "1/v720/init.mp4", "1/v720/00001.m4s", "1/v720/00002.m4s"] {
        play.read(&opened.token, path).await.unwrap();
    }
    assert_eq!(play.events().await, ["access.granted", "streaming.started"]);
    let before = now_ms();
    while now_ms() == before {
        tokio::task::yield_now().await;
    }
    assert_eq!(play.engine.note_gone().await.unwrap(), 1);
    assert_eq!(play.engine.note_gone().await.unwrap(), 0);
    play.read(&opened.token, "1/v720/00003.m4s").await.unwrap();
    let told = ["access.granted", "streaming.started", "streaming.stopped", "streaming.started"];
    assert_eq!(play.events().await, told);
}

async fn a_refusal_is_told_once_a_minute_and_a_revocation_once() {
    let play = Fixture::always_checking().await;
    let caller = viewer();
    let opened = play.create(&caller, &play.playback_id).await.unwrap();
    play.read(&opened.token, "1/v720/00001.m4s").await.unwrap();
    play.set_verdict(Verdict::Denied(vec!["hold a pass".into()]));
    for _ in 0..5 {
        assert!(play.create(&caller, &play.playback_id).await.is_err());
        assert!(play.read(&opened.token, "1/v720/00001.m4s").await.is_err());
    }
    let mut told = play.events().await;
    told.sort_unstable();
    assert_eq!(told, ["access.denied", "access.granted", "access.revoked", "streaming.started", "streaming.stopped"]);
}

async fn an_owner_sees_and_ends_the_sessions_of_a_title_and_nobody_else_does() {
    let play = Fixture::open().await;
    let guest = viewer();
    let opened = play.create(&guest, &play.playback_id).await.unwrap();
    let of_title = || pb::ListSessionsRequest { content_id: play.content_id.clone(), ..Default::default() };
    assert_eq!(listed(&play, &play.owner, of_title()).await.len(), 1);
    for stranger in [viewer(), as_account(Role::Creator, None), anonymous()] {
        if stranger.account().is_some() {
            assert!(listed(&play, &stranger, of_title()).await.is_empty());
        }
        assert!(play.end(&stranger, &opened.session_id).await.is_err());
    }
    assert_eq!(play.end(&play.owner, &opened.session_id).await.unwrap().state(), pb::SessionState::Ended);
    assert_eq!(play.reason_of(&opened.token, "master.m3u8").await, "session_revoked");
}

streamgate_testkit::on_both_engines! {
    support:
    an_entry_asked_for_again_and_again_stays_in_one_session,
    nobody_plays_on_under_a_session_of_other_rights,
    a_session_that_lost_its_gate_is_not_taken_up_again,
    one_session_too_many_ends_the_one_unused_for_longest,
    an_end_in_one_process_is_known_in_the_other_after_a_look,
    an_end_before_looks_that_failed_is_known_after_the_next_that_succeeds,
    an_end_is_found_among_more_changes_than_a_page_holds,
    a_gate_changed_in_one_process_counts_in_the_other,
    what_a_viewer_does_is_told_once,
    a_refusal_is_told_once_a_minute_and_a_revocation_once,
    an_owner_sees_and_ends_the_sessions_of_a_title_and_nobody_else_does,
}
