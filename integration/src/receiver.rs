//! A receiver of webhooks on this machine.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use streamgate_testkit::eventually;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Longest request that is read.
const MAX_REQUEST: usize = 1024 * 1024;

/// One request that came.
#[derive(Debug, Clone)]
pub struct Hook {
    /// Header lines, lower case names.
    headers: Vec<(String, String)>,
    /// The bytes that were signed.
    raw: Vec<u8>,
    /// The same as JSON.
    pub body: Value,
}

impl Hook {
    /// A header; empty when there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// Checks the signature as Standard Webhooks says.
    ///
    /// # Errors
    /// When none of the signatures fits.
    pub fn verify(&self, secret: &[u8]) -> Result<()> {
        let mut signed = format!("{}.{}.", self.header("webhook-id"), self.header("webhook-timestamp")).into_bytes();
        signed.extend_from_slice(&self.raw);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let fits = |part: &str| {
            let given = part.strip_prefix("v1,").and_then(|text| STANDARD.decode(text).ok());
            given.is_some_and(|given| hmac::verify(&key, &signed, &given).is_ok())
        };
        ensure!(self.header("webhook-signature").split(' ').any(fits), "the signature does not fit");
        Ok(())
    }
}

/// Takes every request with 200 and keeps it.
#[derive(Debug)]
pub struct Receiver {
    url: String,
    got: Arc<Mutex<Vec<Hook>>>,
    task: JoinHandle<()>,
}

impl Receiver {
    /// Listens on a free port.
    ///
    /// # Errors
    /// When there is none.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/hook", listener.local_addr()?);
        let got: Arc<Mutex<Vec<Hook>>> = Arc::default();
        let kept = Arc::clone(&got);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Who breaks off sent nothing that could be kept.
                if let Ok(hook) = take(stream).await {
                    kept.lock().unwrap_or_else(PoisonError::into_inner).push(hook);
                }
            }
        });
        Ok(Self { url, got, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What has come, in order.
    #[must_use]
    pub fn got(&self) -> Vec<Hook> {
        self.got.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many have come.
    ///
    /// # Errors
    /// When they don't come in time.
    pub async fn wait_for(&self, count: usize, bound: Duration) -> Result<Vec<Hook>> {
        eventually("the webhooks come", bound, || async { Ok(Some(self.got()).filter(|got| got.len() >= count)) }).await
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn take(mut stream: TcpStream) -> Result<Hook> {
    let mut read = Vec::new();
    let end = loop {
        if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        more(&mut stream, &mut read).await?;
    };
    let head = String::from_utf8(read[..end].to_vec())?;
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let headers: Vec<_> = lines.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length").context("a length")?.1.parse::<usize>()?;
    while read.len() < end + 4 + length {
        more(&mut stream, &mut read).await?;
    }
    let raw = read[end + 4..end + 4 + length].to_vec();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await?;
    Ok(Hook { body: serde_json::from_slice(&raw)?, headers, raw })
}

async fn more(stream: &mut TcpStream, read: &mut Vec<u8>) -> Result<()> {
    ensure!(read.len() < MAX_REQUEST, "the request is too long");
    ensure!(stream.read_buf(read).await? > 0, "the request broke off");
    Ok(())
}
