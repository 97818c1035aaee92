//! Who may not play, may not read anything: every URI that the manifests name is tried with every bad credential.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use streamgate_integration::{
    rest::{Reply, Rest, Session},
    stage::Stage,
    walk::whole_title,
};
use streamgate_testkit::{Platform, default_clip, eventually};
use url::Url;

/// The address with another token, or with none.
fn with_token(url: &Url, token: Option<&str>) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    if let Some(token) = token {
        url.query_pairs_mut().append_pair("token", token);
    }
    url
}

/// Tries every address with a token in each of the three places it may stand, and demands a refusal of each.
async fn all_refuse(edge: &Rest, urls: &[Url], token: Option<&str>, what: &str) {
    for url in urls {
        let mut answers = vec![edge.get(with_token(url, token).as_str()).await.unwrap()];
        if let Some(token) = token {
            let bare = with_token(url, None);
            answers.push(edge.with_bearer(token).get(bare.as_str()).await.unwrap());
        }
        for answer in answers {
            assert_refused(&answer, what, url);
        }
    }
}

fn assert_refused(answer: &Reply, what: &str, url: &Url) {
    assert!(matches!(answer.status, 401 | 403), "{what}: {} answered {}: {}", url.path(), answer.status, answer.text());
    assert!(!answer.reason().is_empty(), "{what}: {} gives no reason: {}", url.path(), answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}: {}", url.path());
}

/// The token with one bit changed in each of its three parts, and with other dishonest changes.
fn altered(token: &str) -> Vec<String> {
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "a JWT has three parts");
    let mut forged = Vec::new();
    for part in 0..3 {
        let bytes = URL_SAFE_NO_PAD.decode(parts[part]).unwrap();
        for place in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            let mut pieces: Vec<String> = parts.iter().map(|piece| (*piece).to_owned()).collect();
            pieces[part] = URL_SAFE_NO_PAD.encode(flipped);
            forged.push(pieces.join("."));
        }
    }
    let unsigned = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    forged.push(format!("{unsigned}.{}.", parts[1]));
    forged.push(format!("{}.{}.", parts[0], parts[1]));
    forged.push(format!("{}.{}", parts[0], parts[1]));
    forged.push(format!("{token}.{token}"));
    forged.push("sgk_0000".into());
    forged
}

struct Scene {
    stage: Stage,
    viewer: Rest,
    session: Session,
    urls: Vec<Url>,
}

impl Scene {
    async fn set() -> Self {
        Self::set_with(Stage::start().await.unwrap()).await
    }

    async fn set_with(stage: Stage) -> Self {
        let published = stage.publish_ready(&default_clip()).await.unwrap();
        let viewer = stage.viewer().await.unwrap();
        let session = viewer.session(&published.playback_id).await.unwrap();
        let title = whole_title(&stage.anonymous(), &session).await.unwrap();
        assert!(title.urls.iter().any(|url| url.path().ends_with("poster.jpg")), "the title has no poster");
        Self { urls: title.urls, stage, viewer, session }
    }
}

#[tokio::test]
async fn every_uri_refuses_every_credential_that_is_not_the_holders() {
    let scene = Scene::set().await;
    let edge = scene.stage.anonymous();

    all_refuse(&edge, &scene.urls, None, "anonymous").await;
    for forged in altered(&scene.session.token) {
        all_refuse(&edge, &scene.urls, Some(&forged), "altered token").await;
    }

    let stranger = edge.sign_in(&scene.stage.stranger).await.unwrap();
    all_refuse(&edge, &scene.urls, stranger.bearer(), "another wallet's access token").await;

    // A sound playback token of another title, whose gate the same wallet meets.
    let other = scene.stage.publish(&default_clip()).await.unwrap();
    streamgate_integration::stage::playable(&scene.stage.creator, &other.content_id).await.unwrap();
    let foreign = scene.viewer.session(&other.playback_id).await.unwrap();
    all_refuse(&edge, &scene.urls, Some(&foreign.token), "token of another title").await;

    // The holder's own token still works: the refusals above were not of everybody.
    edge.get(scene.urls.last().unwrap().as_str()).await.unwrap().expect(200).unwrap();
}

#[tokio::test]
async fn a_token_of_another_platform_or_of_an_ended_session_opens_nothing() {
    let scene = Scene::set().await;
    let edge = scene.stage.anonymous();

    let elsewhere = Scene::set().await;
    all_refuse(&edge, &scene.urls, Some(&elsewhere.session.token), "foreign token").await;

    let end = scene.viewer.request(reqwest::Method::DELETE, &format!("/api/v1/sessions/{}", scene.session.session_id)).unwrap();
    scene.viewer.send(end).await.unwrap().expect(200).unwrap();
    all_refuse(&edge, &scene.urls, Some(&scene.session.token), "ended session").await;
}

#[tokio::test]
async fn an_expired_token_opens_nothing() {
    let short = Platform::builder().env("STREAMGATE_STREAMING__SESSION_SECONDS", "60");
    let scene = Scene::set_with(Stage::start_with(short).await.unwrap()).await;
    let edge = scene.stage.anonymous();
    let first = scene.urls.first().unwrap();
    let reason = eventually("the token expires", std::time::Duration::from_secs(120), || async {
        let answer = edge.get(first.as_str()).await?;
        Ok((answer.status != 200).then(|| answer.reason()))
    });
    assert_eq!(reason.await.unwrap(), "token_expired");
    all_refuse(&edge, &scene.urls, Some(&scene.session.token), "expired token").await;
}

#[tokio::test]
async fn a_challenge_works_once_and_only_for_its_wallet() {
    let stage = Stage::start().await.unwrap();
    let edge = stage.anonymous();

    let signed = edge.signed_challenge(&stage.holder).await.unwrap();
    edge.post("/api/v1/auth/login", &signed).await.unwrap().expect(200).unwrap();
    let replayed = edge.post("/api/v1/auth/login", &signed).await.unwrap().expect(401).unwrap();
    assert!(!replayed.reason().is_empty(), "{}", replayed.text());

    let mut crossed = edge.signed_challenge(&stage.holder).await.unwrap();
    crossed["signature"] = edge.signed_challenge(&stage.stranger).await.unwrap()["signature"].take();
    edge.post("/api/v1/auth/login", &crossed).await.unwrap().expect(401).unwrap();

    // A failed try uses the challenge up as well as a good one, or it does not; either way it never lets the wrong wallet in.
    let unknown = serde_json::json!({"challenge_id": "chl_00000000000000000000000000000000", "signature": "0x00"});
    let refused = edge.post("/api/v1/auth/login", &unknown).await.unwrap();
    assert!(matches!(refused.status, 400 | 401), "{}", refused.text());
}

#[tokio::test]
async fn a_title_without_a_gate_is_its_owners_alone() {
    let stage = Stage::start().await.unwrap();
    let sent = stage.creator.upload(&default_clip(), "mine").await.unwrap();
    let content_id = sent["content_id"].as_str().unwrap();
    let content = streamgate_integration::stage::playable(&stage.creator, content_id).await.unwrap();
    let playback_id = content["playback_ids"][0].as_str().unwrap();

    stage.creator.session(playback_id).await.unwrap();
    let refused = stage.viewer().await.unwrap().try_session(playback_id).await.unwrap().expect(403).unwrap();
    assert_eq!(refused.reason(), "gate_missing");
}
