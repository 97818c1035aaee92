//! One endpoint over HTTP. Its URL is a secret: providers put keys into paths and queries.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use reqwest::{StatusCode, header};
use streamgate_core::evm::ChainId;
use url::Url;

use super::{
    health::Health,
    wire::{self, Ask, Malformed, Told},
};

/// How long it is believed that a chain has no Multicall3.
const NO_MULTICALL_FOR: Duration = Duration::from_secs(600);

/// Why an endpoint did not answer, in words that are safe to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("an endpoint could not be reached")]
    Unreachable,
    #[error("an endpoint took too long")]
    TimedOut,
    #[error("an endpoint limits the rate of calls")]
    Throttled(Option<Duration>),
    #[error("an endpoint answered with status {0}")]
    Status(u16),
    #[error("an endpoint's answer is too large")]
    TooLarge,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("an endpoint serves another chain")]
    WrongChain,
    #[error("an endpoint has no newest block")]
    NoHead,
    #[error("an endpoint lags behind")]
    Lagging,
    #[error("an endpoint is further than its chain can be")]
    FarAhead,
}

impl Fault {
    /// How long the endpoint asked to be left alone.
    pub(super) const fn wait(&self) -> Option<Duration> {
        match self {
            Self::Throttled(Some(wait)) => Some(*wait),
            Self::Throttled(None) => Some(Duration::from_secs(1)),
            // It will serve another chain, or refuse us, until somebody changes the configuration.
            Self::WrongChain | Self::Status(401 | 403) => Some(Duration::from_secs(15)),
            _ => None,
        }
    }
}

/// One endpoint of a chain.
pub(super) struct Endpoint {
    pub(super) chain: ChainId,
    url: Url,
    http: reqwest::Client,
    answer_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    health: Health,
    multicall: Multicall,
    pin_by_hash: bool,
}

#[derive(Debug, Clone, Copy)]
enum Multicall {
    Unknown,
    Present,
    AbsentSince(Instant),
}

impl Endpoint {
    pub(super) const fn new(chain: ChainId, url: Url, http: reqwest::Client, answer_bytes: usize) -> Self {
        let state = State { health: Health::new(), multicall: Multicall::Unknown, pin_by_hash: true };
        Self { chain, url, http, answer_bytes, state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn score(&self) -> f64 {
        self.state().health.score()
    }

    pub(super) fn admit(&self) -> bool {
        self.state().health.admit(Instant::now())
    }

    pub(super) fn is_resting(&self) -> bool {
        self.state().health.is_open()
    }

    pub(super) fn succeeded(&self, took: Duration) {
        self.state().health.succeeded(took);
    }

    pub(super) fn failed(&self, fault: &Fault) {
        let mut state = self.state();
        state.health.failed(Instant::now(), fault.wait());
        // It may come back as another node: ask it again what it is.
        state.multicall = Multicall::Unknown;
        drop(state);
        tracing::debug!(chain = %self.chain, endpoint = %self, %fault, "an rpc endpoint failed");
    }

    /// It answers, and yet can't be used now.
    pub(super) fn passed_over(&self, fault: &Fault) {
        self.state().health.passed_over();
        tracing::debug!(chain = %self.chain, endpoint = %self, %fault, "an rpc endpoint is passed over");
    }

    /// No contract could be read through it.
    pub(super) fn fruitless(&self) {
        self.state().health.fruitless(Instant::now());
        tracing::debug!(chain = %self.chain, endpoint = %self, "an rpc endpoint answered no contract's call");
    }

    pub(super) fn is_fruitless(&self) -> bool {
        self.state().health.is_fruitless()
    }

    pub(super) fn is_avoided(&self) -> bool {
        self.state().health.is_avoided(Instant::now())
    }

    pub(super) fn abandoned(&self) {
        self.state().health.abandoned();
    }

    /// Whether it is known that the chain has Multicall3; absent when it has to be asked.
    pub(super) fn multicall(&self) -> Option<bool> {
        match self.state().multicall {
            Multicall::Unknown => None,
            Multicall::Present => Some(true),
            Multicall::AbsentSince(when) => (when.elapsed() < NO_MULTICALL_FOR).then_some(false),
        }
    }

    pub(super) fn learn_multicall(&self, present: bool) {
        self.state().multicall = if present { Multicall::Present } else { Multicall::AbsentSince(Instant::now()) };
    }

    /// Whether reads name their block by hash (EIP-1898) rather than by number.
    pub(super) fn pins_by_hash(&self) -> bool {
        self.state().pin_by_hash
    }

    pub(super) fn pin_by_number(&self) {
        self.state().pin_by_hash = false;
    }

    /// Sends one batch.
    pub(super) async fn ask(&self, asks: &[Ask]) -> Result<Vec<Told>, Fault> {
        let body = self.post(wire::encode(asks)).await?;
        Ok(wire::decode(&body, asks.len())?)
    }

    async fn post(&self, body: Vec<u8>) -> Result<Bytes, Fault> {
        let request = self.http.post(self.url.clone()).header(header::CONTENT_TYPE, "application/json").body(body);
        // The error of reqwest names the URL, so it goes no further.
        let answer = request.send().await.map_err(|_| Fault::Unreachable)?;
        let status = answer.status();
        if status == StatusCode::TOO_MANY_REQUESTS {
            let seconds = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(Fault::Throttled(seconds.map(Duration::from_secs)));
        }
        if !status.is_success() {
            return Err(Fault::Status(status.as_u16()));
        }
        let mut gathered = BytesMut::new();
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Fault::Unreachable)?;
            if gathered.len() + chunk.len() > self.answer_bytes {
                return Err(Fault::TooLarge);
            }
            gathered.extend_from_slice(&chunk);
        }
        Ok(gathered.freeze())
    }
}

impl fmt::Display for Endpoint {
    /// Scheme, host and port; the rest may hold a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.url.port().map_or_else(String::new, |port| format!(":{port}"));
        write!(f, "{}://{}{port}/…", self.url.scheme(), self.url.host_str().unwrap_or("?"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({} {self})", self.chain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_shown_without_its_key() {
        let url = Url::parse("https://user:pass@rpc.example:8443/v2/SECRET?key=SECRET#SECRET").unwrap();
        let endpoint = Endpoint::new(ChainId::ETHEREUM, url, reqwest::Client::new(), 1);
        assert_eq!(endpoint.to_string(), "https://rpc.example:8443/…");
        assert_eq!(format!("{endpoint:?}"), "Endpoint(eip155:1 https://rpc.example:8443/…)");
    }
}
