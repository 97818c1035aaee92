//! What an enemy tries at the edge: nothing of it opens, breaks or blocks anything.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use serde_json::{Value, json};
use streamgate_core::access::Access;
use streamgate_integration::rest::{Reply, Rest};
use streamgate_proto::METHOD_ACCESS;
use streamgate_testkit::Platform;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How long an answer to raw bytes may take.
const BOUND: Duration = Duration::from_secs(60);

struct Scene {
    platform: Platform,
    edge: Rest,
    creator: Rest,
    operator: Rest,
}

impl Scene {
    async fn set() -> Self {
        // Else it would be told to slow down before it has tried everything.
        let builder = ["IDENTITY", "ADDRESS"].into_iter().fold(Platform::builder(), |builder, what| {
            builder.env(format!("STREAMGATE_API_GATEWAY__RATES__{what}_PER_SECOND"), "0")
        });
        let platform = builder.start().await.unwrap();
        let edge = Rest::new(&platform.url()).unwrap();
        let key = |role| edge.with_bearer(platform.api_key(role).unwrap());
        Self { creator: key("creator"), operator: key("operator"), edge, platform }
    }

    /// Sends bytes as they are, and reads until the other end closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.platform.ports().of("gateway"))).await.unwrap();
        // The other end may close before it has read everything.
        drop(stream.write_all(bytes).await);
        let mut answer = Vec::new();
        let to_the_end = async { while let Ok(1..) = stream.read_buf(&mut answer).await {} };
        let closed = tokio::time::timeout(BOUND, to_the_end).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(closed.is_ok(), "the edge does not close: {answer}");
        answer
    }
}

/// Statuses of all answers in a stream of them.
fn statuses(answers: &str) -> Vec<u16> {
    let lines = answers.split("HTTP/1.1 ").skip(1);
    lines.filter_map(|line| line.get(..3)?.parse().ok()).collect()
}

fn assert_harmless(what: &str, answer: &Reply) {
    assert!((400..500).contains(&answer.status), "{what}: {} {}", answer.status, answer.text());
}

#[tokio::test]
async fn an_enemy_at_the_edge_gets_nowhere() {
    let scene = Scene::set().await;
    requests_that_mean_two_things_are_refused(&scene).await;
    what_the_mesh_says_of_itself_is_not_believed_from_outside(&scene).await;
    internal_calls_stay_inside_however_they_are_written(&scene).await;
    detours_lead_nowhere(&scene).await;
    forged_page_tokens_show_nothing_and_break_nothing(&scene).await;
    what_is_too_much_is_refused(&scene).await;
    webhooks_lead_to_nothing_inside(&scene).await;
    // After all that, it serves as before.
    scene.creator.get("/api/v1/contents").await.unwrap().expect(200).unwrap();
    scene.edge.get("/ready").await.unwrap().expect(200).unwrap();
}

async fn requests_that_mean_two_things_are_refused(scene: &Scene) {
    let key = scene.creator.bearer().unwrap();
    let hidden = format!("GET /api/v1/contents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n");
    let post = |headers: &str, body: &str| format!("POST /api/v1/contents HTTP/1.1\r\nhost: x\r\n{headers}\r\n\r\n{body}");
    let cases = [
        ("two lengths", post("content-length: 5\r\ncontent-length: 6", "{}   ")),
        ("a length with a sign", post("content-length: +5", "{}   ")),
        ("a length in hex", post("content-length: 0x5", "{}   ")),
        ("a length below zero", post("content-length: -1", "{}")),
        ("a list of lengths", post("content-length: 5, 6", "{}   ")),
        ("an unknown coding", post("transfer-encoding: xchunked", "0\r\n\r\n")),
        ("chunked is not last", post("transfer-encoding: chunked, identity", "0\r\n\r\n")),
        ("a chunk of a size that overflows", post("transfer-encoding: chunked", "fffffffffffffffff\r\n{}\r\n0\r\n\r\n")),
        ("a space before the colon", post("content-length : 2", "{}")),
        ("a folded header", post("authorization: Bearer\r\n abc\r\ncontent-length: 2", "{}")),
        ("a bare return in a header", post("x-a: b\rauthorization: c\r\ncontent-length: 2", "{}")),
        ("a NUL in a header", post("x-a: b\0c\r\ncontent-length: 2", "{}")),
        ("no version", "GET /api/v1/contents\r\n\r\n".to_owned()),
        ("a version that is none", "GET /api/v1/contents HTTP/9.9\r\nhost: x\r\n\r\n".to_owned()),
        ("a header without an end", format!("GET / HTTP/1.1\r\nx-long: {}\r\n\r\n", "a".repeat(1024 * 1024))),
        ("ten thousand headers", format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000))),
    ];
    for (what, request) in cases {
        let answers = scene.raw(request.as_bytes()).await;
        assert!(statuses(&answers).iter().all(|status| (400..500).contains(status)), "{what}: {answers}");
    }
    // Length and coding at once: whichever counts, what follows must not be heard as somebody's request.
    let both = post("content-length: 6\r\ntransfer-encoding: chunked", &format!("0\r\n\r\n{hidden}"));
    let answers = scene.raw(both.as_bytes()).await;
    assert!(!statuses(&answers).contains(&200), "a request inside a body was answered: {answers}");
    // A whole address in the request line leads nowhere else.
    let elsewhere = "GET http://127.0.0.1:1/api/v1/contents HTTP/1.1\r\nhost: 127.0.0.1:1\r\nconnection: close\r\n\r\n";
    assert_eq!(statuses(&scene.raw(elsewhere.as_bytes()).await), [401]);
    let tunnel = "CONNECT 127.0.0.1:22 HTTP/1.1\r\nhost: 127.0.0.1:22\r\nconnection: close\r\n\r\n";
    assert!(!statuses(&scene.raw(tunnel.as_bytes()).await).contains(&200));
}

async fn what_the_mesh_says_of_itself_is_not_believed_from_outside(scene: &Scene) {
    let operator = STANDARD.encode(r#"{"id":"acc_00000000000000000000000000000001","role":"operator","wallet":null}"#);
    for (name, value) in [
        ("x-streamgate-service", "worker"),
        ("x-streamgate-service", "worker.0.AAAA"),
        ("x-streamgate-on-behalf", operator.as_str()),
        ("x_streamgate_on_behalf", operator.as_str()),
        ("x-forwarded-user", "operator"),
        ("x-original-url", "/api/v1/jobs"),
    ] {
        let nobody = scene.edge.with_header(name, value);
        nobody.get("/api/v1/jobs").await.unwrap().expect(401).unwrap();
        let creator = scene.creator.with_header(name, value);
        creator.get("/api/v1/jobs").await.unwrap().expect(403).unwrap();
    }
    // Of two credentials none counts.
    let (creator, operator) = (scene.creator.bearer().unwrap(), scene.operator.bearer().unwrap());
    let both = format!(
        "GET /api/v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {creator}\r\nauthorization: Bearer {operator}\r\n\
         connection: close\r\n\r\n"
    );
    assert_eq!(statuses(&scene.raw(both.as_bytes()).await), [401]);
    let override_it = scene.creator.with_header("x-http-method-override", "DELETE");
    override_it.get("/api/v1/contents").await.unwrap().expect(200).unwrap();
}

async fn internal_calls_stay_inside_however_they_are_written(scene: &Scene) {
    let http = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let internal: Vec<&str> =
        METHOD_ACCESS.iter().map(|(path, _)| *path).filter(|path| Access::of_method(path) == Some(Access::Internal)).collect();
    assert!(internal.len() >= 10, "{internal:?}");
    for path in internal {
        let (service, method) = path[1..].split_once('/').unwrap();
        let escaped = format!("/{service}/%{:02X}{}", method.as_bytes()[0], &method[1..]);
        let ways = [path.to_owned(), format!("/{path}"), format!("{path}/"), escaped, path.to_lowercase(), format!("{path}?a=b")];
        for way in &ways {
            for kind in [
                "application/grpc",
                "application/grpc-web+proto",
                "application/grpc-web-text",
                "Application/Grpc",
                "application/json",
            ] {
                let call = http.post(format!("{}{way}", scene.platform.url())).bearer_auth(scene.operator.bearer().unwrap());
                let answer = call.header("content-type", kind).header("te", "trailers").body(vec![0_u8; 5]).send().await.unwrap();
                let status = answer.headers().get("grpc-status").map(|value| value.to_str().unwrap().to_owned());
                let refused = answer.status().is_client_error() || status.is_some_and(|status| status != "0");
                assert!(refused, "{kind} {way}: {} {:?}", answer.status(), answer.headers());
            }
        }
    }
}

async fn detours_lead_nowhere(scene: &Scene) {
    for path in [
        "/play/../api/v1/jobs",
        "/play/%2e%2e/api/v1/jobs",
        "/api/v1/contents/..%2fjobs",
        "/api/v1/contents/%2e%2e%2fjobs",
        "/api/v1//jobs",
        "//api/v1/jobs",
        "/api/v1/jobs/",
        "/api/v1/jobs;a=b",
        "/API/V1/JOBS",
        "/api/v1/jobs%00",
        "/api/v1/jobs%0d%0aauthorization:%20x",
        "/api/v1/%6aobs",
        "/docs/../../etc/passwd",
        "/assets/%2e%2e/%2e%2e/etc/passwd",
        "/.env",
        "/config/config.yaml",
    ] {
        // Sent as it stands: a client would tidy it up.
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = scene.raw(request.as_bytes()).await;
        assert!(statuses(&answer).iter().all(|status| (300..500).contains(status)), "{path}: {answer}");
        assert!(!answer.contains("root:"), "{path}: {answer}");
    }
}

/// The token with another place in the list.
fn forged(token: &str, key: &[u8]) -> String {
    let plain = hex(token);
    let mark = plain.iter().position(|byte| *byte == b'\n').expect("a token names its list and a place");
    [&plain[..=mark], key].concat().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).map(|place| u8::from_str_radix(&text[2 * place..2 * place + 2], 16).unwrap()).collect()
}

async fn forged_page_tokens_show_nothing_and_break_nothing(scene: &Scene) {
    for number in 0..3 {
        scene.creator.post("/api/v1/contents", &json!({"title": format!("secret {number}")})).await.unwrap().expect(200).unwrap();
        let hook = json!({"url": format!("https://hooks.example.org/{number}")});
        scene.creator.post("/api/v1/webhooks", &hook).await.unwrap().expect(200).unwrap();
        let job = json!({"type": "sweep_uploads", "delay_seconds": 3600});
        scene.operator.post("/api/v1/jobs", &job).await.unwrap().expect(200).unwrap();
        let schedule = json!({"schedule": {"name": format!("nightly-{number}"), "cron": "0 3 * * *", "type": "sweep_uploads"}});
        scene.operator.post("/api/v1/schedules", &schedule).await.unwrap().expect(200).unwrap();
    }
    let stranger = scene.edge.with_bearer(scene.platform.api_key("creator").unwrap());
    let (creator, operator) = (&scene.creator, &scene.operator);
    let mut tried = 0;
    for (caller, list) in [
        (creator, "/api/v1/contents"),
        (creator, "/api/v1/webhooks"),
        (creator, "/api/v1/uploads"),
        (creator, "/api/v1/sessions"),
        (creator, "/api/v1/transcode/jobs"),
        (operator, "/api/v1/jobs"),
        (operator, "/api/v1/schedules"),
        (operator, "/api/v1/auth/api-keys"),
        (operator, "/api/v1/auth/accounts"),
        (operator, "/api/v1/audit"),
        (operator, "/api/v1/monitor/alerts"),
        (operator, "/api/v1/events?service=metadata"),
        (operator, "/api/v1/monitor/logs"),
    ] {
        let joint = if list.contains('?') { '&' } else { '?' };
        let page = caller.get(&format!("{list}{joint}page_size=1")).await.unwrap();
        let token = page.json().ok().and_then(|page| page["next_page_token"].as_str().map(str::to_owned)).unwrap_or_default();
        if token.is_empty() {
            continue;
        }
        tried += 1;
        let keys: [&[u8]; 9] =
            [b"", b"\0", b"' OR 1=1 --", b"-1", b"99999999999999999999999999", b"\xff\xfe", b"~", b"1 2 3\n4", &[b'a'; 2_000]];
        for key in keys {
            let token = forged(&token, key);
            let own = caller.get(&format!("{list}{joint}page_size=1&page_token={token}")).await.unwrap();
            assert!(matches!(own.status, 200 | 400), "{list}: {} {}", own.status, own.text());
            let foreign = stranger.get(&format!("{list}{joint}page_size=1&page_token={token}")).await.unwrap();
            assert!(matches!(foreign.status, 200 | 400 | 403), "{list}: {} {}", foreign.status, foreign.text());
            let shown = foreign.text();
            assert!(!shown.contains("secret ") && !shown.contains("hooks.example.org"), "{list}: {shown}");
        }
    }
    assert!(tried >= 5, "only {tried} lists had a second page");
}

async fn what_is_too_much_is_refused(scene: &Scene) {
    for size in ["101", "4294967296", "-1", "1e3", "%00", ""] {
        let answer = scene.creator.get(&format!("/api/v1/contents?page_size={size}")).await.unwrap();
        assert!(matches!(answer.status, 400) || size.is_empty(), "{size}: {}", answer.text());
    }
    let mut deep = json!({"open": true});
    for _ in 0..100 {
        deep = json!({"all": {"rules": [deep]}});
    }
    let deeper = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let many: Vec<Value> = (0..50_000).map(|number| json!(number.to_string())).collect();
    let bodies = [
        ("a deep gate", json!({"title": "x", "gate": deep}).to_string()),
        ("deep JSON", format!(r#"{{"title": {deeper}}}"#)),
        ("many tags", json!({"title": "x", "tags": many}).to_string()),
        ("a long title", json!({"title": "x".repeat(1_000_000)}).to_string()),
        ("a large body", json!({"title": "x".repeat(64 * 1024 * 1024)}).to_string()),
        ("a NUL", json!({"title": "a\0b"}).to_string()),
        ("half a character", r#"{"title": "\ud800"}"#.to_owned()),
        ("a field twice", r#"{"title": "a", "title": 7}"#.to_owned()),
        ("an unknown field", r#"{"title": "a", "owner": "acc_1"}"#.to_owned()),
    ];
    for (what, body) in bodies {
        let request = scene.creator.request(Method::POST, "/api/v1/contents").unwrap();
        let answer = scene.creator.send(request.header("content-type", "application/json").body(body)).await;
        // A body that is far too large may be cut off before it was sent.
        if let Ok(answer) = answer {
            assert_harmless(what, &answer);
        }
    }
    let keyed = scene.creator.request(Method::POST, "/api/v1/contents").unwrap().header("idempotency-key", "k".repeat(10_000));
    assert_harmless("a long key", &scene.creator.send(keyed.json(&json!({"title": "x"}))).await.unwrap());
}

async fn webhooks_lead_to_nothing_inside(scene: &Scene) {
    for url in [
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::ffff:169.254.169.254]/latest/meta-data/",
        "https://localhost:9008/",
        "https://metadata.google.internal/",
        "https://auth/",
        "http://example.org/",
        "https://user:pass@example.org/",
        "file:///etc/passwd",
    ] {
        let answer = scene.creator.post("/api/v1/webhooks", &json!({"url": url})).await.unwrap();
        assert_eq!(answer.status, 400, "{url}: {}", answer.text());
    }
}
