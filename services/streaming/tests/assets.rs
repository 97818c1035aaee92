//! Assets: what a token gives, and how it is answered.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "the support is shared")]

mod support;

use streamgate_core::{Failure, ids::SessionId};
use streamgate_proto::streamgate::streaming::v1::{self as pb, ByteRange};
use streamgate_streaming::engine::neighbours::Verdict;
use support::{Fixture, SEGMENT_BYTES, anonymous, pattern, reason, uris, viewer};
use tonic::Code;

async fn playing() -> (Fixture, String) {
    let play = Fixture::open().await;
    let token = play.create(&viewer(), &play.playback_id).await.unwrap().token;
    (play, token)
}

async fn everything_the_playlists_name_can_be_read_and_carries_the_token() {
    let (play, token) = playing().await;
    let base = format!("/play/{}/", play.playback_id);
    let mut seen = 0;
    for entry in ["master.m3u8", "manifest.mpd"] {
        let (header, body) = play.read(&token, entry).await.unwrap();
        assert!(!header.immutable);
        for uri in uris(std::str::from_utf8(&body).unwrap()) {
            let (path, query) = uri.split_once('?').unwrap();
            assert_eq!(query, format!("token={token}"), "{entry}");
            let path = path.strip_prefix(&base).unwrap().replace("$Number%05d$", "00001");
            let (_, below) = play.read(&token, &path).await.unwrap();
            let folder = path.rsplit_once('/').unwrap().0;
            if path.ends_with(".m3u8") {
                for uri in uris(std::str::from_utf8(&below).unwrap()) {
                    let name = uri.strip_suffix(&format!("?token={token}")).unwrap();
                    assert!(play.read(&token, &format!("{folder}/{name}")).await.is_ok(), "{name}");
                    seen += 1;
                }
            }
            seen += 1;
        }
    }
    assert_eq!(seen, 2 + 2 * 4 + 4);
}

async fn nothing_is_read_without_a_good_token_of_this_title() {
    let (play, token) = playing().await;
    let second = play.second_title();
    let foreign = play.create(&viewer(), &second).await.unwrap().token;
    let parts: Vec<_> = token.split('.').collect();
    let unknown_session = format!("{}.{}", SessionId::new(), parts[1..].join("."));
    let other_gate = format!("{}.{}.{}.gate9.{}", parts[0], parts[1], parts[2], parts[4]);
    let expired = format!("{}.1000", parts[..4].join("."));
    play.set_verdict(Verdict::Denied(Vec::new()));
    for path in ["master.m3u8", "manifest.mpd", "v720/index.m3u8", "v720/init.mp4", "v720/00001.m4s", "poster.jpg", "nope"] {
        assert_eq!(play.reason_of("", path).await, "credentials_missing", "{path}");
        assert_eq!(play.reason_of("garbage", path).await, "token_invalid", "{path}");
        assert_eq!(play.reason_of(&unknown_session, path).await, "token_invalid", "{path}");
        assert_eq!(play.reason_of(&other_gate, path).await, "token_invalid", "{path}");
        assert_eq!(play.reason_of(&expired, path).await, "token_expired", "{path}");
        let status = play.read(&foreign, path).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::PermissionDenied, "token_foreign"), "{path}");
    }
}

async fn an_entry_without_a_token_opens_a_session_for_its_caller() {
    let play = Fixture::open().await;
    let request = pb::ReadAssetRequest { token_in_url: false, ..play.asset("", "master.m3u8") };
    let (header, body) = play.read_with(&viewer(), request).await.unwrap();
    assert!(header.new_token_expires_at.is_some());
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(uris(&text).iter().all(|uri| uri.ends_with(&format!("?token={}", header.new_token))), "{text}");
    assert!(play.read(&header.new_token, "v720/00001.m4s").await.is_ok());
}

async fn a_token_from_a_cookie_or_header_stays_out_of_the_playlist() {
    let (play, token) = playing().await;
    let request = pb::ReadAssetRequest { token_in_url: false, ..play.asset(&token, "v720/index.m3u8") };
    let (header, body) = play.read_with(&anonymous(), request).await.unwrap();
    assert!(!String::from_utf8_lossy(&body).contains('?'));
    assert_eq!(header.content_type, "application/vnd.apple.mpegurl");
}

async fn a_segment_is_immutable_and_comes_whole_in_small_pieces() {
    let (play, token) = playing().await;
    let (header, body) = play.read(&token, "1/v720/00002.m4s").await.unwrap();
    assert_eq!((header.content_type.as_str(), header.immutable, header.partial), ("video/mp4", true, false));
    assert_eq!((header.size_bytes, header.length_bytes, header.offset_bytes), (SEGMENT_BYTES as u64, SEGMENT_BYTES as u64, 0));
    assert_eq!(body, pattern(SEGMENT_BYTES));
    assert_eq!(play.read(&token, "a128/init.mp4").await.unwrap().0.content_type, "audio/mp4");
    assert_eq!(play.read(&token, "poster.jpg").await.unwrap().0.content_type, "image/jpeg");
    assert_eq!(play.read(&token, "manifest.mpd").await.unwrap().0.content_type, "application/dash+xml");
}

async fn a_poster_may_be_replaced_so_it_is_never_kept_without_asking() {
    let (play, token) = playing().await;
    let (before, body) = play.read(&token, "1/poster.jpg").await.unwrap();
    assert_eq!((before.immutable, body.len()), (false, 50));
    let conditional = || pb::ReadAssetRequest { if_none_match: vec![before.etag.clone()], ..play.asset(&token, "1/poster.jpg") };
    assert!(play.read_with(&anonymous(), conditional()).await.unwrap().0.not_modified);
    play.replace_poster().await;
    for path in ["1/poster.jpg", "poster.jpg"] {
        let (after, body) = play.read(&token, path).await.unwrap();
        assert_eq!((after.immutable, body), (false, pattern(40)), "{path}");
        assert_ne!(after.etag, before.etag, "{path}");
    }
    let (known, body) = play.read_with(&anonymous(), conditional()).await.unwrap();
    assert_eq!((known.not_modified, body.len()), (false, 40));
}

fn range(start: Option<u64>, end: Option<u64>, last_bytes: Option<u64>) -> Option<ByteRange> {
    Some(ByteRange { start, end, last_bytes })
}

async fn ranges_are_answered_as_http_says() {
    let (play, token) = playing().await;
    let size = SEGMENT_BYTES as u64;
    let table = [
        (range(Some(0), Some(99), None), Some(0..100)),
        (range(Some(300_000), None, None), Some(300_000..size)),
        (range(Some(size - 1), Some(size + 500), None), Some(size - 1..size)),
        (range(None, None, Some(10)), Some(size - 10..size)),
        (range(None, None, Some(size * 2)), Some(0..size)),
        (range(Some(9), Some(3), None), None),
        (range(None, Some(3), None), None),
    ];
    for (range, expected) in table {
        let request = pb::ReadAssetRequest { range, ..play.asset(&token, "v720/00001.m4s") };
        let (header, body) = play.read_with(&anonymous(), request).await.unwrap();
        assert_eq!(header.partial, expected.is_some(), "{range:?}");
        let expected = expected.unwrap_or(0..size);
        assert_eq!(header.offset_bytes..header.offset_bytes + header.length_bytes, expected, "{range:?}");
        let (first, end) = (usize::try_from(expected.start).unwrap(), usize::try_from(expected.end).unwrap());
        assert_eq!(body, pattern(SEGMENT_BYTES).slice(first..end), "{range:?}");
    }
    for refused in [range(Some(size), None, None), range(None, None, Some(0))] {
        let request = pb::ReadAssetRequest { range: refused, ..play.asset(&token, "v720/00001.m4s") };
        let status = play.read_with(&anonymous(), request).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::OutOfRange, "range_not_satisfiable"));
        assert!(status.message().contains("600000"), "{}", status.message());
    }
}

async fn an_entity_tag_saves_the_body_and_a_head_has_none() {
    let (play, token) = playing().await;
    for path in ["v720/00001.m4s", "v720/index.m3u8"] {
        let (first, _) = play.read(&token, path).await.unwrap();
        assert!(first.etag.starts_with('"') && first.etag.ends_with('"'));
        for known in [first.etag.clone(), format!("W/{}", first.etag), "*".to_owned()] {
            let request = pb::ReadAssetRequest { if_none_match: vec!["\"other\"".into(), known], ..play.asset(&token, path) };
            let (header, body) = play.read_with(&anonymous(), request).await.unwrap();
            assert!(header.not_modified && body.is_empty() && header.length_bytes == 0 && header.etag == first.etag);
        }
        let request = pb::ReadAssetRequest { head_only: true, ..play.asset(&token, path) };
        let (header, body) = play.read_with(&anonymous(), request).await.unwrap();
        assert!(!header.not_modified && body.is_empty() && header.length_bytes == first.size_bytes);
    }
}

async fn only_names_of_the_title_lead_to_files() {
    let (play, token) = playing().await;
    for path in [
        "",
        "/",
        "..",
        "../",
        "../../db/streaming.db",
        "v720/../v720/init.mp4",
        "v720/../../x/v720/init.mp4",
        "%2e%2e/db",
        "v720%2Finit.mp4",
        "v720/init.mp4\0",
        "v720\\init.mp4",
        "/etc/passwd",
        "v720/1.m4s",
        "v720/00004.m4s",
        "v720/00000.m4s",
        "v1080/index.m3u8",
        "v1080/00001.m4s",
        "job_1/v720/init.mp4",
        "2/v720/init.mp4",
        "01/v720/init.mp4",
        "1/1/v720/init.mp4",
        "1/../v720/init.mp4",
        "v720/",
        "v720",
        "poster.png",
        "V720/init.mp4",
        "v720/99999999999999999999.m4s",
    ] {
        let status = play.read(&token, path).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "asset_not_found"), "{path:?}");
    }
}

async fn a_title_that_is_not_made_yet_says_when_to_come_back() {
    let (play, token) = playing().await;
    *play.world.made.lock().unwrap() = None;
    let status = play.read(&token, "master.m3u8").await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::FailedPrecondition, "not_ready"));
    assert_eq!(Failure::from(&status).retry_after, Some(std::time::Duration::from_secs(2)));
}

streamgate_testkit::on_both_engines! {
    support:
    everything_the_playlists_name_can_be_read_and_carries_the_token,
    nothing_is_read_without_a_good_token_of_this_title,
    an_entry_without_a_token_opens_a_session_for_its_caller,
    a_token_from_a_cookie_or_header_stays_out_of_the_playlist,
    a_segment_is_immutable_and_comes_whole_in_small_pieces,
    a_poster_may_be_replaced_so_it_is_never_kept_without_asking,
    ranges_are_answered_as_http_says,
    an_entity_tag_saves_the_body_and_a_head_has_none,
    only_names_of_the_title_lead_to_files,
    a_title_that_is_not_made_yet_says_when_to_come_back,
}
