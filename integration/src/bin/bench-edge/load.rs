//! The calls, the clients that make them, and the CPU they cost the process that answers.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::{Method, header::CONTENT_TYPE};
use serde_json::json;

use crate::contestant::Contestant;

/// Units of `/proc/PID/stat` in a second, on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A REST call.
#[derive(Debug, Clone)]
pub struct Call {
    method: Method,
    path: &'static str,
    body: Option<String>,
}

impl Call {
    /// Reads a title.
    pub fn read() -> Self {
        Self { method: Method::GET, path: "/api/v1/contents/cnt_01jd3v8yh2f5r8w0k4m6n7p9qs", body: None }
    }

    /// Makes a title.
    pub fn write() -> Self {
        let contract = "0x52908400098527886e0f7030069857d2e4169ee7";
        let body = json!({
            "title": "A walk through the old harbour \u{2013} part 2",
            "description": "Boats, gulls and \"one\" very patient cat.",
            "tags": ["harbour", "walk", "boats", "one take"],
            "attributes": {"camera": "handheld"},
            "gate": {"all": {"rules": [{"signed_in": {}}, {"erc721": {"chain": "eip155:1", "contract": contract}}]}},
        });
        Self { method: Method::POST, path: "/api/v1/contents", body: Some(body.to_string()) }
    }

    /// Makes it once, on a connection of its own.
    pub async fn once(&self, url: &str) -> Result<Bytes> {
        self.send(&client()?, url).await
    }

    async fn send(&self, client: &reqwest::Client, url: &str) -> Result<Bytes> {
        let mut request = client.request(self.method.clone(), format!("{url}{}", self.path));
        if let Some(body) = &self.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        let answer = request.bearer_auth("sgk_an_api_key_that_the_service_behind_would_check").send().await?;
        let (status, body) = (answer.status(), answer.bytes().await?);
        ensure!(status.is_success(), "{status}: {}", String::from_utf8_lossy(&body));
        Ok(body)
    }
}

/// Makes `calls` calls; the CPU microseconds that one cost.
pub async fn measure(contestant: &Contestant, call: &Call, calls: usize, clients: usize) -> Result<f64> {
    let before = cpu_seconds(contestant.process_id())?;
    let each = calls.div_ceil(clients);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..clients {
        let (call, url) = (call.clone(), contestant.url().to_owned());
        tasks.spawn(async move {
            let client = client()?;
            for _ in 0..each {
                call.send(&client, &url).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    let spent = cpu_seconds(contestant.process_id())? - before;
    #[allow(clippy::cast_precision_loss, reason = "a count of calls is far below 2^52")]
    Ok(spent * 1e6 / (each * clients) as f64)
}

fn client() -> Result<reqwest::Client> {
    Ok(reqwest::Client::builder().http1_only().pool_max_idle_per_host(1).build()?)
}

/// CPU that a process and its ended children have used.
fn cpu_seconds(process: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).context("it has ended")?;
    // The name, in brackets, may hold blanks.
    let after_name = stat.rsplit_once(')').context("no process line")?.1;
    let ticks = after_name.split_whitespace().skip(11).take(4).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>()? / TICKS_PER_SECOND)
}
