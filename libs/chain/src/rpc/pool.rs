//! The endpoints of one chain, best first, each tried as a whole: answers of two are never mixed.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use streamgate_core::evm::ChainId;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::{
    Answer, BlockRef, Call, ChainReader, Limits, Reading, Unreadable,
    endpoint::{Endpoint, Fault},
    read::{self, Tried},
    tip::Tip,
};

/// Endpoints of one chain.
#[derive(Debug)]
pub struct Pool {
    chain: ChainId,
    endpoints: Vec<Endpoint>,
    limits: Limits,
    tip: Mutex<Tip>,
}

impl Pool {
    /// A pool over `urls`, in the order of preference.
    #[must_use]
    pub fn new(chain: ChainId, urls: Vec<Url>, http: &reqwest::Client, limits: Limits) -> Self {
        let endpoint = |url| Endpoint::new(chain, url, http.clone(), limits.answer_bytes);
        let endpoints: Vec<Endpoint> = urls.into_iter().map(endpoint).collect();
        let tip = Mutex::new(Tip::of(endpoints.len()));
        Self { chain, endpoints, limits, tip }
    }

    /// Whether some endpoint is not resting after failures.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.endpoints.iter().any(|endpoint| !endpoint.is_resting())
    }

    /// The endpoints with their places, the best one first.
    fn ordered(&self) -> Vec<(usize, &Endpoint)> {
        let mut endpoints: Vec<(usize, &Endpoint)> = self.endpoints.iter().enumerate().collect();
        endpoints.sort_by(|(_, a), (_, b)| {
            let rank = |endpoint: &Endpoint| (endpoint.is_resting(), endpoint.is_fruitless(), endpoint.score());
            rank(a).partial_cmp(&rank(b)).unwrap_or(std::cmp::Ordering::Equal)
        });
        endpoints
    }

    /// One endpoint's try, until `end` at the latest.
    async fn attempt(&self, place: usize, endpoint: &Endpoint, calls: &[Call], end: Instant) -> Result<Tried, Fault> {
        let block = in_time(end, read::head(endpoint)).await?;
        self.judge(place, block)?;
        read::at(endpoint, block, calls, &self.limits, end).await
    }

    /// An endpoint far behind the others would answer from the past, when a token was still elsewhere.
    fn judge(&self, place: usize, block: BlockRef) -> Result<(), Fault> {
        self.tip.lock().unwrap_or_else(PoisonError::into_inner).judge(place, block.number, Instant::now())
    }

    /// One endpoint's try within its time, noted in its health.
    async fn try_one(&self, place: usize, endpoint: &Endpoint, calls: &[Call], end: Instant) -> Result<Reading, Fault> {
        let tried = noted(endpoint, self.attempt(place, endpoint, calls, end), |tried| Service::of(calls, tried)).await?;
        Ok(tried.reading)
    }

    fn unreadable(&self, fault: Option<&Fault>) -> Unreadable {
        let why = fault.map_or_else(|| "every endpoint rests after failures".to_owned(), ToString::to_string);
        Unreadable(format!("{} could not be read: {why}", self.chain))
    }
}

async fn in_time<T>(end: Instant, work: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    timeout_at(end, work).await.unwrap_or(Err(Fault::TimedOut))
}

/// How an endpoint that gave answers has served.
enum Service {
    Well,
    /// No contract could be read. That may be the contracts' doing, and then again the endpoint's.
    Fruitless,
    Badly(Fault),
}

impl Service {
    fn of(calls: &[Call], Tried { reading, fault }: &Tried) -> Self {
        if let Some(fault) = fault {
            return Self::Badly(*fault);
        }
        if reading.answers.iter().any(|answer| matches!(answer, Answer::Failed(_))) {
            return Self::Badly(Fault::Malformed(super::wire::Malformed::Shape));
        }
        if is_fruitful(calls, reading) { Self::Well } else { Self::Fruitless }
    }
}

/// Whether some contract was read, or none was asked for.
fn is_fruitful(calls: &[Call], reading: &Reading) -> bool {
    let mut views = calls.iter().zip(&reading.answers).filter(|(call, _)| matches!(call, Call::View { .. })).peekable();
    let none_asked = views.peek().is_none();
    none_asked || views.any(|(_, answer)| matches!(answer, Answer::Word(_) | Answer::Reverted | Answer::Empty))
}

/// Waits for a try, and notes how the endpoint did: of what it gave, `service` tells.
async fn noted<T>(
    endpoint: &Endpoint,
    attempt: impl Future<Output = Result<T, Fault>>,
    service: impl FnOnce(&T) -> Service,
) -> Result<T, Fault> {
    let probe = Probe { endpoint, settled: false };
    let start = Instant::now();
    let outcome = attempt.await;
    probe.settle();
    match &outcome {
        Ok(value) => match service(value) {
            Service::Well => endpoint.succeeded(start.elapsed()),
            Service::Fruitless => endpoint.fruitless(),
            Service::Badly(fault) => endpoint.failed(&fault),
        },
        // Whose head is right is for the heads of all to say: a liar must not make the others rest.
        Err(fault @ (Fault::Lagging | Fault::FarAhead)) => endpoint.passed_over(fault),
        Err(fault) => endpoint.failed(fault),
    }
    outcome
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
        let end = Instant::now() + self.limits.total;
        let mut best: Option<Reading> = None;
        let mut fault = None;
        for (place, endpoint) in self.ordered() {
            let now = Instant::now();
            if now >= end {
                break;
            }
            // One that lately read nothing would hold up what another has read; it is the last resort.
            let has_read = best.as_ref().is_some_and(|best| is_fruitful(calls, best));
            if (has_read && endpoint.is_avoided()) || !endpoint.admit() {
                continue;
            }
            match self.try_one(place, endpoint, calls, end.min(now + self.limits.per_try)).await {
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
        for (_, endpoint) in self.ordered().into_iter().filter(|(_, endpoint)| endpoint.admit()) {
            let end = Instant::now() + self.limits.per_try;
            match noted(endpoint, in_time(end, read::gas_price(endpoint)), |_| Service::Well).await {
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
