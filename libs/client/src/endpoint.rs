//! One address of a service: the connection to it, and whether it shows signs of life.

use std::time::Duration;

use http::{Request, Response};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout},
};
use tonic::{ConnectError, TimeoutExpired, body::Body, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use crate::breaker::Breaker;

/// How long an endpoint that owes an answer may be silent before it is asked whether it is there.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);
/// How long that answer may take. Both together stay below the second within which a dead endpoint is passed over.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// What it is asked. Every service answers at once, and neither question nor answer has a body,
/// which could be held up behind the bodies of other calls.
const QUESTION: &str = "/health";

/// A connection to one address, and how it fares.
pub(crate) struct Endpoint {
    channel: Channel,
    pub(crate) breaker: Breaker,
    /// Others may take its calls.
    pub(crate) is_one_of_many: bool,
    /// Held while it is asked whether it is there: one task asks, however many calls wait.
    pub(crate) asking: Mutex<()>,
}

/// How a connection let a call down.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Broken {
    /// There is none.
    Unreachable,
    /// It broke off after the request may have been sent.
    Off,
    /// Not at all: the caller's deadline is over.
    TooLate,
}

impl Endpoint {
    /// The only one of a service, or one that is watched for itself.
    pub(crate) fn alone(channel: Channel, breaker: Breaker) -> Self {
        Self { channel, breaker, is_one_of_many: false, asking: Mutex::new(()) }
    }

    pub(crate) fn of_many(channel: Channel) -> Self {
        Self { is_one_of_many: true, ..Self::alone(channel, Breaker::of_many()) }
    }

    /// Sends a request. Only a connection that can't be made is proof that the endpoint is away:
    /// what else breaks a call off may lie in the call.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Body>, Broken> {
        let mut channel = self.channel.clone();
        let outcome = async { channel.ready().await?.call(request).await }.await;
        if outcome.is_ok() {
            self.breaker.answered();
        }
        outcome.map_err(|error| {
            tracing::debug!(?error, "a connection failed");
            if has_cause::<TimeoutExpired>(&error) {
                return Broken::TooLate;
            }
            if !has_cause::<ConnectError>(&error) {
                return Broken::Off;
            }
            self.breaker.failed();
            Broken::Unreachable
        })
    }

    /// Waits until no answer has come for long, counted from `start` at the earliest.
    pub(crate) async fn silence_since(&self, start: Instant) {
        loop {
            let quiet = start.elapsed().min(self.breaker.quiet_for());
            if quiet >= SILENCE {
                return;
            }
            sleep(SILENCE - quiet).await;
        }
    }

    /// Whether no answer has come for long.
    pub(crate) fn is_silent(&self) -> bool {
        self.breaker.quiet_for() >= SILENCE
    }

    /// Asks whether it is there.
    pub(crate) async fn is_there(&self) -> bool {
        let mut question = Request::new(Body::empty());
        *question.uri_mut() = http::Uri::from_static(QUESTION);
        matches!(timeout(SIGN_OF_LIFE, self.send(question)).await, Ok(Ok(_)))
    }
}

fn has_cause<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(<dyn std::error::Error>::is::<E>)
}
