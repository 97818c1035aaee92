//! Where a service is: at one address, or at all that a name stands for now.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use http::{Request, Response};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tonic::{
    body::Body,
    transport::{Channel, Endpoint as Remote},
};

use crate::{
    breaker::Breaker,
    endpoint::{Broken, Endpoint, SILENCE},
};

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a quiet connection is checked, and how long an answer may take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a name is looked up. When an address does not answer, that is done again after the pause.
const LOOK_UP_EVERY: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(250);
/// How long looking up may take, and how long a call waits for the first time that it is done.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// Finds the addresses that a name stands for.
pub(crate) type LookUp = Box<dyn Fn() -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync>;

/// Why a request has no response.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Unsent {
    /// No endpoint is known to take calls.
    NobodyAnswers,
    /// The only endpoint has failed too often, and is left alone for longer than a call waits.
    LeftAlone,
    /// The endpoint has shown no sign of life any more.
    Silent,
    /// The connection failed.
    Broken(Broken),
}

type Known = Option<Arc<[Arc<Endpoint>]>>;

/// The addresses of one service. Calls take them in turn; one that does not answer is passed over.
pub(crate) struct Endpoints {
    /// Absent until the name has been looked up.
    known: watch::Receiver<Known>,
    turn: AtomicUsize,
    look_again: Arc<Notify>,
}

impl Endpoints {
    /// Reads a target: `http://host:port` is one address, `dns://name:port` is every address of the name, now and later.
    /// Absent when it is neither. Must run inside a tokio runtime.
    pub(crate) fn of(target: &str) -> Option<Self> {
        let (scheme, authority) = target.split_once("://")?;
        match scheme {
            "http" => connect(target).map(|channel| Self::one(channel, Breaker::new())),
            "dns" if is_authority(authority) => {
                let authority: Arc<str> = authority.into();
                Some(Self::following(Box::new(move || {
                    let authority = Arc::clone(&authority);
                    Box::pin(async move { look_up(&authority).await })
                })))
            }
            _ => None,
        }
    }

    /// One address that stays.
    pub(crate) fn one(channel: Channel, breaker: Breaker) -> Self {
        let only: Arc<[_]> = Arc::new([Arc::new(Endpoint::alone(channel, breaker))]);
        Self { known: watch::channel(Some(only)).1, turn: AtomicUsize::new(0), look_again: Arc::default() }
    }

    pub(crate) fn following(look_up: LookUp) -> Self {
        let (sender, known) = watch::channel(None);
        let look_again = Arc::new(Notify::new());
        tokio::spawn(follow(look_up, sender, Arc::clone(&look_again)));
        Self { known, turn: AtomicUsize::new(0), look_again }
    }

    /// Sends a request to the endpoint whose turn it is. When that one falls silent while another one is sound, it is
    /// passed over from then on, and a request that can be sent again ends; any other one waits on.
    pub(crate) async fn send(&self, request: Request<Body>, repeatable: bool) -> Result<Response<Body>, Unsent> {
        let endpoint = self.pick().await?;
        let mut answer = pin!(endpoint.send(request));
        let outcome = tokio::select! {
            biased;
            outcome = &mut answer => outcome,
            () = self.lost(&endpoint), if endpoint.is_one_of_many => {
                self.look_again.notify_one();
                if repeatable {
                    return Err(Unsent::Silent);
                }
                answer.await
            }
        };
        outcome.map_err(|broken| {
            self.doubt(&endpoint, broken);
            Unsent::Broken(broken)
        })
    }

    /// The endpoint whose turn it is.
    async fn pick(&self) -> Result<Arc<Endpoint>, Unsent> {
        let known = self.looked_up().await.ok_or(Unsent::NobodyAnswers)?;
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let in_turn = || known.iter().cycle().skip(turn % known.len().max(1)).take(known.len());
        let Some(sound) = in_turn().find(|endpoint| endpoint.breaker.is_closed()) else {
            let nobody = if known.len() == 1 { Unsent::LeftAlone } else { Unsent::NobodyAnswers };
            return in_turn().find(|endpoint| endpoint.breaker.admits()).cloned().ok_or(nobody);
        };
        // No call is risked to see whether the others are back.
        let due = |other: &&Arc<Endpoint>| !other.breaker.is_closed() && other.breaker.admits();
        known.iter().filter(due).for_each(|other| self.settle_beside(other));
        Ok(Arc::clone(sound))
    }

    /// The endpoints that are known now. Absent when the name was never looked up.
    async fn looked_up(&self) -> Known {
        let known = self.known.borrow().clone();
        match known {
            Some(known) => Some(known),
            None => timeout(LOOK_UP_TIMEOUT, self.known.clone().wait_for(Option::is_some)).await.ok()?.ok()?.clone(),
        }
    }

    /// Waits until the endpoint is known to be lost and another one is sound.
    async fn lost(&self, endpoint: &Endpoint) {
        let start = Instant::now();
        loop {
            endpoint.silence_since(start).await;
            if !has_sound_besides(&self.known, endpoint) {
                sleep(SILENCE).await;
                continue;
            }
            let _asking = endpoint.asking.lock().await;
            // While this call waited for its turn, another one may have learnt how the endpoint is.
            if endpoint.breaker.is_closed() && endpoint.is_silent() {
                settle(&self.known, endpoint).await;
            }
            if !endpoint.breaker.is_closed() {
                return;
            }
        }
    }

    /// A connection failed: the name may stand for other addresses by now, or the instance may be gone.
    fn doubt(&self, endpoint: &Arc<Endpoint>, broken: Broken) {
        match broken {
            Broken::Unreachable => self.look_again.notify_one(),
            Broken::Off if endpoint.is_one_of_many => self.settle_beside(endpoint),
            Broken::Off | Broken::TooLate => {}
        }
    }

    fn settle_beside(&self, endpoint: &Arc<Endpoint>) {
        let (known, endpoint) = (self.known.clone(), Arc::clone(endpoint));
        tokio::spawn(async move {
            if let Ok(_asking) = endpoint.asking.try_lock() {
                settle(&known, &endpoint).await;
            }
        });
    }
}

/// Asks the endpoint whether it is there. The last sound one is never given up for being slow.
async fn settle(known: &watch::Receiver<Known>, endpoint: &Endpoint) {
    if !endpoint.is_there().await && has_sound_besides(known, endpoint) {
        endpoint.breaker.failed();
    }
}

fn has_sound_besides(known: &watch::Receiver<Known>, endpoint: &Endpoint) -> bool {
    let is_sound = |other: &Arc<Endpoint>| !std::ptr::eq(Arc::as_ptr(other), endpoint) && other.breaker.is_closed();
    known.borrow().as_ref().is_some_and(|known| known.iter().any(is_sound))
}

/// Every address that `name:port` stands for.
pub(crate) async fn look_up(authority: &str) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host(authority).await?.collect())
}

/// Looks the name up again and again, until nobody wants to know any more.
async fn follow(look_up: LookUp, known: watch::Sender<Known>, look_again: Arc<Notify>) {
    let mut endpoints: BTreeMap<SocketAddr, Arc<Endpoint>> = BTreeMap::new();
    loop {
        match timeout(LOOK_UP_TIMEOUT, look_up()).await {
            Ok(Ok(addresses)) if !addresses.is_empty() => {
                endpoints =
                    addresses.into_iter().filter_map(|at| Some((at, endpoints.remove(&at).or_else(|| endpoint(at))?))).collect();
            }
            // A name that stands for nothing for a moment takes nothing away from what is known.
            Ok(Err(error)) => tracing::debug!(%error, "a name could not be looked up"),
            Ok(Ok(_)) | Err(_) => tracing::debug!("a name stands for no address"),
        }
        known.send_replace(Some(endpoints.values().cloned().collect()));
        tokio::select! {
            () = known.closed() => return,
            () = sleep(LOOK_UP_EVERY) => {}
            () = look_again.notified() => sleep(PAUSE).await,
        }
    }
}

fn endpoint(address: SocketAddr) -> Option<Arc<Endpoint>> {
    let channel = connect(&format!("http://{address}"))?;
    Some(Arc::new(Endpoint::of_many(channel)))
}

/// A channel that connects when it is first used. Absent when `url` is not `http://host:port`.
#[allow(clippy::disallowed_methods, reason = "the one place that makes channels")]
pub(crate) fn connect(url: &str) -> Option<Channel> {
    if !url.strip_prefix("http://").is_some_and(is_authority) {
        return None;
    }
    let remote = Remote::from_shared(url.to_owned()).ok()?;
    let remote = remote
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .http2_adaptive_window(true);
    Some(remote.connect_lazy())
}

/// Whether `text` is `host:port`. An IPv6 address stands in brackets, or its last part would pass for a port.
fn is_authority(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_address = host.starts_with('[') && host.ends_with(']');
    let is_host = !host.is_empty() && (is_address || !host.contains(':')) && !text.contains(['/', '?', '#', '@']);
    is_host && port.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A name that stands for what the test says.
    #[derive(Clone, Default)]
    struct Name(Arc<Mutex<Vec<SocketAddr>>>);

    impl Name {
        fn is(&self, last: &[u8]) {
            *self.0.lock().unwrap() = last.iter().map(|last| SocketAddr::from(([127, 0, 0, *last], 9))).collect();
        }

        fn endpoints(&self) -> Endpoints {
            let name = self.clone();
            Endpoints::following(Box::new(move || {
                let addresses = name.0.lock().unwrap().clone();
                Box::pin(async move { Ok(addresses) })
            }))
        }
    }

    async fn picks(endpoints: &Endpoints, count: usize) -> Vec<*const Endpoint> {
        let mut picked = Vec::new();
        for _ in 0..count {
            picked.extend(endpoints.pick().await.map(|endpoint| Arc::as_ptr(&endpoint)).ok());
        }
        picked.sort();
        picked.dedup();
        picked
    }

    async fn until(endpoints: &Endpoints, count: usize) {
        let is_so = |known: &Known| known.as_ref().is_some_and(|known| known.len() == count);
        timeout(Duration::from_secs(60), endpoints.known.clone().wait_for(is_so)).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_target_is_an_address_or_a_name() {
        for good in ["http://upload:9091", "http://127.0.0.1:1", "http://[::1]:9000", "dns://upload.media.svc.cluster.local:9001"]
        {
            assert!(Endpoints::of(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "upload:9091",
            "https://x:1",
            "http://",
            "http://x",
            "http://x:",
            "http://[::1]",
            "http://::1",
            "http://u@x:1",
            "dns://upload",
            "dns://:1",
            "dns://x:0",
            "dns://x:1/y",
        ] {
            assert!(Endpoints::of(bad).is_none(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn calls_take_turns_over_all_addresses_of_a_name_and_follow_it() {
        let name = Name::default();
        name.is(&[1, 2, 3]);
        let endpoints = name.endpoints();
        let three = picks(&endpoints, 9).await;
        assert_eq!(three.len(), 3);
        name.is(&[2, 3, 4, 5]);
        until(&endpoints, 4).await;
        let four = picks(&endpoints, 12).await;
        assert_eq!(four.len(), 4);
        assert_eq!(four.iter().filter(|one| three.contains(one)).count(), 2, "those that stay keep their connections");
        name.is(&[]);
        sleep(LOOK_UP_EVERY * 3).await;
        assert_eq!(picks(&endpoints, 12).await, four, "a name that is gone for a moment takes nothing away");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_failed_is_passed_over_until_it_is_back() {
        let name = Name::default();
        name.is(&[1, 2]);
        let endpoints = name.endpoints();
        let bad = endpoints.pick().await.unwrap();
        bad.breaker.failed();
        for _ in 0..2 {
            for _ in 0..4 {
                assert!(
                    !Arc::ptr_eq(&endpoints.pick().await.unwrap(), &bad),
                    "no call is spent on finding out whether it is back"
                );
            }
            sleep(Duration::from_millis(600)).await;
        }
        bad.breaker.answered();
        assert_eq!(picks(&endpoints, 4).await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_that_stands_for_nothing_is_no_endpoint() {
        assert!(Name::default().endpoints().pick().await.is_err());
    }
}
