//! Calls to instances that hang, break off or are slow, over real connections.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response};
use streamgate_core::ServiceName;
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Status,
    body::Body,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};
use tower::Service;

use crate::{
    breaker::Breaker,
    channel::{MeshChannel, Route},
    endpoints::{Endpoints, connect},
    methods::Methods,
};

const READ: &str = "/streamgate.auth.v1.AuthService/GetJwks";
const WRITE: &str = "/streamgate.auth.v1.AuthService/Login";
/// Patience of the tests: less than the deadline of their calls, so that what is answered was not ended by it.
const BOUND: Duration = Duration::from_secs(60);
/// When a caller gives a call up. A sound instance on a slow machine may be too late now and then, but not always.
const GIVEN_UP: Duration = Duration::from_secs(2);
/// Longer than an instance may be silent without a sign of life.
const SLOW: Duration = Duration::from_millis(1500);

/// Answers every call of a service after a while, and counts them.
#[derive(Debug, Clone, Default)]
struct Answering {
    delay: Duration,
    calls: Arc<AtomicUsize>,
}

impl NamedService for Answering {
    const NAME: &'static str = "streamgate.auth.v1.AuthService";
}

impl Service<Request<Body>> for Answering {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<Body>) -> Self::Future {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let delay = self.delay;
        Box::pin(async move {
            sleep(delay).await;
            Ok(Response::new(Body::empty()))
        })
    }
}

impl Answering {
    fn after(delay: Duration) -> Self {
        Self { delay, ..Self::default() }
    }

    #[allow(clippy::disallowed_methods, reason = "this crate is below the runtime, which builds all other servers")]
    async fn start(&self) -> SocketAddr {
        let (listener, address) = listen().await;
        tokio::spawn(Server::builder().add_service(self.clone()).serve_with_incoming(TcpIncoming::from(listener)));
        address
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn listen() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Takes connections and ends them at once.
async fn start_breaking() -> SocketAddr {
    let (listener, address) = listen().await;
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    address
}

fn channel(endpoints: Endpoints) -> MeshChannel {
    let methods = Arc::new(Methods::of_contracts());
    MeshChannel::new(Arc::new(Route::new(ServiceName::Auth, "dns://auth:1".into(), endpoints, methods)), None)
}

fn channel_to(addresses: Vec<SocketAddr>) -> MeshChannel {
    channel(Endpoints::following(Box::new(move || {
        let addresses = addresses.clone();
        Box::pin(async move { Ok(addresses) })
    })))
}

async fn call(channel: &MeshChannel, path: &'static str) -> Result<(), Status> {
    call_within(channel, path, "120S").await
}

async fn call_within(channel: &MeshChannel, path: &'static str, deadline: &'static str) -> Result<(), Status> {
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = http::Uri::from_static(path);
    request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(deadline));
    channel.clone().call(request).await.map(|_| ())
}

/// Makes calls until so many in a row were answered by `answering`.
async fn until_all_go_to(answering: &Answering, channel: &MeshChannel, path: &'static str) {
    let mut in_a_row = 0;
    while in_a_row < 6 {
        let before = answering.calls();
        let is_answered = timeout(GIVEN_UP, call(channel, path)).await.is_ok_and(|outcome| outcome.is_ok());
        in_a_row = if is_answered && answering.calls() == before + 1 { in_a_row + 1 } else { 0 };
    }
}

#[tokio::test]
async fn a_read_of_a_hung_instance_is_answered_by_another_and_the_hung_one_is_passed_over() {
    let ((_hung, at), sound) = (listen().await, Answering::default());
    let channel = channel_to(vec![at, sound.start().await]);
    let reads = futures::future::join_all((0..40).map(|_| call(&channel, READ)));
    let outcomes = timeout(BOUND, reads).await.expect("that is less than the deadline");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    timeout(BOUND, until_all_go_to(&sound, &channel, WRITE)).await.expect("it is not called any more");
}

#[tokio::test]
async fn writes_alone_find_out_that_an_instance_hangs() {
    let ((_hung, at), sound) = (listen().await, Answering::default());
    let channel = channel_to(vec![at, sound.start().await]);
    let (one, other) = (channel.clone(), channel.clone());
    let under_way = [
        tokio::spawn(async move { call_within(&one, WRITE, "5S").await }),
        tokio::spawn(async move { call_within(&other, WRITE, "5S").await }),
    ];
    timeout(BOUND, until_all_go_to(&sound, &channel, WRITE)).await.expect("it is not called any more");
    for call in under_way {
        let outcome = timeout(BOUND, call).await.unwrap().unwrap();
        assert!(!matches!(&outcome, Err(status) if status.code() != Code::DeadlineExceeded), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_instance_that_breaks_every_connection_off_is_passed_over() {
    let sound = Answering::default();
    let channel = channel_to(vec![start_breaking().await, sound.start().await]);
    timeout(BOUND, until_all_go_to(&sound, &channel, WRITE)).await.expect("it is not called any more");
}

/// What comes of `work`, and whether the machine let this thread stand still meanwhile: a short timer rang far too late.
async fn with_pauses<T>(work: impl Future<Output = T>) -> (T, bool) {
    const TICK: Duration = Duration::from_millis(10);
    const LATE: Duration = Duration::from_millis(50);
    let (mut work, mut stood_still) = (pin!(work), false);
    loop {
        let began = Instant::now();
        let done = timeout(TICK, &mut work).await;
        stood_still |= began.elapsed() > LATE;
        if let Ok(done) = done {
            return (done, stood_still);
        }
    }
}

/// How often the instances are called for one read of a channel to them.
async fn calls_of_a_read(slow: &Answering, channel: impl AsyncFn() -> MeshChannel) -> usize {
    loop {
        let (channel, before) = (channel().await, slow.calls());
        let (outcome, stood_still) = with_pauses(call(&channel, READ)).await;
        outcome.unwrap();
        // An instance that stood still with the machine gave no sign of life: that says nothing.
        if slow.calls() == before + 1 || !stood_still {
            return slow.calls() - before;
        }
    }
}

#[tokio::test]
async fn a_slow_read_keeps_its_deadline_and_is_sent_once() {
    let slow = Answering::after(SLOW);
    let only = async || {
        let only = connect(&format!("http://{}", slow.start().await)).unwrap();
        self::channel(Endpoints::one(only, Breaker::new()))
    };
    assert_eq!(calls_of_a_read(&slow, only).await, 1);
    let of_two = async || channel_to(vec![slow.start().await, slow.start().await]);
    assert_eq!(calls_of_a_read(&slow, of_two).await, 1);
}

/// Where nobody listens.
async fn nobody() -> SocketAddr {
    listen().await.1
}

#[tokio::test]
async fn a_write_that_certainly_was_not_sent_is_sent_again() {
    let sound = Answering::default();
    let channel = channel_to(vec![nobody().await, sound.start().await]);
    for _ in 0..2 {
        call(&channel, WRITE).await.expect("whosever turn it is");
    }
    assert_eq!(sound.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_another_instance_and_not_for_the_only_one_that_is_left_alone() {
    let breaker = Breaker::new();
    (0..5).for_each(|_| breaker.failed());
    let only = connect(&format!("http://{}", nobody().await)).unwrap();
    let began = Instant::now();
    let status = call(&channel(Endpoints::one(only, breaker)), READ).await.unwrap_err();
    assert_eq!((status.code(), began.elapsed()), (Code::Unavailable, Duration::ZERO));

    let channel = channel_to(vec![nobody().await, nobody().await]);
    call(&channel, READ).await.unwrap_err();
    let began = Instant::now();
    call(&channel, READ).await.unwrap_err();
    assert!(began.elapsed() > Duration::ZERO, "another one may be back");
}
