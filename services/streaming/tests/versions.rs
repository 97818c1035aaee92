//! Titles that are made again, stop early, or are asked for in part.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "the support is shared")]

mod support;

use streamgate_core::Failure;
use streamgate_proto::streamgate::streaming::v1::{self as pb, StreamState, streaming_service_server::StreamingService as _};
use streamgate_streaming::engine::neighbours::Verdict;
use support::{Fixture, anonymous, call, pattern, reason, uris, viewer};
use tonic::Code;

async fn playing() -> (Fixture, String) {
    let play = Fixture::always_checking().await;
    let token = play.create(&viewer(), &play.playback_id).await.unwrap().token;
    (play, token)
}

async fn a_path_keeps_its_bytes_when_the_title_is_made_again() {
    let (play, token) = playing().await;
    let (before, bytes) = play.read(&token, "1/v720/00001.m4s").await.unwrap();
    play.make_again().await;
    let (after, same) = play.read(&token, "1/v720/00001.m4s").await.unwrap();
    assert_eq!((&bytes, before.etag), (&same, after.etag));
    let (_, list) = play.read(&token, "1/v720/index.m3u8").await.unwrap();
    assert!(String::from_utf8_lossy(&list).contains("ENDLIST"), "a running player keeps its playlist");

    let (_, master) = play.read(&token, "master.m3u8").await.unwrap();
    let below = format!("/play/{}/2/", play.playback_id);
    assert!(uris(std::str::from_utf8(&master).unwrap()).iter().all(|uri| uri.starts_with(&below)), "{master:?}");
    let (header, new) = play.read(&token, "2/v720/00001.m4s").await.unwrap();
    assert!(new.starts_with(b"again") && header.immutable);
}

async fn a_path_without_a_version_is_the_current_one_and_may_change() {
    let (play, token) = playing().await;
    let (first, bytes) = play.read(&token, "v720/00001.m4s").await.unwrap();
    assert_eq!(bytes, pattern(support::SEGMENT_BYTES));
    assert!(!first.immutable);
    play.make_again().await;
    let (second, bytes) = play.read(&token, "v720/00001.m4s").await.unwrap();
    assert!(bytes.starts_with(b"again") && first.etag != second.etag);
}

async fn a_job_that_stopped_early_is_never_shown_as_a_whole_title() {
    let (play, token) = playing().await;
    {
        let mut made = play.world.made.lock().unwrap();
        let made = made.as_mut().unwrap();
        (made.complete, made.stopped, made.revision) = (false, true, made.revision + 1);
    }
    for path in ["master.m3u8", "manifest.mpd", "v720/index.m3u8", "1/v720/index.m3u8", "1/manifest.mpd"] {
        let status = play.read(&token, path).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "title_incomplete"), "{path}");
        assert_eq!(Failure::from(&status).retry_after, None, "waiting does not help");
    }
    assert!(play.read(&token, "1/v720/00002.m4s").await.is_ok(), "a player may play what it has listed");
    assert_eq!(info(&play, &token).await.state(), StreamState::Failed);
}

async fn a_growing_manifest_stays_with_its_version_and_choice() {
    let (play, token) = playing().await;
    play.world.made.lock().unwrap().as_mut().unwrap().complete = false;
    let choice = Some(pb::Choice { max_resolution: "720p".into(), bandwidth: 9_000_000 });
    let request = pb::ReadAssetRequest { choice, ..play.asset(&token, "manifest.mpd") };
    let (_, text) = play.read_with(&anonymous(), request).await.unwrap();
    let place = format!(
        "<Location>/play/{}/1/manifest.mpd?token={token}&amp;max_resolution=720&amp;bandwidth=9000000</Location>",
        play.playback_id
    );
    assert!(String::from_utf8_lossy(&text).contains(&place), "{text:?}");
    assert!(play.read(&token, "1/manifest.mpd").await.is_ok());
    assert_eq!(info(&play, &token).await.state(), StreamState::Growing);
}

async fn a_choice_narrows_both_entries_and_a_wrong_one_is_refused() {
    let (play, token) = playing().await;
    {
        let mut made = play.world.made.lock().unwrap();
        let made = made.as_mut().unwrap();
        let mut large = made.video[0].clone();
        (large.name, large.width, large.height) = ("v1080".into(), 1920, 1080);
        made.video.push(large);
        made.revision += 1;
    }
    for entry in ["master.m3u8", "manifest.mpd"] {
        let of = async |max_resolution: &str| {
            let choice = Some(pb::Choice { max_resolution: max_resolution.into(), bandwidth: 0 });
            let request = pb::ReadAssetRequest { choice, ..play.asset(&token, entry) };
            play.read_with(&anonymous(), request).await.map(|(_, body)| String::from_utf8_lossy(&body).into_owned())
        };
        assert!(of("").await.unwrap().contains("v1080"));
        let narrow = of("720").await.unwrap();
        assert!(!narrow.contains("v1080") && narrow.contains("v720") && narrow.contains("a128"), "{narrow}");
        let status = of("large").await.unwrap_err();
        assert_eq!(Failure::from(&status).fields[0].field, "max_resolution");
    }
}

async fn urls_of_a_session_carry_the_choice_it_was_opened_with() {
    let play = Fixture::open().await;
    let choice = Some(pb::Choice { max_resolution: "1280x720".into(), bandwidth: 3_000_000 });
    let request = pb::CreateSessionRequest { playback_id: play.playback_id.clone(), choice };
    let opened = play.handler.create_session(call(&viewer(), request)).await.unwrap().into_inner();
    for url in [opened.hls_url, opened.dash_url] {
        assert!(url.ends_with(&format!("?token={}&max_resolution=1280x720&bandwidth=3000000", opened.token)), "{url}");
    }
}

async fn info(play: &Fixture, token: &str) -> pb::GetStreamInfoResponse {
    let request = pb::GetStreamInfoRequest { playback_id: play.playback_id.clone(), token: token.into(), ..Default::default() };
    play.handler.get_stream_info(call(&anonymous(), request)).await.unwrap().into_inner()
}

async fn info_says_what_can_be_played_and_where() {
    let (play, token) = playing().await;
    let info = info(&play, &token).await;
    assert_eq!((info.state(), info.duration_ms, info.version), (StreamState::Ready, 6_000, 1));
    let picture = &info.renditions[0];
    assert_eq!((picture.name.as_str(), picture.width, picture.height, picture.segments), ("v720", 1280, 720, 3));
    assert!(picture.peak_bandwidth >= picture.average_bandwidth && picture.average_bandwidth == 2_400_000);
    assert_eq!((info.tracks[0].channels, info.tracks[0].sample_rate_hz), (2, 48_000));
    assert_eq!(info.poster_url, format!("https://video.example/play/{}/1/poster.jpg", play.playback_id));
    assert!(!format!("{info:?}").contains("job_1"), "nobody learns how files are kept");
}

async fn info_is_under_the_gate_and_opens_no_session() {
    let play = Fixture::open().await;
    let request = || pb::GetStreamInfoRequest { playback_id: play.playback_id.clone(), ..Default::default() };
    assert!(play.handler.get_stream_info(call(&viewer(), request())).await.is_ok());
    play.set_verdict(Verdict::Denied(vec!["hold a pass".into()]));
    let status = play.handler.get_stream_info(call(&viewer(), request())).await.unwrap_err();
    assert_eq!(reason(&status), "gate_not_met");
    assert!(play.handler.get_stream_info(call(&play.owner, request())).await.is_ok());
    let listed = play.handler.list_sessions(call(&play.owner, pb::ListSessionsRequest::default())).await.unwrap().into_inner();
    assert!(listed.sessions.is_empty());
    *play.world.made.lock().unwrap() = None;
    let waiting = Fixture::open().await;
    *waiting.world.made.lock().unwrap() = None;
    let token = waiting.create(&viewer(), &waiting.playback_id).await.unwrap().token;
    assert_eq!(self::info(&waiting, &token).await.state(), StreamState::Preparing);
}

async fn a_title_is_read_by_its_own_id_by_its_owner_or_with_its_token() {
    let play = Fixture::open().await;
    let by_id = |token: &str| pb::ReadAssetRequest {
        playback_id: String::new(),
        content_id: play.content_id.clone(),
        ..play.asset(token, "v720/00001.m4s")
    };
    assert!(play.read_with(&play.owner, by_id("")).await.is_ok());
    let token = play.create(&viewer(), &play.playback_id).await.unwrap().token;
    assert!(play.read_with(&anonymous(), by_id(&token)).await.is_ok());
    assert_eq!(reason(&play.read_with(&viewer(), by_id("")).await.unwrap_err()), "playback_not_found");
    assert_eq!(reason(&play.read_with(&anonymous(), by_id("")).await.unwrap_err()), "credentials_missing");
    let foreign = play.create(&play.owner, &play.second_title()).await.unwrap().token;
    assert_eq!(reason(&play.read_with(&anonymous(), by_id(&foreign)).await.unwrap_err()), "token_foreign");
}

streamgate_testkit::on_both_engines! {
    support:
    a_path_keeps_its_bytes_when_the_title_is_made_again,
    a_path_without_a_version_is_the_current_one_and_may_change,
    a_job_that_stopped_early_is_never_shown_as_a_whole_title,
    a_growing_manifest_stays_with_its_version_and_choice,
    a_choice_narrows_both_entries_and_a_wrong_one_is_refused,
    urls_of_a_session_carry_the_choice_it_was_opened_with,
    info_says_what_can_be_played_and_where,
    info_is_under_the_gate_and_opens_no_session,
    a_title_is_read_by_its_own_id_by_its_owner_or_with_its_token,
}
