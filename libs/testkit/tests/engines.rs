//! The engines that clusters in tests stand on.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{io::ErrorKind, time::Duration};

use streamgate_testkit::engines::{Engine, Nats, Postgres, Redis, S3};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// What the server says to `line`; `None` when it says nothing for half a second.
async fn answer_to(port: u16, line: &str) -> std::io::Result<Option<String>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(line.as_bytes()).await?;
    let mut answer = [0; 2048];
    match timeout(Duration::from_millis(500), stream.read(&mut answer)).await {
        Ok(length) => Ok(Some(String::from_utf8_lossy(&answer[..length?]).into_owned())),
        Err(_) => Ok(None),
    }
}

#[tokio::test]
async fn postgres_keeps_its_rows_over_a_kill_and_is_gone_with_its_handle() {
    let mut postgres = Postgres::start().await.unwrap();
    postgres.query("CREATE TABLE kept (n BIGINT); INSERT INTO kept VALUES (7)").unwrap();
    postgres.create_database("another").unwrap();
    assert!(postgres.create_database("another").unwrap_err().to_string().contains("already exists"));

    postgres.kill();
    postgres.query("SELECT 1").unwrap_err();
    postgres.restart().await.unwrap();
    assert_eq!(postgres.query("SELECT n FROM kept").unwrap(), "7");

    let port = postgres.port();
    drop(postgres);
    assert_eq!(TcpStream::connect(("127.0.0.1", port)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_paused_redis_answers_nothing_until_it_is_resumed() {
    let mut redis = Redis::start().await.unwrap();
    let port = redis.port();
    let refused = answer_to(port, "PING\r\n").await.unwrap().unwrap();
    assert!(refused.starts_with("-NOAUTH"), "{refused}");

    redis.pause();
    assert_eq!(answer_to(port, "PING\r\n").await.unwrap(), None);
    redis.resume();
    assert!(answer_to(port, "PING\r\n").await.unwrap().is_some());

    redis.stop().await.unwrap();
    redis.stop().await.unwrap();
    answer_to(port, "PING\r\n").await.unwrap_err();
    redis.restart().await.unwrap();
    answer_to(port, "PING\r\n").await.unwrap();
}

#[tokio::test]
async fn nats_offers_jetstream_also_after_its_store_was_wiped() {
    let mut nats = Nats::start().await.unwrap();
    let port = nats.url().rsplit_once(':').unwrap().1.parse().unwrap();
    nats.wipe().await.unwrap();
    answer_to(port, "").await.unwrap_err();
    nats.restart().await.unwrap();
    let greeting = answer_to(port, "").await.unwrap().unwrap();
    assert!(greeting.contains("\"jetstream\":true"), "{greeting}");
}

#[tokio::test]
async fn the_s3_servers_serve_their_bucket() {
    let (real, conditional) = (S3::start().await.unwrap(), S3::start_conditional().await.unwrap());
    let http = reqwest::Client::new();
    let unsigned = http.get(format!("{}/{}", real.url(), real.bucket())).send().await.unwrap();
    assert!(unsigned.status().is_client_error(), "a request without signature: {}", unsigned.status());

    let object = format!("{}/{}/once", conditional.url(), conditional.bucket());
    // It looks at no signature, but refuses strangers what is there already.
    let signed = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let put = || http.put(&object).header("authorization", signed).header("if-none-match", "*").body("media").send();
    assert_eq!(put().await.unwrap().status(), 200);
    assert_eq!(put().await.unwrap().status(), 412);
}
