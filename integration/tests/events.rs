//! Events as an operator sees and mends them at the edge: lists, dead letters, and telling again. In one process: with a
//! broker dead letters lie with their consumers, which `libs/store/tests/nats.rs` tests.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{collections::BTreeSet, time::Duration};

use reqwest::Method;
use serde_json::{Value, json};
use streamgate_integration::{
    receiver::{Hook, Receiver},
    rest::{Reply, Rest},
    stage::settled,
    watching::counted,
};
use streamgate_testkit::{Platform, Shape, eventually};

const BOUND: Duration = Duration::from_secs(60);
const EVENTS: &str = "/api/v1/events";
const DEAD_LETTERS: &str = "/api/v1/events/dead-letters";
const RETRY: &str = "/api/v1/events/dead-letters/retry";
const REPLAY: &str = "/api/v1/events/replay";

struct Scene {
    platform: Platform,
    operator: Rest,
    creator: Rest,
}

impl Scene {
    async fn set() -> Self {
        let builder = Platform::builder().shape(Shape::OneProcess);
        let platform = builder.env("STREAMGATE_WORKER__WEBHOOKS_TO_PRIVATE_ADDRESSES", "true").start().await.unwrap();
        let edge = Rest::new(&platform.url()).unwrap();
        let key = |role| edge.with_bearer(platform.api_key(role).unwrap());
        Self { operator: key("operator"), creator: key("creator"), platform }
    }

    /// Makes a title and gives its id, which is the subject of its events.
    async fn title(&self, name: &str) -> String {
        let made = self.creator.post("/api/v1/contents", &json!({"title": name})).await.unwrap().expect(200).unwrap();
        made.json().unwrap()["content_id"].as_str().unwrap().to_owned()
    }

    /// Everything in a list of the operator's, read in pages of two.
    async fn pages(&self, path: &str, list: &str) -> Vec<Value> {
        let (mut all, mut token) = (Vec::new(), String::new());
        loop {
            let asked = format!("{path}&page_size=2&page_token={token}");
            let page = self.operator.get(&asked).await.unwrap().expect(200).unwrap().json().unwrap();
            let items = page[list].as_array().cloned().unwrap_or_default();
            assert!(items.len() <= 2, "{page}");
            all.extend(items);
            match page["next_page_token"].as_str() {
                None | Some("") => return all,
                Some(next) => token = next.to_owned(),
            }
        }
    }

    async fn told_by(&self, service: &str) -> Vec<Value> {
        self.pages(&format!("{EVENTS}?service={service}"), "events").await
    }

    async fn dead_letters(&self) -> Vec<Value> {
        self.pages(&format!("{DEAD_LETTERS}?service=metadata"), "dead_letters").await
    }

    /// Waits until every event of a service was handled or given up.
    async fn nothing_waits(&self, service: &str) {
        eventually("nothing waits", BOUND, || async {
            let told = self.told_by(service).await;
            let waits = |event: &Value| event["waiting_for"].as_array().is_some_and(|waiting| !waiting.is_empty());
            Ok((!told.iter().any(waits)).then_some(()))
        })
        .await
        .unwrap();
    }

    /// Has everything that a service told told again, two events a call; gives how many.
    async fn replay(&self, service: &str, consumer: &str, again: bool) -> u64 {
        let (mut queued, mut next) = (0, "0".to_owned());
        loop {
            let asked = json!({"service": service, "consumer": consumer, "from_sequence": next, "max_events": 2, "again": again});
            let answer = self.operator.post(REPLAY, &asked).await.unwrap().expect(200).unwrap().json().unwrap();
            queued += answer["queued"].as_u64().unwrap();
            next = answer["next_sequence"].as_str().unwrap().to_owned();
            if next == "0" {
                break;
            }
        }
        self.nothing_waits(service).await;
        queued
    }
}

fn id(letter: &Value) -> &str {
    letter["dead_letter_id"].as_str().unwrap()
}

fn refused(reply: &Reply, status: u16, reason: &str) {
    assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{}: {}", reply.asked, reply.text());
}

/// Webhooks of new titles, and the ids of the titles that they told of.
struct Told {
    receiver: Receiver,
    deliveries: String,
}

impl Told {
    async fn about(scene: &Scene) -> Self {
        let receiver = Receiver::start().await.unwrap();
        let hook = json!({"url": receiver.url(), "event_types": ["metadata.created"]});
        let made = scene.creator.post("/api/v1/webhooks", &hook).await.unwrap().expect(200).unwrap().json().unwrap();
        let endpoint = made["endpoint"]["endpoint_id"].as_str().unwrap();
        Self { receiver, deliveries: format!("/api/v1/webhooks/{endpoint}/deliveries?page_size=100") }
    }

    /// The titles that were told of. The same `webhook-id` again is the same delivery.
    fn titles(&self) -> BTreeSet<(String, String)> {
        let of = |hook: Hook| {
            let title = hook.body["data"]["content_id"].as_str().unwrap().to_owned();
            (title, hook.header("webhook-id").to_owned())
        };
        self.receiver.got().into_iter().map(of).collect()
    }

    /// Waits until each of these titles was told of by one delivery, and no other was.
    async fn once(&self, scene: &Scene, titles: &[&str]) {
        let told = eventually("the titles are told of", BOUND, || async {
            Ok(Some(self.titles()).filter(|told| told.len() >= titles.len()))
        });
        let told: Vec<String> = told.await.unwrap().into_iter().map(|(title, _)| title).collect();
        let mut titles = titles.to_vec();
        titles.sort_unstable();
        assert_eq!(told, titles);
        let made = scene.creator.get(&self.deliveries).await.unwrap().expect(200).unwrap().json().unwrap();
        assert_eq!(made["deliveries"].as_array().unwrap().len(), titles.len(), "{made}");
    }
}

#[tokio::test]
async fn an_operator_sees_what_a_consumer_could_not_take_and_has_it_taken_later() {
    let scene = Scene::set().await;
    let told = Told::about(&scene).await;
    let before = scene.title("before").await;
    told.once(&scene, &[&before]).await;

    // The worker's database was brought back from a copy without the messages of webhooks.
    scene.platform.meddle_with_rows("worker", "ALTER TABLE webhook_messages RENAME TO somewhere_else").await.unwrap();
    let mut lost = Vec::new();
    for name in ["retried", "dropped", "told again"] {
        lost.push(scene.title(name).await);
    }
    for title in &lost {
        let events = scene.pages(&format!("{EVENTS}?service=metadata&subject={title}"), "events").await;
        assert_eq!((events.len(), &events[0]["waiting_for"]), (1, &json!(["worker"])), "{events:?}");
    }
    // Twenty failures take ten minutes: nineteen are noted as if they had been.
    let hurry = "UPDATE outbox_deliveries SET strikes = 19 WHERE consumer = 'worker'";
    scene.platform.meddle_with_rows("metadata", hurry).await.unwrap();
    let letters = eventually("three dead letters", BOUND, || async {
        Ok(Some(scene.dead_letters().await).filter(|letters| letters.len() == 3))
    });
    let letters = letters.await.unwrap();
    for title in &lost {
        let letter = letters.iter().find(|letter| letter["event"]["subject"] == title.as_str()).unwrap();
        assert_eq!(letter["event"]["type"], "streamgate.metadata.created");
        assert_eq!((&letter["consumer"], &letter["reason"]), (&json!("worker"), &json!("internal")), "{letter}");
        assert!(letter["attempts"].as_u64().unwrap() > 0 && letter["dead_time"].is_string(), "{letter}");
    }
    let letter = |number: usize| letters.iter().find(|letter| letter["event"]["subject"] == lost[number].as_str()).unwrap();
    nobody_else_sees_or_mends(&scene, letter(0)).await;

    scene.platform.meddle_with_rows("worker", "ALTER TABLE somewhere_else RENAME TO webhook_messages").await.unwrap();
    let retry = json!({"service": "metadata", "dead_letter_id": id(letter(0))});
    scene.operator.post(RETRY, &retry).await.unwrap().expect(200).unwrap();
    told.once(&scene, &[&before, &lost[0]]).await;
    refused(&scene.operator.post(RETRY, &retry).await.unwrap(), 404, "dead_letter_not_found");

    let drop = format!("{DEAD_LETTERS}?service=metadata&dead_letter_id={}", id(letter(1)));
    scene.operator.send(scene.operator.request(Method::DELETE, &drop).unwrap()).await.unwrap().expect(200).unwrap();
    let left = scene.dead_letters().await;
    assert_eq!(left.iter().map(id).collect::<Vec<_>>(), [id(letter(2))]);
    let gone = scene.operator.send(scene.operator.request(Method::DELETE, &drop).unwrap()).await.unwrap();
    refused(&gone, 404, "dead_letter_not_found");

    // What was dropped can still be told again, and what was told again can still be retried: nobody hears it twice.
    assert_eq!(scene.replay("metadata", "worker", false).await, 4);
    let all = [before.as_str(), &lost[0], &lost[1], &lost[2]];
    told.once(&scene, &all).await;
    let retry = json!({"service": "metadata", "dead_letter_id": id(letter(2))});
    scene.operator.post(RETRY, &retry).await.unwrap().expect(200).unwrap();
    assert_eq!(scene.dead_letters().await, Vec::<Value>::new());
    scene.nothing_waits("metadata").await;
    told.once(&scene, &all).await;
}

async fn nobody_else_sees_or_mends(scene: &Scene, letter: &Value) {
    let calls = [
        (Method::GET, format!("{EVENTS}?service=metadata"), json!({})),
        (Method::GET, format!("{DEAD_LETTERS}?service=metadata"), json!({})),
        (Method::POST, RETRY.to_owned(), json!({"service": "metadata", "dead_letter_id": id(letter)})),
        (Method::DELETE, format!("{DEAD_LETTERS}?service=metadata&dead_letter_id={}", id(letter)), json!({})),
        (Method::POST, REPLAY.to_owned(), json!({"service": "metadata", "consumer": "worker", "again": true})),
    ];
    for (method, path, body) in calls {
        let by_creator = scene.creator.call(method.clone(), &path, &body).await.unwrap();
        assert_eq!(by_creator.status, 403, "{method} {path}: {}", by_creator.text());
        let by_nobody = scene.creator.anonymous().call(method.clone(), &path, &body).await.unwrap();
        assert_eq!(by_nobody.status, 401, "{method} {path}: {}", by_nobody.text());
    }
    assert_eq!(scene.dead_letters().await.len(), 3, "somebody else changed something");
    scene.nothing_waits("metadata").await;
}

/// How often metadata has handled events, by what became of them.
async fn handled(scene: &Scene) -> [u64; 3] {
    let mut counts = [0; 3];
    for (count, outcome) in counts.iter_mut().zip(["applied", "ignored", "repeated"]) {
        let label = format!("outcome=\"{outcome}\"");
        let port = scene.platform.ports().of("metadata");
        *count = counted(port, "streamgate_metadata_events_total", &label).await.unwrap();
    }
    counts
}

#[tokio::test]
async fn what_is_told_again_is_not_done_again() {
    let scene = Scene::set().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("noise.mp4");
    std::fs::write(&file, [7; 4096]).unwrap();
    let sent = scene.creator.upload(&file, "no video at all").await.unwrap();
    let content_id = sent["content_id"].as_str().unwrap();
    settled(&scene.creator, content_id).await.unwrap();
    scene.nothing_waits("upload").await;
    scene.nothing_waits("transcoder").await;

    let told = scene.told_by("transcoder").await;
    let ends = [told.first(), told.last()].map(|event| event.unwrap()["event"]["type"].as_str().unwrap());
    assert_eq!(ends, ["streamgate.transcoding.started", "streamgate.transcoding.failed"]);
    let told = told.len() as u64;
    let jobs = format!("/api/v1/transcode/jobs?content_id={content_id}");
    let as_it_is = async || {
        let jobs = scene.creator.get(&jobs).await.unwrap().expect(200).unwrap().json().unwrap();
        (scene.creator.content(content_id).await.unwrap(), jobs)
    };
    let before = as_it_is().await;
    assert_eq!(before.1["jobs"].as_array().unwrap().len(), 1);

    let [applied, ignored, repeated] = handled(&scene).await;
    for consumer in ["metadata", "transcoder", "worker"] {
        assert_eq!(scene.replay("upload", consumer, false).await, 1, "{consumer}");
    }
    assert_eq!(scene.replay("transcoder", "metadata", false).await, told);
    let after = handled(&scene).await;
    assert_eq!(after[..2], [applied, ignored]);
    assert!(after[2] > repeated + told, "{} events came again, and {told} and one were sent", after[2] - repeated);
    assert_eq!(as_it_is().await, before);

    // Only when it is asked for, it is handled anew.
    assert_eq!(scene.replay("transcoder", "metadata", true).await, told);
    let anew = handled(&scene).await;
    assert!(anew[0] + anew[1] >= applied + ignored + told, "{after:?}, then {anew:?}");
    assert_eq!(as_it_is().await.1, before.1);
}
