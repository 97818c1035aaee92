//! The edge in front of small services of its own, over HTTP and gRPC.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::time::Duration;

use common::{Edge, JSON, SEGMENT, SIGNED_IN, assert_problem};
use prost::Message as _;
use serde_json::json;
use streamgate_api_gateway::Config;
use streamgate_proto::streamgate::upload::v1::{ListUploadsRequest, ListUploadsResponse};
use streamgate_testkit::eventually_every;

#[tokio::test]
async fn a_get_carries_query_identity_and_request_id_to_its_service() {
    let edge = Edge::start();
    let reply = edge
        .call("GET", "/api/v1/uploads?pageSize=7", &[SIGNED_IN, ("x-request-id", "r-1"), ("x-streamgate-service", "forged")], "")
        .await;
    assert_eq!((reply.status, reply.json()), (200, json!({"uploads": [], "next_page_token": "after 7"})));
    assert_eq!(reply.header("x-request-id"), "r-1");
    assert_eq!(reply.header("x-content-type-options"), "nosniff");
    let log = edge.seen.0.lock().unwrap();
    assert_eq!(log.headers[0]["authorization"], "Bearer sgk_1");
    assert_eq!(log.headers[0]["x-request-id"], "r-1");
    assert!(!log.headers[0].contains_key("x-streamgate-service"));
}

#[tokio::test]
async fn an_idempotency_key_becomes_the_request_id_of_the_message() {
    let edge = Edge::start();
    let body = r#"{"filename": "a.mp4", "sizeBytes": "12"}"#;
    let reply = edge.call("POST", "/api/v1/uploads", &[SIGNED_IN, JSON, ("idempotency-key", "k-1")], body).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.json()["upload"]["offset_bytes"], "0");
    assert_eq!(reply.json()["upload"]["state"], "UPLOAD_STATE_OPEN");
    let given = r#"{"filename": "a.mp4", "request_id": "own"}"#;
    let other = edge.call("POST", "/api/v1/uploads", &[SIGNED_IN, JSON, ("idempotency-key", "k-1")], given).await;
    assert_problem(&other, 400, "invalid_argument");
    let same = r#"{"filename": "a.mp4", "request_id": "k-1"}"#;
    assert_eq!(edge.call("POST", "/api/v1/upload", &[SIGNED_IN, JSON, ("idempotency-key", "k-1")], same).await.status, 200);
    let log = edge.seen.0.lock().unwrap();
    assert_eq!((log.created[0].request_id.as_str(), log.created[0].size_bytes), ("k-1", 12));
    assert_eq!((log.created[1].request_id.as_str(), log.created.len()), ("k-1", 2));
}

#[tokio::test]
async fn a_key_that_can_not_be_kept_is_refused() {
    let edge = Edge::start();
    let key = ("idempotency-key", "k-1");
    let refused = edge.call("POST", "/api/v1/auth/login", &[JSON, key], "{}").await;
    assert_problem(&refused, 400, "idempotency_key_unsupported");
    assert_eq!(edge.call("DELETE", "/api/v1/uploads/upl_1", &[SIGNED_IN, key], "").await.status, 200);
    assert_eq!(edge.call("POST", "/api/v1/upload/complete", &[SIGNED_IN, JSON, key], r#"{"upload_id": "u"}"#).await.status, 200);
}

#[tokio::test]
async fn a_read_that_has_not_changed_is_not_sent_again() {
    let edge = Edge::start();
    let first = edge.call("GET", "/api/v1/uploads", &[SIGNED_IN], "").await;
    assert_eq!((first.header("cache-control"), first.header("etag").starts_with("W/\"")), ("private, no-cache", true));
    let again = edge.call("GET", "/api/v1/uploads", &[SIGNED_IN, ("if-none-match", first.header("etag"))], "").await;
    assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, first.header("etag")));
    let other = edge.call("GET", "/api/v1/uploads?page_size=2", &[SIGNED_IN, ("if-none-match", first.header("etag"))], "").await;
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn a_change_that_needs_no_body_is_answered_without_one() {
    let edge = Edge::start();
    let reply = edge.call("DELETE", "/api/v1/uploads/upl_1", &[SIGNED_IN, ("prefer", "return=minimal")], "").await;
    assert_eq!((reply.status, reply.body.len(), reply.header("preference-applied")), (204, 0, "return=minimal"));
}

#[tokio::test]
async fn a_caller_sees_how_much_is_left() {
    let edge = Edge::start();
    let reply = edge.call("GET", "/api/v1/uploads", &[SIGNED_IN], "").await;
    assert_eq!(reply.header("ratelimit-policy"), "\"default\";q=400;w=4");
    assert!(reply.header("ratelimit").starts_with("\"default\";r=399;t="), "{}", reply.header("ratelimit"));
}

#[tokio::test]
async fn of_two_credentials_none_counts() {
    let edge = Edge::start();
    let (one, other) = (("authorization", "Bearer sgk_1"), ("authorization", "Bearer sgk_2"));
    for path in ["/api/v1/uploads", "/play/pbk_1.m3u8", "/play/pbk_1.m3u8?token=t"] {
        assert_problem(&edge.call("GET", path, &[one, other], "").await, 401, "token_invalid");
    }
    let headers = [one, one, ("content-type", "application/grpc")];
    let call = edge.call("POST", "/streamgate.upload.v1.UploadService/ListUploads", &headers, framed(&())).await;
    assert_eq!((call.status, call.header("grpc-status")), (200, "16"));
    assert!(edge.seen.0.lock().unwrap().headers.is_empty());
}

#[tokio::test]
async fn path_variables_reach_the_message() {
    let reply = Edge::start().call("DELETE", "/api/v1/sessions/ses%2F1", &[SIGNED_IN], "").await;
    assert_eq!((reply.status, reply.json()["session"]["session_id"].clone()), (200, json!("ses/1")));
}

#[tokio::test]
async fn each_way_to_go_wrong_is_a_problem_document() {
    let edge = Edge::start();
    let call = async |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        edge.call(method, path, headers, body.to_owned()).await
    };
    assert_problem(&call("GET", "/nope", &[], "").await, 404, "unknown_path");
    assert_problem(&call("GET", "/api/v1/contents/%zz", &[], "").await, 400, "malformed_request");
    let wrong = call("POST", "/api/v1/version", &[], "").await;
    assert_problem(&wrong, 405, "wrong_method");
    assert_eq!(wrong.header("allow"), "GET, HEAD, OPTIONS");
    assert_problem(&call("DELETE", "/", &[], "").await, 405, "wrong_method");
    assert_problem(&call("POST", "/api/v1/uploads", &[("content-type", "text/plain")], "{}").await, 415, "wrong_media_type");
    let broken = call("POST", "/api/v1/uploads", &[JSON], "{\"filename\": ").await;
    assert_problem(&broken, 400, "malformed_request");
    assert!(broken.json()["detail"].as_str().unwrap().contains("line 1"));
    let unknown = call("POST", "/api/v1/uploads", &[JSON], r#"{"gate": {"erc721": {"adress": "0x"}}}"#).await;
    assert_problem(&unknown, 400, "invalid_argument");
    assert_eq!(unknown.json()["errors"][0]["field"], "gate.erc721.adress");
    assert_eq!(call("GET", "/api/v1/uploads?page=1", &[], "").await.json()["errors"][0]["field"], "page");
    assert_problem(&call("POST", "/api/v1/uploads", &[JSON], &" ".repeat(1024 * 1024 + 1)).await, 413, "body_too_large");
}

#[tokio::test]
async fn what_a_service_refuses_keeps_its_reason() {
    let edge = Edge::start();
    let missing = edge.call("POST", "/api/v1/uploads", &[JSON], "{}").await;
    assert_problem(&missing, 401, "credentials_missing");
    assert!(missing.header("www-authenticate").starts_with("Bearer"));
    let away = edge.call("POST", "/api/v1/sessions", &[JSON], "{}").await;
    assert_problem(&away, 503, "ownership_unknown");
    assert_eq!(away.header("retry-after"), "5");
    let inner = edge.call("GET", "/api/v1/sessions/s", &[], "").await;
    assert_problem(&inner, 500, "internal");
    assert!(!inner.json().to_string().contains("secret"));
    assert_eq!(edge.call("GET", "/api/v1/jobs", &[], "").await.status, 503, "a service that is not there is unavailable");
}

#[tokio::test]
async fn the_edge_says_which_services_do_not_answer() {
    let reply = Edge::start().call("GET", "/api/v1/health", &[], "").await;
    assert_eq!((reply.status, reply.json()["status"].clone()), (200, json!("degraded")));
    assert_eq!(reply.json()["unavailable"].as_array().unwrap().len(), 8);
}

#[tokio::test]
async fn pages_of_other_origins_may_call_with_a_bearer() {
    let asked = [
        ("origin", "https://other.example"),
        ("access-control-request-method", "PUT"),
        ("access-control-request-headers", "authorization"),
    ];
    let reply = Edge::start().call("OPTIONS", "/api/v1/contents/c/gate", &asked, "").await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), "*");
    assert_eq!(reply.header("access-control-allow-headers"), "authorization");
    assert!(reply.header("access-control-allow-methods").contains("PUT"));
    assert!(!reply.headers.contains_key("access-control-allow-credentials"));
}

#[tokio::test]
async fn a_caller_that_calls_too_often_is_told_to_wait() {
    let mut config = Config::default();
    config.rates.identity_per_second = 1;
    config.rates.burst_seconds = 1;
    let edge = Edge::with(&config);
    let call = async || edge.call("GET", "/api/v1/uploads", &[SIGNED_IN], "").await;
    assert_eq!(call().await.status, 200);
    // On a machine that stands still for a second the next call is one that may be made.
    let refusal = async || Ok(Some(call().await).filter(|reply| reply.status != 200));
    let refused = eventually_every(Duration::ZERO, "a call is one too many", Duration::from_secs(60), refusal).await.unwrap();
    assert_problem(&refused, 429, "rate_limited");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(edge.call("GET", "/api/v1/uploads", &[("authorization", "Bearer other")], "").await.status, 200);
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [&[0], &length[..], &bytes].concat()
}

#[tokio::test]
async fn grpc_passes_through_and_nobody_poses_as_a_service() {
    let edge = Edge::start();
    let headers = [
        SIGNED_IN,
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("x-streamgate-service", "forged"),
        ("x-streamgate-on-behalf", "forged"),
    ];
    let body = framed(&ListUploadsRequest { page_size: 3, page_token: String::new() });
    let reply = edge.call("POST", "/streamgate.upload.v1.UploadService/ListUploads", &headers, body).await;
    assert_eq!(reply.status, 200);
    assert_eq!(ListUploadsResponse::decode(&reply.body[5..]).unwrap().next_page_token, "after 3");
    let log = edge.seen.0.lock().unwrap();
    assert!(log.headers[0].keys().all(|name| !name.as_str().starts_with("x-streamgate-")));
    assert_eq!(log.headers[0]["authorization"], "Bearer sgk_1");
}

#[tokio::test]
async fn internal_grpc_calls_are_refused_at_the_edge() {
    let edge = Edge::start();
    for path in ["/streamgate.upload.v1.UploadService/SweepUploads", "/streamgate.events.v1.EventService/Deliver"] {
        let reply = edge
            .call("POST", path, &[("content-type", "application/grpc"), ("x-streamgate-service", "forged")], framed(&()))
            .await;
        assert_eq!(reply.header("grpc-status"), "7", "{path}");
    }
    let unknown = edge.call("POST", "/some.other.Service/Call", &[("content-type", "application/grpc")], framed(&())).await;
    assert_eq!((unknown.status, unknown.header("grpc-status")), (200, "5"));
}

#[tokio::test]
async fn grpc_web_passes_through_with_its_trailers_in_the_body() {
    let edge = Edge::start();
    let body = framed(&ListUploadsRequest { page_size: 4, page_token: String::new() });
    let reply = edge
        .call("POST", "/streamgate.upload.v1.UploadService/ListUploads", &[("content-type", "application/grpc-web+proto")], body)
        .await;
    assert_eq!(reply.header("content-type"), "application/grpc-web+proto");
    let text = String::from_utf8_lossy(&reply.body);
    assert!(text.contains("after 4") && text.contains("grpc-status:0"), "{text}");
    let own = edge
        .call(
            "POST",
            "/streamgate.gateway.v1.GatewayService/GetVersion",
            &[("content-type", "application/grpc-web+proto")],
            framed(&()),
        )
        .await;
    assert!(String::from_utf8_lossy(&own.body).contains("streamgate"));
}

#[tokio::test]
async fn a_segment_is_sent_whole_in_part_and_not_at_all() {
    let edge = Edge::start();
    let read = async |headers: &[(&str, &str)]| edge.call("GET", "/play/pbk_1/v720/00001.m4s?token=t", headers, "").await;
    let whole = read(&[]).await;
    assert_eq!((whole.status, &whole.body[..]), (200, SEGMENT));
    assert_eq!(whole.header("cache-control"), "private, max-age=600, immutable");
    assert!(whole.headers.get_all("vary").iter().any(|names| names == "authorization, cookie"), "{:?}", whole.headers);
    assert_eq!((whole.header("etag"), whole.header("content-length")), ("\"t1\"", "10"));
    let some = read(&[("range", "bytes=2-5")]).await;
    assert_eq!((some.status, &some.body[..], some.header("content-range")), (206, &b"2345"[..], "bytes 2-5/10"));
    let outside = read(&[("range", "bytes=10-")]).await;
    assert_problem(&outside, 416, "range_not_satisfiable");
    assert_eq!(outside.header("content-range"), "bytes */10");
    let known = read(&[("if-none-match", "W/\"t1\"")]).await;
    assert_eq!((known.status, known.body.len(), known.header("etag")), (304, 0, "\"t1\""));
    assert_eq!(read(&[("range", "bytes=2-5"), ("if-range", "\"old\"")]).await.status, 200);
    assert_eq!(read(&[("range", "bytes=2-5"), ("if-range", "\"t1\"")]).await.status, 206);
    for range in [&[][..], &[("range", "bytes=2-5"), ("if-range", "\"t1\"")]] {
        let head = edge.call("HEAD", "/play/pbk_1/v720/00001.m4s?token=t", range, "").await;
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, "10"), "a range is for GET alone");
    }
}

#[tokio::test]
async fn an_identity_opens_an_entry_and_gets_a_cookie() {
    let edge = Edge::start();
    let entry = edge.call("GET", "/play/pbk_1.m3u8", &[SIGNED_IN], "").await;
    assert_eq!((entry.status, entry.header("cache-control")), (200, "private, no-cache"));
    let cookies: Vec<_> = entry.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(
        cookies[0].starts_with("sg_play=fresh; HttpOnly; SameSite=Lax; Path=/play/pbk_1;") && cookies[0].ends_with("; Secure")
    );
    let below = edge.call("GET", "/play/pbk_1/v720/1.m4s", &[("cookie", "sg_play=fresh")], "").await;
    assert_eq!(below.status, 200);
    let log = edge.seen.0.lock().unwrap();
    assert_eq!((log.reads[0].path.as_str(), log.reads[0].token.as_str()), ("master.m3u8", ""));
    assert_eq!((log.reads[1].path.as_str(), log.reads[1].token.as_str()), ("v720/1.m4s", "fresh"));
    assert!(!log.headers[1].contains_key("authorization"));
}

#[tokio::test]
async fn a_refused_viewer_learns_what_is_unmet() {
    let refused = Edge::start().call("GET", "/play/pbk_1.mpd", &[], "").await;
    assert_problem(&refused, 403, "gate_not_met");
    assert_eq!(refused.json()["unmet"], json!(["hold 1"]));
    assert_eq!(refused.header("cache-control"), "no-store");
}

#[tokio::test]
async fn no_path_leads_out_of_a_title() {
    let edge = Edge::start();
    for path in [
        "/play/pbk_1/../../etc/passwd",
        "/play/pbk_1/%2e%2e/%2e%2e/x",
        "/play/pbk_1/a%2f..%2fb",
        "/play/pbk_1/..%5cx",
        "/play//x",
    ] {
        assert_problem(&edge.call("GET", &format!("{path}?token=t"), &[], "").await, 404, "unknown_path");
    }
    assert!(edge.seen.0.lock().unwrap().reads.is_empty());
    assert_problem(&edge.call("POST", "/play/pbk_1.m3u8", &[], "").await, 405, "wrong_method");
}

#[tokio::test]
async fn pages_come_with_a_policy_that_allows_no_inline_script() {
    let edge = Edge::start();
    for path in ["/", "/watch/pbk_1"] {
        let page = edge.call("GET", path, &[], "").await;
        assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
        assert!(page.header("content-security-policy").contains("script-src 'self';"));
        assert_eq!((page.header("x-frame-options"), page.header("referrer-policy")), ("DENY", "no-referrer"));
    }
    let script = edge.call("GET", "/assets/studio.js", &[], "").await;
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    let tag = script.header("etag");
    for known in [tag.to_owned(), format!("W/{tag}"), format!("\"a,b\", W/{tag}"), "*".to_owned()] {
        let again = edge.call("GET", "/assets/studio.js", &[("if-none-match", known.as_str())], "").await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, tag), "{known}");
    }
    assert_eq!(edge.call("GET", "/assets/studio.js", &[("if-none-match", "\"a\", \"b\"")], "").await.status, 200);
    assert_problem(&edge.call("GET", "/assets/..%2fCargo.toml", &[], "").await, 404, "unknown_path");
    assert_problem(&edge.call("GET", "/assets/%ff", &[], "").await, 404, "unknown_path");
    assert_problem(&edge.call("GET", "/api/v1/uploads/%ff", &[], "").await, 404, "unknown_path");
    assert_eq!(edge.call("GET", "/openapi.json", &[], "").await.json()["openapi"], "3.1.0");
}
