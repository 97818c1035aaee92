//! Work in the background, from the edge to the disk: deleted titles lose their media, webhooks reach their
//! receivers, and no account sees or spends what is another's.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{path::Path, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use streamgate_integration::{receiver::Receiver, rest::Rest, stage::ready};
use streamgate_testkit::{Platform, Shape, default_clip, eventually};

const BOUND: Duration = Duration::from_secs(60);

struct Scene {
    platform: Platform,
    creator: Rest,
    other: Rest,
    operator: Rest,
}

impl Scene {
    async fn set() -> Self {
        let platform = Platform::builder()
            .env("STREAMGATE_METADATA__UNDELETE_MS", "1")
            .env("STREAMGATE_WORKER__WEBHOOKS_TO_PRIVATE_ADDRESSES", "true")
            .start()
            .await
            .unwrap();
        let edge = Rest::new(&platform.url()).unwrap();
        let key = |role| edge.with_bearer(platform.api_key(role).unwrap());
        Self { creator: key("creator"), other: key("creator"), operator: key("operator"), platform }
    }

    /// Runs a job and gives it when it has ended well.
    async fn job(&self, body: &Value) -> Value {
        let made = self.operator.post("/api/v1/jobs", body).await.unwrap().expect(200).unwrap().json().unwrap();
        let path = format!("/api/v1/jobs/{}", made["job"]["job_id"].as_str().unwrap());
        eventually("the job succeeds", BOUND, || async {
            let job = self.operator.get(&path).await?.expect(200)?.json()?["job"].clone();
            Ok((job["state"] == "JOB_STATE_SUCCEEDED").then_some(job))
        })
        .await
        .unwrap()
    }
}

/// Files below a folder whose path holds `word`.
fn files(folder: &Path, word: &str) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries
        .map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path, word) } else { usize::from(path.to_string_lossy().contains(word)) }
        })
        .sum()
}

#[tokio::test]
async fn a_purged_title_leaves_nothing_behind_and_its_webhooks_tell_of_it() {
    let scene = Scene::set().await;
    let receiver = Receiver::start().await.unwrap();
    let hook = json!({"url": receiver.url(), "event_types": ["file.uploaded", "transcoding.completed", "metadata.deleted"]});
    let made = scene.creator.post("/api/v1/webhooks", &hook).await.unwrap().expect(200).unwrap().json().unwrap();
    let secret = STANDARD.decode(made["secret"].as_str().unwrap().strip_prefix("whsec_").unwrap()).unwrap();
    // Somebody else listens too, and must hear nothing.
    let foreign = Receiver::start().await.unwrap();
    scene.other.post("/api/v1/webhooks", &json!({"url": foreign.url()})).await.unwrap().expect(200).unwrap();

    let sent = scene.creator.upload(&default_clip(), "a clip").await.unwrap();
    let content_id = sent["content_id"].as_str().unwrap().to_owned();
    let upload_id = sent["upload_id"].as_str().unwrap().to_owned();
    ready(&scene.creator, &content_id).await.unwrap();
    let blobs = scene.platform.data_dir().join("blobs");
    // With a bucket there are no files to look at.
    if Shape::wanted() != Shape::NineOnEngines {
        assert!(files(&blobs, &content_id) > 0 && files(&blobs, &upload_id) > 0);
    }

    let path = format!("/api/v1/contents/{content_id}");
    scene.creator.call(Method::DELETE, &path, &json!({})).await.unwrap().success().unwrap();
    let purged = scene.job(&json!({"type": "purge_titles"})).await;
    assert_eq!(purged["message"], "purged 1 titles");
    eventually("the media and the source are gone", BOUND, || async {
        Ok((files(&blobs, &content_id) + files(&blobs, &upload_id) == 0).then_some(()))
    })
    .await
    .unwrap();

    let told = receiver.wait_for(3, BOUND).await.unwrap();
    let types: Vec<&str> = told.iter().map(|hook| hook.body["type"].as_str().unwrap()).collect();
    assert_eq!(types, ["file.uploaded", "transcoding.completed", "metadata.deleted"]);
    for hook in &told {
        assert_eq!(hook.body["data"]["content_id"], content_id.as_str());
        hook.verify(&secret).unwrap();
    }
    assert!(foreign.got().is_empty(), "another creator heard of the title");
}

#[tokio::test]
async fn a_creator_chooses_a_poster_and_an_operator_has_a_job_do_it() {
    let scene = Scene::set().await;
    let sent = scene.creator.upload(&default_clip(), "a clip").await.unwrap();
    let content_id = sent["content_id"].as_str().unwrap().to_owned();
    let content = ready(&scene.creator, &content_id).await.unwrap();
    let playback_id = content["playback_ids"][0].as_str().unwrap();
    let session = scene.creator.session(playback_id).await.unwrap();
    let shown = format!("/play/{playback_id}/1/poster.jpg?token={}", session.token);
    let poster = async || scene.creator.anonymous().get(&shown).await.unwrap().expect(200).unwrap();

    let first = poster().await;
    assert_eq!((&first.body[..3], first.header("cache-control")), (&[0xff, 0xd8, 0xff][..], "private, no-cache"));
    let path = format!("/api/v1/contents/{content_id}/poster");
    let wanted = json!({"at_ms": 3_000});
    let refused = scene.other.call(Method::PUT, &path, &wanted).await.unwrap();
    assert_eq!((refused.status, refused.reason().as_str()), (404, "content_unknown"), "{}", refused.text());
    let beyond = scene.creator.call(Method::PUT, &path, &json!({"at_ms": 3_600_000})).await.unwrap();
    assert_eq!(beyond.status, 400, "{}", beyond.text());
    let made = scene.creator.call(Method::PUT, &path, &wanted).await.unwrap().expect(200).unwrap().json().unwrap();
    let chosen = poster().await;
    assert_eq!(made["size_bytes"], chosen.body.len().to_string());
    assert_ne!(chosen.body, first.body);
    assert_ne!(chosen.header("etag"), first.header("etag"));

    let params = json!({"thumbnails": {"content_id": content_id, "at_ms": 1_500}});
    scene.job(&json!({"type": "thumbnails", "params": params})).await;
    assert_ne!(poster().await.body, chosen.body);
}

#[tokio::test]
async fn webhooks_and_jobs_of_others_do_not_exist_at_the_edge() {
    let scene = Scene::set().await;
    let receiver = Receiver::start().await.unwrap();
    let made = scene.creator.post("/api/v1/webhooks", &json!({"url": receiver.url()})).await.unwrap().expect(200).unwrap();
    let id = made.json().unwrap()["endpoint"]["endpoint_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/webhooks/{id}");
    let delivery = scene.creator.post(&format!("{path}/test"), &json!({})).await.unwrap().expect(200).unwrap().json().unwrap();
    let delivery = format!("/api/v1/webhook-deliveries/{}", delivery["delivery"]["delivery_id"].as_str().unwrap());
    receiver.wait_for(1, BOUND).await.unwrap();

    let since = json!({"since": "2020-01-01T00:00:00Z", "delivered_too": true});
    let calls = [
        (Method::GET, path.clone(), json!({})),
        (Method::PATCH, path.clone(), json!({"url": "https://evil.example/hook"})),
        (Method::POST, format!("{path}/rotate-secret"), json!({})),
        (Method::POST, format!("{path}/test"), json!({})),
        (Method::POST, format!("{path}/replay"), since),
        (Method::GET, format!("{path}/deliveries"), json!({})),
        (Method::GET, delivery.clone(), json!({})),
        (Method::POST, format!("{delivery}/replay"), json!({})),
        (Method::DELETE, path.clone(), json!({})),
    ];
    for (method, path, body) in &calls {
        let stranger = scene.other.call(method.clone(), path, body).await.unwrap();
        assert_eq!(stranger.status, 404, "{method} {path}: {}", stranger.text());
        let nobody = scene.other.anonymous().call(method.clone(), path, body).await.unwrap();
        assert_eq!(nobody.status, 401, "{method} {path}: {}", nobody.text());
    }
    let listed = scene.other.get("/api/v1/webhooks").await.unwrap().expect(200).unwrap();
    assert!(!listed.text().contains(&id));
    // A page token of somebody else's list opens nothing either.
    for number in 0..2 {
        let hook = json!({"url": receiver.url(), "description": number.to_string()});
        scene.creator.post("/api/v1/webhooks", &hook).await.unwrap().expect(200).unwrap();
    }
    let page = scene.creator.get("/api/v1/webhooks?page_size=1").await.unwrap().expect(200).unwrap().json().unwrap();
    let token = page["next_page_token"].as_str().unwrap();
    scene.other.get(&format!("/api/v1/webhooks?page_size=1&page_token={token}")).await.unwrap().expect(400).unwrap();

    for (method, path, body) in [
        (Method::GET, "/api/v1/jobs".to_owned(), json!({})),
        (Method::POST, "/api/v1/jobs".to_owned(), json!({"type": "sweep_uploads"})),
        (Method::POST, "/api/v1/jobs/retry-failed".to_owned(), json!({})),
        (Method::GET, "/api/v1/schedules".to_owned(), json!({})),
        (Method::DELETE, "/api/v1/schedules/nightly".to_owned(), json!({})),
    ] {
        let refused = scene.creator.call(method.clone(), &path, &body).await.unwrap();
        assert_eq!(refused.status, 403, "{method} {path}: {}", refused.text());
    }
    let forged = json!({"type": "deliver_webhook", "params": {"deliver_webhook": {"delivery_id": delivery.rsplit('/').next()}}});
    scene.operator.post("/api/v1/jobs", &forged).await.unwrap().expect(400).unwrap();
}
