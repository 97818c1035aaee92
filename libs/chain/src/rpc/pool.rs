//! The endpoints of one chain, best first, each tried as a whole: answers of two are never mixed.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use streamgate_core::evm::ChainId;
use tokio::time::timeout;
use url::Url;

use super::{
    Answer, BlockRef, Call, ChainReader, Limits, Reading, Unreadable,
    endpoint::{Endpoint, Fault},
    read,
};

/// Blocks that an endpoint may be behind the newest one seen.
const LAG_BLOCKS: u64 = 8;
/// How long the newest block seen counts: a local chain may begin again.
const TIP_COUNTS_FOR: Duration = Duration::from_secs(30);

/// Endpoints of one chain.
#[derive(Debug)]
pub struct Pool {
    chain: ChainId,
    endpoints: Vec<Endpoint>,
    limits: Limits,
    tip: Mutex<Option<(u64, Instant)>>,
}

impl Pool {
    /// A pool over `urls`, in the order of preference.
    #[must_use]
    pub fn new(chain: ChainId, urls: Vec<Url>, http: &reqwest::Client, limits: Limits) -> Self {
        let endpoints = urls.into_iter().map(|url| Endpoint::new(chain, url, http.clone(), limits.answer_bytes)).collect();
        Self { chain, endpoints, limits, tip: Mutex::new(None) }
    }

    /// Whether some endpoint is not resting after failures.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.endpoints.iter().any(|endpoint| !endpoint.is_resting())
    }

    fn ordered(&self) -> Vec<&Endpoint> {
        let mut endpoints: Vec<&Endpoint> = self.endpoints.iter().collect();
        endpoints.sort_by(|a, b| {
            (a.is_resting(), a.score()).partial_cmp(&(b.is_resting(), b.score())).unwrap_or(std::cmp::Ordering::Equal)
        });
        endpoints
    }

    async fn attempt(&self, endpoint: &Endpoint, calls: &[Call]) -> Result<Reading, Fault> {
        let block = read::head(endpoint).await?;
        self.check_lag(block)?;
        read::at(endpoint, block, calls, &self.limits).await
    }

    /// An endpoint far behind the others would answer from the past, when a token was still elsewhere.
    fn check_lag(&self, block: BlockRef) -> Result<(), Fault> {
        let mut tip = self.tip.lock().unwrap_or_else(PoisonError::into_inner);
        match *tip {
            Some((newest, seen)) if block.number <= newest && seen.elapsed() < TIP_COUNTS_FOR => {
                if block.number + LAG_BLOCKS < newest { Err(Fault::Lagging) } else { Ok(()) }
            }
            _ => {
                *tip = Some((block.number, Instant::now()));
                Ok(())
            }
        }
    }

    /// One endpoint's try within its time, noted in its health.
    async fn try_one(&self, endpoint: &Endpoint, calls: &[Call], left: Duration) -> Result<Reading, Fault> {
        self.noted(endpoint, left, self.attempt(endpoint, calls), |reading| {
            !reading.answers.iter().any(|answer| matches!(answer, Answer::Failed(_)))
        })
        .await
    }

    /// Waits for a try, and notes how the endpoint did: an answer is of use when `is_useful` says so.
    async fn noted<T>(
        &self,
        endpoint: &Endpoint,
        left: Duration,
        attempt: impl Future<Output = Result<T, Fault>>,
        is_useful: impl FnOnce(&T) -> bool,
    ) -> Result<T, Fault> {
        let probe = Probe { endpoint, settled: false };
        let start = Instant::now();
        let outcome = timeout(self.limits.per_try.min(left), attempt).await.unwrap_or(Err(Fault::TimedOut));
        probe.settle();
        match &outcome {
            Ok(value) if is_useful(value) => endpoint.succeeded(start.elapsed()),
            Ok(_) => endpoint.failed(&Fault::Malformed(super::wire::Malformed::Shape)),
            Err(fault) => endpoint.failed(fault),
        }
        outcome
    }

    fn unreadable(&self, fault: Option<&Fault>) -> Unreadable {
        let why = fault.map_or_else(|| "every endpoint rests after failures".to_owned(), ToString::to_string);
        Unreadable(format!("{} could not be read: {why}", self.chain))
    }
}

/// Gives a probe back when the caller goes away in the middle of it.
struct Probe<'a> {
    endpoint: &'a Endpoint,
    settled: bool,
}

impl Probe<'_> {
    fn settle(mut self) {
        self.settled = true;
    }
}

impl Drop for Probe<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.endpoint.abandoned();
        }
    }
}

#[async_trait]
impl ChainReader for Pool {
    async fn read(&self, calls: &[Call]) -> Result<Reading, Unreadable> {
        let start = Instant::now();
        let mut best: Option<Reading> = None;
        let mut fault = None;
        for endpoint in self.ordered() {
            let left = self.limits.total.saturating_sub(start.elapsed());
            if left.is_zero() {
                break;
            }
            if !endpoint.admit() {
                continue;
            }
            match self.try_one(endpoint, calls, left).await {
                Ok(reading) if doubts(&reading) == 0 => return Ok(reading),
                Ok(reading) if best.as_ref().is_none_or(|best| doubts(&reading) < doubts(best)) => best = Some(reading),
                Ok(_) => {}
                Err(found) => fault = Some(found),
            }
        }
        best.ok_or_else(|| self.unreadable(fault.as_ref()))
    }

    async fn gas_price(&self) -> Result<u64, Unreadable> {
        let mut fault = None;
        for endpoint in self.ordered().into_iter().filter(|endpoint| endpoint.admit()) {
            match self.noted(endpoint, self.limits.per_try, read::gas_price(endpoint), |_| true).await {
                Ok(price) => return Ok(price),
                Err(found) => fault = Some(found),
            }
        }
        Err(self.unreadable(fault.as_ref()))
    }
}

fn doubts(reading: &Reading) -> usize {
    reading.answers.iter().filter(|answer| answer.is_doubtful()).count()
}
