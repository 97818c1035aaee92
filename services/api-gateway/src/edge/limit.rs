//! How often one identity and one address may call, and how much of that is left.
//!
//! Identities are hashes of bearers with a key of this process. Memory is bounded: when too many keys
//! are known, further ones share a bucket with others.

use std::{
    convert::Infallible,
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    response::{IntoResponse as _, Response},
};
use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock as _, DefaultClock},
    middleware::StateInformationMiddleware,
};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue};
use tower::ServiceExt as _;

use crate::{
    config::{Config, Rates},
    context::bearer,
    error::Error,
    metrics::EdgeMetrics,
};

/// Forget idle keys once in so many calls.
const SWEEP_EVERY: u32 = 4096;
/// Buckets that keys share once too many are known.
const SHARED_BUCKETS: u64 = 1024;
/// The limit that was nearest, and what is left of it (IETF draft "RateLimit header fields for HTTP").
const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LEFT: HeaderName = HeaderName::from_static("ratelimit");

/// The limits of the edge.
#[derive(Debug)]
pub struct Limits {
    identity: Option<Limit>,
    address: Option<Limit>,
    media: Option<Limit>,
    hasher: RandomState,
    trusted_proxies: usize,
    metrics: EdgeMetrics,
}

impl Limits {
    /// Limits as configured.
    #[must_use]
    pub fn new(config: &Config, metrics: EdgeMetrics) -> Self {
        let rates = &config.rates;
        Self {
            identity: Limit::new(rates.identity_per_second, rates),
            address: Limit::new(rates.address_per_second, rates),
            media: Limit::new(rates.media_per_second, rates),
            hasher: RandomState::new(),
            trusted_proxies: config.trusted_proxies,
            metrics,
        }
    }

    /// What the caller has left, or how long it must wait. Absent when nothing limits it.
    fn take(&self, request: &Request) -> Option<Taken<'_>> {
        let media = request.uri().path().starts_with("/play/");
        let by_address = if media { self.media.as_ref() } else { self.address.as_ref() };
        let address = peer(request.extensions(), request.headers(), self.trusted_proxies);
        let of_address = by_address.zip(address).map(|(limit, address)| limit.take(self.hasher.hash_one(network(address))));
        if media || of_address.as_ref().is_some_and(|taken| taken.wait.is_some()) {
            return of_address;
        }
        let bearer = bearer(request.headers());
        let of_identity = self.identity.as_ref().zip(bearer).map(|(limit, bearer)| limit.take(self.hasher.hash_one(bearer)));
        // The one that ends first is the one to know.
        match (of_address, of_identity) {
            (Some(address), Some(identity)) if address.left < identity.left && identity.wait.is_none() => Some(address),
            (address, identity) => identity.or(address),
        }
    }

    /// Refuses callers that call too often, and tells the others how much is left.
    pub(super) async fn around(&self, routes: Router, request: Request) -> Result<Response, Infallible> {
        let Some(taken) = self.take(&request) else { return routes.oneshot(request).await };
        let mut response = match taken.wait {
            None => routes.oneshot(request).await?,
            Some(wait) => {
                self.metrics.rate_limited.inc();
                Error::TooOften { wait }.into_response()
            }
        };
        let left = HeaderValue::from_str(&taken.remaining()).ok();
        for (name, value) in [(POLICY, taken.limit.policy.clone()), (LEFT, left)] {
            response.headers_mut().extend(value.map(|value| (name, value)));
        }
        Ok(response)
    }
}

/// One call counted against one limit.
#[derive(Debug)]
struct Taken<'a> {
    limit: &'a Limit,
    wait: Option<Duration>,
    left: u32,
}

impl Taken<'_> {
    /// What is left, and the seconds until all of it is there again.
    fn remaining(&self) -> String {
        let used = self.limit.burst.saturating_sub(self.left);
        format!("\"default\";r={};t={}", self.left, used.div_ceil(self.limit.per_second))
    }
}

#[derive(Debug)]
struct Limit {
    buckets: DefaultKeyedRateLimiter<u64, StateInformationMiddleware>,
    clock: DefaultClock,
    per_second: u32,
    burst: u32,
    policy: Option<HeaderValue>,
    max_keys: usize,
    calls: AtomicU32,
}

impl Limit {
    fn new(per_second: u32, rates: &Rates) -> Option<Self> {
        let rate = NonZeroU32::new(per_second)?;
        let burst = NonZeroU32::new(per_second.saturating_mul(rates.burst_seconds))?;
        let buckets = RateLimiter::keyed(Quota::per_second(rate).allow_burst(burst)).with_middleware();
        let (clock, calls) = (DefaultClock::default(), AtomicU32::new(0));
        let policy = HeaderValue::from_str(&format!("\"default\";q={burst};w={}", rates.burst_seconds)).ok();
        Some(Self { buckets, clock, per_second, burst: burst.get(), policy, max_keys: rates.max_keys, calls })
    }

    fn take(&self, key: u64) -> Taken<'_> {
        if self.calls.fetch_add(1, Ordering::Relaxed).is_multiple_of(SWEEP_EVERY) {
            self.buckets.retain_recent();
        }
        let key = if self.buckets.len() < self.max_keys { key } else { key % SHARED_BUCKETS };
        let (wait, left) = match self.buckets.check_key(&key) {
            Ok(state) => (None, state.remaining_burst_capacity()),
            Err(refusal) => (Some(refusal.wait_time_from(self.clock.now())), 0),
        };
        Taken { limit: self, wait, left }
    }
}

/// The caller's address: the connection's, or what the trusted proxies in front say.
fn peer(extensions: &Extensions, headers: &HeaderMap, trusted_proxies: usize) -> Option<IpAddr> {
    let direct = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip());
    let Some(place) = trusted_proxies.checked_sub(1) else { return direct };
    let lines = headers.get_all("x-forwarded-for").into_iter().filter_map(|line| line.to_str().ok());
    let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    hops.iter().rev().nth(place).and_then(|hop| hop.parse().ok()).or(direct)
}

/// One IPv6 customer has a whole /64.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6) >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn rates(max_keys: usize) -> Rates {
        Rates { burst_seconds: 2, max_keys, ..Rates::default() }
    }

    #[test]
    fn a_burst_passes_and_then_the_caller_waits() {
        let limit = Limit::new(1, &rates(10)).unwrap();
        assert_eq!((limit.take(1).wait, limit.take(1).wait), (None, None));
        assert!(limit.take(1).wait.is_some_and(|wait| wait <= Duration::from_secs(1)));
        assert_eq!(limit.take(2).wait, None, "another caller is not held up");
    }

    #[test]
    fn what_is_left_goes_down_with_each_call() {
        let limit = Limit::new(5, &rates(10)).unwrap();
        let (first, second) = (limit.take(1), limit.take(1));
        assert_eq!(limit.policy.as_ref().unwrap(), "\"default\";q=10;w=2");
        assert_eq!(first.remaining(), "\"default\";r=9;t=1");
        assert!(second.left < first.left);
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        assert!(Limit::new(0, &rates(10)).is_none());
    }

    #[test]
    fn memory_is_bounded_however_many_callers_come() {
        let limit = Limit::new(1000, &rates(8)).unwrap();
        for key in 0..100_000_u64 {
            limit.take(key.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        }
        assert!(limit.buckets.len() <= 8 + usize::try_from(SHARED_BUCKETS).unwrap());
    }

    #[test]
    fn an_address_is_believed_only_from_trusted_proxies() {
        let mut extensions = Extensions::new();
        extensions.insert(ConnectInfo(SocketAddr::from(([10, 0, 0, 1], 1))));
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("x-forwarded-for"),
            HeaderValue::from_static("6.6.6.6, 9.9.9.9"),
        )]);
        let seen = |trusted| peer(&extensions, &headers, trusted).unwrap().to_string();
        assert_eq!(seen(0), "10.0.0.1");
        assert_eq!(seen(1), "9.9.9.9");
        assert_eq!(seen(2), "6.6.6.6");
        assert_eq!(seen(3), "10.0.0.1");
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
    }
}
