//! Sessions: who may open one, and how long it stands.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "the support is shared")]

mod support;

use std::sync::atomic::Ordering;

use streamgate_core::{Failure, Role, ServiceName, caller::Identity, ids::EventId, time::now_ms};
use streamgate_proto::streamgate::{
    events::v1::{Event, GateChanged, MetadataDeleted, event::Payload},
    streaming::v1::{self as pb, streaming_service_server::StreamingService},
};
use streamgate_store::EventHandler;
use streamgate_streaming::{Config, TitleEvents, engine::neighbours::Verdict};
use support::{Fixture, anonymous, as_account, call, reason, viewer};
use tonic::Code;

fn denied() -> Verdict {
    Verdict::Denied(vec!["hold a pass".into()])
}

async fn a_viewer_who_meets_the_gate_gets_urls_with_a_token() {
    let play = Fixture::open().await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    assert_eq!(opened.hls_url, format!("https://video.example/play/{}.m3u8?token={}", play.playback_id, opened.token));
    assert_eq!(opened.dash_url, format!("https://video.example/play/{}.mpd?token={}", play.playback_id, opened.token));
    assert!(play.read(&opened.token, "master.m3u8").await.is_ok());
    assert_eq!(play.gate_calls(), 1, "a fresh answer is not asked for again");
}

async fn a_viewer_who_does_not_is_told_what_is_missing() {
    let play = Fixture::open().await;
    play.set_verdict(denied());
    let status = play.create(&viewer(), &play.playback_id).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "gate_not_met"));
    assert_eq!(Failure::from(&status).unmet, ["hold a pass"]);
    let status = play.create(&anonymous(), &play.playback_id).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "credentials_missing"));
}

async fn an_unknown_answer_opens_nothing_and_is_not_remembered() {
    let play = Fixture::open().await;
    play.set_verdict(Verdict::Unknown);
    let status = play.create(&viewer(), &play.playback_id).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ownership_unknown"));
    assert!(Failure::from(&status).retry_after.is_some());
    play.set_verdict(Verdict::Granted);
    assert!(play.create(&viewer(), &play.playback_id).await.is_ok());
}

async fn an_open_gate_lets_anybody_play() {
    let play = Fixture::open().await;
    assert!(play.create(&anonymous(), &play.playback_id).await.is_ok());
}

async fn a_title_without_a_gate_plays_for_its_owner_and_operators_only() {
    let play = Fixture::open().await;
    play.world.titles.lock().unwrap()[0].1.gate = None;
    play.set_verdict(denied());
    for allowed in [play.owner.clone(), as_account(Role::Operator, None)] {
        let opened = play.create(&allowed, &play.playback_id).await.unwrap();
        assert!(play.read(&opened.token, "v720/00001.m4s").await.is_ok());
    }
    assert_eq!(play.gate_calls(), 0);
    let refused = play.create(&viewer(), &play.playback_id).await.unwrap_err();
    assert_eq!(reason(&refused), "gate_missing");
    let service = Identity::Service { name: ServiceName::ApiGateway, on_behalf_of: None };
    let edge = streamgate_core::Caller { identity: service, request_id: "r".into() };
    assert!(play.create(&edge, &play.playback_id).await.is_err(), "a service lends nobody its rights");
}

async fn an_id_that_nobody_made_is_not_found() {
    let play = Fixture::open().await;
    let other = streamgate_core::ids::PlaybackId::new().to_string();
    for id in ["", "nope", "../x", other.as_str()] {
        assert_eq!(reason(&play.create(&viewer(), id).await.unwrap_err()), "playback_not_found", "{id}");
    }
}

async fn a_moved_token_ends_the_session_for_good() {
    let mut play = Fixture::always_checking().await;
    let caller = viewer();
    let opened = play.create(&caller, &play.playback_id).await.unwrap();
    assert!(play.read(&opened.token, "v720/00001.m4s").await.is_ok());
    play.set_verdict(denied());
    for path in
        ["master.m3u8", "manifest.mpd", "v720/index.m3u8", "v720/init.mp4", "v720/00002.m4s", "a128/00001.m4s", "poster.jpg"]
    {
        let status = play.read(&opened.token, path).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "gate_not_met"), "{path}");
        assert_eq!(Failure::from(&status).unmet, ["hold a pass"]);
    }
    play.set_verdict(Verdict::Granted);
    play.restart();
    assert_eq!(play.reason_of(&opened.token, "master.m3u8").await, "gate_not_met");
    let session = play.session(&caller, &opened.session_id).await.unwrap();
    assert_eq!((session.state(), session.reason.as_str()), (pb::SessionState::Revoked, "gate_not_met"));
}

async fn the_round_of_checks_revokes_without_a_request() {
    let play = Fixture::open().await;
    let other_wallet = as_account(Role::Viewer, Some("eip155:31337:0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"));
    // Two accounts with one wallet, one with another, and one without any.
    let viewers = [viewer(), viewer(), other_wallet, as_account(Role::Viewer, None)];
    let mut opened = Vec::new();
    for viewer in &viewers {
        opened.push(play.create(viewer, &play.playback_id).await.unwrap());
    }
    let other_title = play.second_title();
    play.create(&viewer(), &other_title).await.unwrap();
    let questions = || play.world.gate_questions.load(Ordering::SeqCst);
    let before = (play.gate_calls(), questions());
    play.set_verdict(denied());
    assert_eq!(play.engine.check_in_use().await.unwrap(), 5);
    assert_eq!(play.gate_calls(), before.0 + 1, "all sessions are asked for together");
    assert_eq!(questions(), before.1 + 4, "each gate is asked once for one wallet");
    for (viewer, opened) in viewers.iter().zip(opened) {
        assert_eq!(play.session(viewer, &opened.session_id).await.unwrap().state(), pb::SessionState::Revoked);
    }
}

async fn an_operator_plays_on_only_while_an_operator() {
    let play = Fixture::always_checking().await;
    play.set_verdict(denied());
    let operators = [as_account(Role::Operator, None), as_account(Role::Operator, None)];
    let mut opened = Vec::new();
    for operator in &operators {
        opened.push(play.create(operator, &play.playback_id).await.unwrap());
    }
    play.create(&play.owner, &play.playback_id).await.unwrap();
    let calls = || play.world.role_calls.load(Ordering::SeqCst);
    assert_eq!((play.engine.check_in_use().await.unwrap(), calls()), (3, 1), "all accounts are asked for in one call");
    *play.world.roles_away.lock().unwrap() = true;
    assert!(play.read(&opened[0].token, "v720/init.mp4").await.is_ok(), "unknown is not no");
    *play.world.roles_away.lock().unwrap() = false;
    // Made a viewer, and a key that was revoked.
    for (now, (operator, opened)) in [Some(Role::Viewer), None].into_iter().zip(operators.iter().zip(&opened)) {
        *play.world.role.lock().unwrap() = now;
        assert_eq!(play.reason_of(&opened.token, "v720/init.mp4").await, "session_revoked", "{now:?}");
        let session = play.session(operator, &opened.session_id).await.unwrap();
        assert_eq!((session.state(), session.reason.as_str()), (pb::SessionState::Revoked, "role_lost"));
    }
}

async fn an_owner_plays_on_in_any_role_until_the_key_is_revoked() {
    let play = Fixture::always_checking().await;
    play.world.titles.lock().unwrap()[0].1.gate = None;
    let opened = play.create(&play.owner, &play.playback_id).await.unwrap();
    for role in [Role::Viewer, Role::Creator] {
        *play.world.role.lock().unwrap() = Some(role);
        play.engine.check_in_use().await.unwrap();
        assert!(play.read(&opened.token, "v720/init.mp4").await.is_ok(), "{role}");
    }
    *play.world.role.lock().unwrap() = None;
    *play.world.roles_away.lock().unwrap() = true;
    play.engine.check_in_use().await.unwrap();
    assert!(play.read(&opened.token, "v720/init.mp4").await.is_ok(), "unknown is not no");
    *play.world.roles_away.lock().unwrap() = false;
    play.engine.check_in_use().await.unwrap();
    assert_eq!(play.reason_of(&opened.token, "v720/init.mp4").await, "session_revoked");
    let session = play.session(&play.owner, &opened.session_id).await.unwrap();
    assert_eq!((session.state(), session.reason.as_str()), (pb::SessionState::Revoked, "role_lost"));
}

async fn gates_are_asked_also_while_no_session_can_be_ended() {
    let play = Fixture::always_checking().await;
    let operator = play.create(&as_account(Role::Operator, None), &play.playback_id).await.unwrap();
    let viewed = play.create(&viewer(), &play.playback_id).await.unwrap();
    let ungated = play.second_title();
    play.create(&viewer(), &ungated).await.unwrap();
    play.world.titles.lock().unwrap()[1].1.gate = None;
    *play.world.role.lock().unwrap() = Some(Role::Viewer);
    let granted_ms = now_ms();
    while now_ms() == granted_ms {
        tokio::task::yield_now().await;
    }
    let questions = || play.world.gate_questions.load(Ordering::SeqCst);
    let before = questions();
    rename(&play, "sessions", "sessions_away").await;
    assert!(play.engine.check_in_use().await.is_err(), "two have to end, and none can");
    assert_eq!(questions(), before + 1);
    assert!(play.read(&viewed.token, "v720/init.mp4").await.is_ok());
    assert!(play.read(&operator.token, "v720/init.mp4").await.is_err(), "who has to end reads nothing");
    rename(&play, "sessions_away", "sessions").await;
    assert_eq!(play.engine.check_in_use().await.unwrap(), 3, "those that are left are ended by the next round");
    assert_eq!(play.reason_of(&operator.token, "v720/init.mp4").await, "session_revoked");
}

async fn rename(play: &Fixture, from: &str, to: &str) {
    let mut tx = play.db.begin().await.unwrap();
    sqlx::query(sqlx::AssertSqlSafe(format!("ALTER TABLE {from} RENAME TO {to}"))).execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn while_a_role_is_unknown_an_operator_plays_on_for_a_while_only() {
    let mut play = Fixture::with(Config { keep_unknown_seconds: 300, unknown_retry_ms: 60_000, ..Config::default() }).await;
    let opened = play.create(&as_account(Role::Operator, None), &play.playback_id).await.unwrap();
    *play.world.roles_away.lock().unwrap() = true;
    for (checked_ms_ago, plays) in [(30_000, true), (301_000, false)] {
        age(&play, checked_ms_ago).await;
        play.restart();
        match play.read(&opened.token, "v720/init.mp4").await {
            Ok(_) => assert!(plays),
            Err(status) => assert_eq!((plays, reason(&status).as_str()), (false, "ownership_unknown")),
        }
    }
}

async fn many_requests_of_a_session_ask_the_gate_once() {
    let mut play = Fixture::open().await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    age(&play, 30_000).await;
    play.restart();
    let before = play.gate_calls();
    let reads = (0..50).map(|_| play.read(&opened.token, "v720/init.mp4"));
    assert!(futures::future::join_all(reads).await.iter().all(Result::is_ok));
    assert_eq!(play.gate_calls(), before + 1);
}

async fn without_an_answer_playback_goes_on_for_a_while_only() {
    let mut play = Fixture::with(Config { keep_unknown_seconds: 300, unknown_retry_ms: 60_000, ..Config::default() }).await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    play.set_verdict(Verdict::Unknown);
    age(&play, 30_000).await;
    play.restart();
    assert!(play.read(&opened.token, "v720/init.mp4").await.is_ok());
    age(&play, 301_000).await;
    play.restart();
    let status = play.read(&opened.token, "v720/init.mp4").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unavailable, "ownership_unknown"));
    let asked = play.gate_calls();
    assert_eq!(play.reason_of(&opened.token, "v720/init.mp4").await, "ownership_unknown");
    assert_eq!(play.gate_calls(), asked, "a chain in trouble is not asked for every segment");
}

/// Makes the last positive check of all sessions `age_ms` old, for the next start.
async fn age(play: &Fixture, age_ms: i64) {
    play.engine.flush().await.unwrap();
    let mut tx = play.db.begin().await.unwrap();
    let query = sqlx::query("UPDATE sessions SET checked_ms = $1").bind(streamgate_core::time::now_ms() - age_ms);
    query.execute(&mut *tx).await.unwrap();
    tx.commit().await.unwrap();
}

async fn metadata_away_keeps_a_playing_session_and_opens_none() {
    let play = Fixture::always_checking().await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    *play.world.titles_away.lock().unwrap() = true;
    assert!(play.read(&opened.token, "v720/init.mp4").await.is_ok());
    assert_eq!(play.create(&viewer(), &play.playback_id).await.unwrap_err().code(), Code::Unavailable);
}

async fn a_changed_gate_is_asked_at_once_and_leaves_no_grace() {
    let play = Fixture::open().await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    play.world.titles.lock().unwrap()[0].1.gate_hash = "gate2".into();
    play.set_verdict(Verdict::Unknown);
    deliver(&play, Payload::GateChanged(GateChanged { content_id: play.content_id.clone(), gate_hash: "gate2".into() })).await;
    assert_eq!(play.reason_of(&opened.token, "v720/init.mp4").await, "ownership_unknown");
    play.set_verdict(denied());
    deliver(&play, Payload::GateChanged(GateChanged { content_id: play.content_id.clone(), gate_hash: "gate2".into() })).await;
    assert_eq!(play.reason_of(&opened.token, "v720/init.mp4").await, "gate_not_met");
}

async fn a_session_that_meets_the_new_gate_plays_on() {
    let play = Fixture::open().await;
    let opened = play.create(&viewer(), &play.playback_id).await.unwrap();
    play.world.titles.lock().unwrap()[0].1.gate_hash = "gate2".into();
    deliver(&play, Payload::GateChanged(GateChanged { content_id: play.content_id.clone(), gate_hash: "gate2".into() })).await;
    assert!(play.read(&opened.token, "v720/init.mp4").await.is_ok());
}

async fn a_gate_taken_away_ends_sessions_of_others_than_the_owner() {
    let play = Fixture::always_checking().await;
    let stranger = play.create(&viewer(), &play.playback_id).await.unwrap();
    let owner = play.create(&play.owner, &play.playback_id).await.unwrap();
    play.world.titles.lock().unwrap()[0].1.gate = None;
    assert_eq!(play.reason_of(&stranger.token, "v720/init.mp4").await, "gate_missing");
    assert!(play.read(&owner.token, "v720/init.mp4").await.is_ok());
}

async fn a_deleted_title_ends_every_session_the_owners_too() {
    let play = Fixture::open().await;
    let tokens =
        [play.create(&viewer(), &play.playback_id).await.unwrap(), play.create(&play.owner, &play.playback_id).await.unwrap()];
    deliver(&play, Payload::MetadataDeleted(MetadataDeleted { content_id: play.content_id.clone(), ..Default::default() })).await;
    for opened in tokens {
        assert_eq!(play.reason_of(&opened.token, "v720/00001.m4s").await, "session_revoked");
    }
}

async fn a_deleted_playback_id_ends_its_sessions_at_the_next_check() {
    let play = Fixture::always_checking().await;
    let opened = play.create(&play.owner, &play.playback_id).await.unwrap();
    play.world.titles.lock().unwrap().clear();
    assert_eq!(play.reason_of(&opened.token, "v720/00001.m4s").await, "session_revoked");
}

async fn deliver(play: &Fixture, payload: Payload) {
    let event = Event { id: EventId::new().into(), source: "metadata".into(), payload: Some(payload), ..Default::default() };
    TitleEvents::new(play.engine.clone()).handle(event).await.unwrap();
}

async fn a_session_belongs_to_its_account() {
    let play = Fixture::open().await;
    let (mine, other) = (viewer(), viewer());
    let opened = play.create(&mine, &play.playback_id).await.unwrap();
    assert_eq!(reason(&play.session(&other, &opened.session_id).await.unwrap_err()), "session_not_found");
    assert_eq!(reason(&play.end(&other, &opened.session_id).await.unwrap_err()), "session_not_found");
    assert!(play.session(&as_account(Role::Operator, None), &opened.session_id).await.is_ok());
    assert_eq!(play.end(&mine, &opened.session_id).await.unwrap().state(), pb::SessionState::Ended);
    assert_eq!(play.end(&mine, &opened.session_id).await.unwrap().reason, "ended_by_caller");
    assert_eq!(play.reason_of(&opened.token, "master.m3u8").await, "session_revoked");
}

async fn a_list_walks_all_pages_of_the_callers_sessions() {
    let play = Fixture::open().await;
    let caller = viewer();
    play.create(&viewer(), &play.playback_id).await.unwrap();
    let mut made = Vec::new();
    for _ in 0..5 {
        made.push(play.create(&caller, &play.playback_id).await.unwrap().session_id);
    }
    let (mut listed, mut token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListSessionsRequest {
            page_size: 2,
            page_token: token,
            playback_id: play.playback_id.clone(),
            ..Default::default()
        };
        let page = play.handler.list_sessions(call(&caller, request)).await.unwrap().into_inner();
        listed.extend(page.sessions.into_iter().map(|session| session.session_id));
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    made.sort();
    listed.sort();
    assert_eq!(listed, made);
}

async fn a_session_ends_with_its_time() {
    let play = Fixture::with(Config { session_seconds: 0, ..Config::default() }).await;
    let caller = viewer();
    let opened = play.create(&caller, &play.playback_id).await.unwrap();
    assert_eq!(play.reason_of(&opened.token, "master.m3u8").await, "token_expired");
    assert_eq!(play.session(&caller, &opened.session_id).await.unwrap().state(), pb::SessionState::Expired);
}

streamgate_testkit::on_both_engines! {
    support:
    a_viewer_who_meets_the_gate_gets_urls_with_a_token,
    a_viewer_who_does_not_is_told_what_is_missing,
    an_unknown_answer_opens_nothing_and_is_not_remembered,
    an_open_gate_lets_anybody_play,
    a_title_without_a_gate_plays_for_its_owner_and_operators_only,
    an_id_that_nobody_made_is_not_found,
    a_moved_token_ends_the_session_for_good,
    the_round_of_checks_revokes_without_a_request,
    many_requests_of_a_session_ask_the_gate_once,
    an_operator_plays_on_only_while_an_operator,
    an_owner_plays_on_in_any_role_until_the_key_is_revoked,
    gates_are_asked_also_while_no_session_can_be_ended,
    while_a_role_is_unknown_an_operator_plays_on_for_a_while_only,
    without_an_answer_playback_goes_on_for_a_while_only,
    metadata_away_keeps_a_playing_session_and_opens_none,
    a_changed_gate_is_asked_at_once_and_leaves_no_grace,
    a_session_that_meets_the_new_gate_plays_on,
    a_gate_taken_away_ends_sessions_of_others_than_the_owner,
    a_deleted_title_ends_every_session_the_owners_too,
    a_deleted_playback_id_ends_its_sessions_at_the_next_check,
    a_session_belongs_to_its_account,
    a_list_walks_all_pages_of_the_callers_sessions,
    a_session_ends_with_its_time,
}
