//! One attempt over HTTP.

use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Client, redirect::Policy};
use streamgate_core::time::{UnixMillis, now_ms};

use super::{
    guard::{Guard, GuardedNames, Names, Refused},
    signature::{Secret, signatures},
};

/// How long connecting may take, and a whole attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an answer that are kept; no more are read.
const EXCERPT_BYTES: usize = 1_000;

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at_ms: UnixMillis,
    /// HTTP status; absent when there was no answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: u32,
    /// Why there was no answer; empty when there was one.
    pub error: String,
    /// The beginning of the answer.
    pub response: String,
}

impl Attempt {
    /// Whether the receiver took it.
    #[must_use]
    pub fn is_delivered(&self) -> bool {
        self.status.is_some_and(|status| (200..300).contains(&status))
    }

    /// Whether the receiver wants no more: 410 Gone.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.status == Some(410)
    }

    /// It in a sentence.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.status {
            Some(status) => format!("the receiver answered {status} after {} ms", self.latency_ms),
            None => self.error.clone(),
        }
    }
}

/// What is sent.
#[derive(Debug, Clone)]
pub struct Parcel {
    /// Where to.
    pub url: String,
    /// The same for each attempt.
    pub message_id: String,
    /// JSON.
    pub body: Bytes,
    /// The newest first.
    pub secrets: Vec<Secret>,
}

/// Sends parcels to where the guard lets them. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Sender {
    http: Client,
    guard: Guard,
}

impl Sender {
    /// A sender that finds hosts through `names`.
    ///
    /// # Errors
    /// When no client can be made.
    pub fn new(guard: Guard, names: Arc<dyn Names>) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .dns_resolver(GuardedNames::new(guard, names))
            // A redirect leads to where nobody has looked.
            .redirect(Policy::none())
            // A proxy would look the name up itself.
            .no_proxy()
            // A kept connection was checked long ago.
            .pool_max_idle_per_host(0)
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ATTEMPT_TIMEOUT)
            .referer(false)
            .user_agent(concat!("StreamGate-Webhooks/", env!("CARGO_PKG_VERSION")))
            .build()?;
        Ok(Self { http, guard })
    }

    /// Sends one parcel, once.
    pub async fn send(&self, parcel: &Parcel) -> Attempt {
        let (at_ms, began) = (now_ms(), Instant::now());
        let outcome = self.try_send(parcel, at_ms / 1000).await;
        let latency_ms = u32::try_from(began.elapsed().as_millis()).unwrap_or(u32::MAX);
        match outcome {
            Ok((status, response)) => Attempt { at_ms, status: Some(status), latency_ms, error: String::new(), response },
            Err(error) => Attempt { at_ms, status: None, latency_ms, error, response: String::new() },
        }
    }

    async fn try_send(&self, parcel: &Parcel, seconds: i64) -> Result<(u16, String), String> {
        // An address in the URL itself is dialled without a lookup, so it is looked at here, each time.
        let url = self.guard.check_url(&parcel.url).map_err(|refused| format!("the URL {refused}"))?;
        let request = self
            .http
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", &parcel.message_id)
            .header("webhook-timestamp", seconds)
            .header("webhook-signature", signatures(&parcel.secrets, &parcel.message_id, seconds, &parcel.body))
            .body(parcel.body.clone());
        let mut answer = request.send().await.map_err(|error| in_words(&error))?;
        let status = answer.status().as_u16();
        let mut excerpt = Vec::new();
        // The status has decided; what of the answer does not come is left out.
        while let Ok(Some(chunk)) = answer.chunk().await {
            excerpt.extend_from_slice(&chunk[..chunk.len().min(EXCERPT_BYTES - excerpt.len())]);
            if excerpt.len() == EXCERPT_BYTES {
                break;
            }
        }
        Ok((status, readable(&excerpt)))
    }
}

/// Text for a page or a log: no control characters.
fn readable(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect()
}

/// Why there was no answer. The client's own words name the URL, which may hold a secret.
fn in_words(error: &reqwest::Error) -> String {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(refused) = inner.downcast_ref::<Refused>() {
            return format!("the URL {refused}");
        }
        cause = inner.source();
    }
    let words = if error.is_timeout() {
        "the receiver took too long"
    } else if error.is_connect() {
        "the receiver could not be reached"
    } else {
        "the receiver broke off"
    };
    words.to_owned()
}
