//! Titles at the edge: their states and names for them, the way back, search, and the gate that counts at once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};
use streamgate_integration::rest::{Reply, Rest};
use streamgate_testkit::Platform;

struct Scene {
    platform: Platform,
    creator: Rest,
    other: Rest,
    viewer: Rest,
}

impl Scene {
    async fn set() -> Self {
        let platform = Platform::builder().start().await.unwrap();
        let edge = Rest::new(&platform.url()).unwrap();
        let key = |role| edge.with_bearer(platform.api_key(role).unwrap());
        Self { creator: key("creator"), other: key("creator"), viewer: key("viewer"), platform }
    }

    async fn make(&self, body: &Value) -> Value {
        self.creator.post("/api/v1/contents", body).await.unwrap().expect(200).unwrap().json().unwrap()
    }

    /// The answer to a search, with more of the query behind the words.
    async fn search(&self, who: &Rest, query: &str) -> Value {
        who.get(&format!("/api/v1/metadata/search?query={query}")).await.unwrap().expect(200).unwrap().json().unwrap()
    }
}

fn path(content: &Value) -> String {
    format!("/api/v1/contents/{}", content["content_id"].as_str().unwrap())
}

fn titles(page: &Value) -> Vec<String> {
    page["contents"].as_array().unwrap().iter().map(|content| content["title"].as_str().unwrap().to_owned()).collect()
}

fn refused(reply: &Reply, status: u16, reason: &str) {
    assert_eq!((reply.status, reply.reason().as_str()), (status, reason), "{}: {}", reply.asked, reply.text());
}

#[tokio::test]
async fn a_change_names_the_state_it_means_and_a_repeated_one_is_made_once() {
    let scene = Scene::set().await;
    let once = scene.creator.with_header("idempotency-key", "make-1");
    let body = json!({"title": "First", "tags": ["sea"], "attributes": {"season": "2"}});
    let first = once.post("/api/v1/contents", &body).await.unwrap().expect(200).unwrap();
    let again = once.post("/api/v1/contents", &body).await.unwrap().expect(200).unwrap();
    let content = first.json().unwrap();
    assert_eq!(again.json().unwrap(), content);
    refused(&once.post("/api/v1/contents", &json!({"title": "Other"})).await.unwrap(), 409, "request_id_reused");

    let path = path(&content);
    let read = scene.creator.get(&path).await.unwrap().expect(200).unwrap();
    let tag = read.header("etag").to_owned();
    assert_eq!(tag, format!("\"{}\"", content["etag"].as_str().unwrap()));
    let guarded = scene.creator.with_header("if-match", &tag);
    let changed = guarded.call(Method::PATCH, &path, &json!({"title": "Second"})).await.unwrap().expect(200).unwrap();
    assert_ne!(changed.header("etag"), tag, "another state has another name");
    let after = changed.json().unwrap();
    assert_eq!(
        (&after["title"], &after["tags"], &after["attributes"]["season"]),
        (&json!("Second"), &json!(["sea"]), &json!("2"))
    );

    for (method, path, body) in [
        (Method::PATCH, path.clone(), json!({"title": "Third"})),
        (Method::PUT, format!("{path}/gate"), json!({"everyone": {}})),
        (Method::DELETE, path.clone(), Value::Null),
    ] {
        refused(&guarded.call(method, &path, &body).await.unwrap(), 412, "etag_mismatch");
    }
    let emptied = json!({"update_mask": "tags,attributes", "title": "not named by the mask"});
    let emptied = scene.creator.call(Method::PATCH, &path, &emptied).await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!(emptied["title"], "Second");
    let is_empty = |field: &str| emptied[field].as_array().is_none_or(Vec::is_empty);
    assert!(is_empty("tags") && emptied["attributes"].as_object().is_none_or(serde_json::Map::is_empty), "{emptied}");
}

#[tokio::test]
async fn a_deleted_title_is_gone_at_once_and_comes_back_with_its_public_ids() {
    let scene = Scene::set().await;
    let content = scene.make(&json!({"title": "Phoenix", "tags": ["birds"], "gate": {"everyone": {}}})).await;
    let (path, public) = (path(&content), content["playback_ids"][0].as_str().unwrap());
    scene.viewer.session(public).await.unwrap();
    let gone = scene.creator.call(Method::DELETE, &path, &Value::Null).await.unwrap().expect(200).unwrap().json().unwrap();
    assert!(gone["purge_time"].as_str().is_some_and(|time| time.ends_with('Z')), "{gone}");

    refused(&scene.creator.get(&path).await.unwrap(), 404, "content_unknown");
    let refusal = scene.viewer.try_session(public).await.unwrap();
    assert_eq!(refusal.status, 404, "{}", refusal.text());
    assert!(titles(&scene.search(&scene.creator, "phoenix").await).is_empty());
    let deleted =
        async |who: &Rest| titles(&who.get("/api/v1/contents?deleted=true").await.unwrap().expect(200).unwrap().json().unwrap());
    assert_eq!(deleted(&scene.creator).await, ["Phoenix"]);
    assert!(deleted(&scene.other).await.is_empty());

    let undelete = format!("{path}/undelete");
    refused(&scene.other.post(&undelete, &json!({})).await.unwrap(), 404, "content_unknown");
    let back = scene.creator.post(&undelete, &json!({})).await.unwrap().expect(200).unwrap().json().unwrap();
    assert_eq!((&back["playback_ids"], &back["tags"]), (&content["playback_ids"], &content["tags"]));
    scene.viewer.session(public).await.unwrap();
    assert_eq!(titles(&scene.search(&scene.creator, "phoenix").await), ["Phoenix"]);
}

#[tokio::test]
async fn a_search_forgives_slips_counts_facets_and_shows_nobody_what_is_anothers() {
    let scene = Scene::set().await;
    for number in 0..12 {
        let tags = if number % 3 == 0 { json!(["Lakes", "alps"]) } else { json!(["alps"]) };
        scene.make(&json!({"title": format!("Mountain walk {number}"), "description": "by the lake", "tags": tags})).await;
    }
    scene.make(&json!({"title": "Café at sea"})).await;
    let page = scene.search(&scene.creator, "mountain%20wal&facets=tag&facets=status&page_size=5").await;
    assert_eq!(titles(&page).len(), 5);
    let counted = json!([
        {"name": "tag", "values": [{"value": "alps", "count": "12"}, {"value": "lakes", "count": "4"}]},
        {"name": "status", "values": [{"value": "waiting", "count": "12"}]},
    ]);
    assert_eq!(page["facets"], counted);
    assert_eq!(titles(&scene.search(&scene.creator, "CAFE").await), ["Café at sea"]);
    assert_eq!(titles(&scene.search(&scene.creator, "mountain&tags=lakes").await).len(), 4);
    let slip = scene.search(&scene.creator, "montain").await;
    assert_eq!((titles(&slip).len(), &slip["corrected"]), (12, &json!(true)));

    let (mut found, mut token) = (BTreeSet::new(), String::new());
    loop {
        let page = scene.search(&scene.creator, &format!("lake&page_size=5&page_token={token}")).await;
        for title in titles(&page) {
            assert!(found.insert(title), "a title came twice");
        }
        token = page["next_page_token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() {
            break;
        }
        let foreign = format!("/api/v1/metadata/search?query=sea&page_token={token}");
        refused(&scene.creator.get(&foreign).await.unwrap(), 400, "invalid_argument");
    }
    assert_eq!(found.len(), 12);

    for query in ["mountain", "montain", "lake&facets=owner", "mountain&tags=alps"] {
        let page = scene.search(&scene.other, query).await;
        assert!(titles(&page).is_empty() && page["corrected"] != json!(true), "{query}: {page}");
        assert!(!page.to_string().contains("alps"), "{query}: {page}");
    }
    assert_eq!(scene.viewer.get("/api/v1/metadata/search?query=mountain").await.unwrap().status, 403);
}

#[tokio::test]
async fn the_command_line_finds_titles() {
    let scene = Scene::set().await;
    for title in ["Mountain walk", "Café at sea", "Salt & sea"] {
        scene.make(&json!({"title": title})).await;
    }
    let (url, key) = (scene.platform.url(), scene.platform.api_key("creator").unwrap());
    let found = |words: &str, key: &str| {
        let printed = scene.platform.run(&["contents", "search", words, "--server", &url, "--key", key]).unwrap();
        printed.lines().map(|line| line.split("  ").last().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let own = scene.creator.bearer().unwrap();
    assert_eq!(found("cafe", own), ["Café at sea"]);
    assert_eq!(found("salt & se", own), ["Salt & sea"]);
    assert!(found("sea", &key).is_empty(), "another's titles are not there");
}

/// Playback reads titles from a near cache: what its owner changes must count for the very next viewer all the same.
#[tokio::test]
async fn a_changed_gate_counts_for_the_next_viewer() {
    let scene = Scene::set().await;
    let content = scene.make(&json!({"title": "A door"})).await;
    let (id, public) = (content["content_id"].as_str().unwrap(), content["playback_ids"][0].as_str().unwrap());
    refused(&scene.viewer.try_session(public).await.unwrap(), 403, "gate_missing");
    for _ in 0..25 {
        scene.creator.set_gate(id, &json!({"everyone": {}})).await.unwrap();
        scene.viewer.session(public).await.unwrap();
        scene.creator.set_gate(id, &json!({})).await.unwrap();
        refused(&scene.viewer.try_session(public).await.unwrap(), 403, "gate_missing");
    }
}
