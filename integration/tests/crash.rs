//! kill -9 of the whole process at the worst moments: nothing acknowledged is lost, nothing is made twice.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{fs, path::Path, process::Stdio, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use streamgate_integration::{
    rest::Rest,
    stage::{Stage, playable, ready},
    tools::ffmpeg,
    walk::{Title, whole_title},
};
use streamgate_testkit::{Platform, default_clip, eventually};

/// A clip that takes long enough to be killed in the midst of it.
fn long_clip(file: &Path) {
    let file = file.to_str().unwrap();
    let sources = ["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=25:d=24", "-f", "lavfi", "-i", "sine=f=440:r=48000:d=24"];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest", file];
    ffmpeg(&[sources.as_slice(), codecs.as_slice()].concat()).unwrap();
}

/// Segments follow each other without hole or overlap, and every name is listed once.
fn assert_whole(title: &Title, seconds: f64) {
    for rendition in &title.renditions {
        assert!(rendition.playlist.ended, "{} has not ended", rendition.name);
        let mut names: Vec<&str> = rendition.playlist.segments.iter().map(|(url, _)| url.path()).collect();
        let listed = names.len();
        names.dedup();
        assert_eq!(names.len(), listed, "{} lists a segment twice", rendition.name);
        assert!((rendition.seconds() - seconds).abs() < 0.3, "{} lasts {} s", rendition.name, rendition.seconds());
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_was_after_the_platform_was_killed() {
    let mut platform = Platform::builder().start().await.unwrap();
    let creator = Rest::new(&platform.url()).unwrap().with_bearer(platform.api_key("creator").unwrap());
    let clip = fs::read(default_clip()).unwrap();
    let half = clip.len() / 2;
    let request = json!({"filename": "clip.mp4", "size_bytes": clip.len().to_string(), "request_id": "crash-1"});
    let begun = creator.post("/api/v1/uploads", &request).await.unwrap().expect(200).unwrap().json().unwrap();
    let upload_id = begun["upload"]["upload_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/uploads/{upload_id}");
    let patch = |offset: usize, bytes: Vec<u8>| {
        let request = creator.request(Method::PATCH, &path).unwrap().header("upload-offset", offset);
        creator.send(request.header("content-type", "application/offset+octet-stream").body(bytes))
    };

    let acknowledged = patch(0, clip[..half].to_vec()).await.unwrap();
    assert!(matches!(acknowledged.status, 200 | 204), "{}", acknowledged.text());
    platform.kill();
    platform.restart().await.unwrap();

    let asked = creator.send(creator.request(Method::HEAD, &path).unwrap()).await.unwrap();
    assert_eq!(asked.header("upload-offset"), half.to_string(), "an acknowledged byte was lost");
    patch(half, clip[half..].to_vec()).await.unwrap();
    let done = creator.post(&format!("{path}/complete"), &json!({})).await.unwrap().expect(200).unwrap().json().unwrap();
    let content_id = done["upload"]["content_id"].as_str().unwrap();
    ready(&creator, content_id).await.unwrap();

    // Repeating the very first call gives the same upload.
    let again = creator.post("/api/v1/uploads", &request).await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!(again["upload"]["upload_id"], upload_id.as_str());
}

/// Begins an upload, or makes a title, under a key.
async fn keyed(creator: &Rest, key: &str, number: usize) -> Option<Value> {
    let rest = creator.with_header("idempotency-key", key);
    let reply = if number.is_multiple_of(2) {
        rest.post("/api/v1/uploads", &json!({"filename": format!("{key}.mp4")})).await
    } else {
        rest.post("/api/v1/contents", &json!({"title": key})).await
    };
    reply.ok()?.expect(200).ok()?.json().ok()
}

#[tokio::test]
async fn a_repeated_key_gives_the_first_answer_also_when_the_first_call_was_killed_half_way() {
    const CALLS: usize = 12;
    let mut platform = Platform::builder().start().await.unwrap();
    let creator = Rest::new(&platform.url()).unwrap().with_bearer(platform.api_key("creator").unwrap());
    let rounds = [1, 4, 9];
    for answers_before_the_kill in rounds {
        let key = |number: usize| format!("kill-{answers_before_the_kill}-{number}");
        let mut calls = tokio::task::JoinSet::new();
        for number in 0..CALLS {
            let (creator, key) = (creator.clone(), key(number));
            calls.spawn(async move { (number, keyed(&creator, &key, number).await) });
        }
        let mut first = vec![None; CALLS];
        for ended in 1..=CALLS {
            let (number, answer) = calls.join_next().await.unwrap().unwrap();
            first[number] = answer;
            if ended == answers_before_the_kill {
                platform.kill();
            }
        }
        platform.restart().await.unwrap();
        for (number, first) in first.into_iter().enumerate() {
            let second = keyed(&creator, &key(number), number).await.unwrap();
            let third = keyed(&creator, &key(number), number).await.unwrap();
            assert_eq!(first.unwrap_or_else(|| second.clone()), second, "another answer for the same key");
            assert_eq!(second, third);
        }
    }
    let listed = creator.get("/api/v1/contents?page_size=100").await.unwrap().expect(200).unwrap().json().unwrap();
    let titles: Vec<&str> = listed["contents"].as_array().unwrap().iter().map(|title| title["title"].as_str().unwrap()).collect();
    assert_eq!(titles.len(), rounds.len() * CALLS, "each key makes one title: {titles:?}");
}

#[tokio::test]
async fn the_command_resumes_an_upload_that_was_killed() {
    let mut platform = Platform::builder().start().await.unwrap();
    let key = platform.api_key("creator").unwrap();
    let creator = Rest::new(&platform.url()).unwrap().with_bearer(key.clone());
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("big.mp4");
    // Big enough for many pieces; what is in it does not matter here.
    fs::write(&clip, vec![7_u8; 96 * 1024 * 1024]).unwrap();
    let arguments = ["upload", clip.to_str().unwrap(), "--server", &platform.url(), "--key", &key, "--json"].map(str::to_owned);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();

    let mut first = platform.command(&arguments).unwrap().stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let state = folder.path().join("big.mp4.upload.json");
    let upload_id = eventually("some pieces are acknowledged", Duration::from_secs(60), || async {
        let Ok(kept) = fs::read(&state) else { return Ok(None) };
        let kept: serde_json::Value = serde_json::from_slice(&kept)?;
        let upload_id = kept["upload_id"].as_str().unwrap().to_owned();
        let asked = creator.get(&format!("/api/v1/uploads/{upload_id}")).await?.expect(200)?.json()?;
        Ok((asked["upload"]["offset_bytes"] != "0").then_some(upload_id))
    })
    .await
    .unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    platform.kill();
    platform.restart().await.unwrap();

    let done: serde_json::Value = serde_json::from_str(platform.run(&arguments).unwrap().trim()).unwrap();
    assert_eq!(done["upload_id"], upload_id.as_str(), "the command began a second upload");
    assert!(!state.exists(), "the state of a finished upload stays behind");
}

#[tokio::test]
async fn a_transcode_that_was_killed_finishes_with_every_segment_once() {
    let mut stage = Stage::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("long.mp4");
    long_clip(&clip);
    let published = stage.publish(&clip).await.unwrap();
    stage.pass.mint(stage.holder.address()).await.unwrap();

    // Twice: a job that was taken over once can be taken over again.
    for _ in 0..2 {
        playable(&stage.creator, &published.content_id).await.unwrap();
        stage.platform.kill();
        stage.platform.restart().await.unwrap();
    }
    ready(&stage.creator, &published.content_id).await.unwrap();
    let session = stage.viewer().await.unwrap().session(&published.playback_id).await.unwrap();
    let title = whole_title(&stage.anonymous(), &session).await.unwrap();
    assert_whole(&title, 24.0);
}

#[tokio::test]
async fn a_viewer_goes_on_with_the_same_token_after_the_platform_was_killed() {
    let mut stage = Stage::start().await.unwrap();
    let published = stage.publish_ready(&default_clip()).await.unwrap();
    let session = stage.viewer().await.unwrap().session(&published.playback_id).await.unwrap();
    let before = whole_title(&stage.anonymous(), &session).await.unwrap();

    stage.platform.kill();
    stage.platform.restart().await.unwrap();

    let after = whole_title(&stage.anonymous(), &session).await.unwrap();
    for (old, new) in before.renditions.iter().zip(&after.renditions) {
        assert_eq!(old.whole(), new.whole(), "{} changed", old.name);
    }
}
