//! A clock for the bodies of requests: whoever stops sending one is not waited for.

use std::{
    error::Error as StdError,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// Longest pause in a body that is waited for: a phone that changes its network is back by then.
const PAUSE: Duration = Duration::from_secs(30);

/// Nothing of a body came for too long.
#[derive(Debug, thiserror::Error)]
#[error("nothing of the body came for {} s", PAUSE.as_secs())]
struct Silence;

/// Whether a body could not be read to its end because its sender was silent.
pub fn was_silent(error: &(dyn StdError + 'static)) -> bool {
    std::iter::successors(Some(error), |error| (*error).source()).any(|error| error.is::<Silence>())
}

/// A body that fails once its sender is silent for too long. Time in which nobody wants more of it does not count.
pub(super) struct Patient {
    body: Body,
    silence: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    /// Puts a clock beside `body`, if more of it is to come.
    pub(super) fn with(body: Body) -> Body {
        if http_body::Body::is_end_stream(&body) { body } else { Body::new(Self { body, silence: None }) }
    }
}

impl http_body::Body for Patient {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            this.silence = None;
            return Poll::Ready(frame);
        }
        let silence = this.silence.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
        if silence.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.silence = None;
        Poll::Ready(Some(Err(axum::Error::new(Silence))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_its_time_but_not_stand_still() {
        let drop_by_drop = stream::iter(0..20).then(async |_| {
            sleep(PAUSE - Duration::from_secs(1)).await;
            Ok::<_, std::io::Error>("x")
        });
        let slow = Patient::with(Body::from_stream(drop_by_drop)).collect().await.unwrap();
        assert_eq!(slow.to_bytes().len(), 20);

        let stalled = Body::from_stream(stream::iter([Ok::<_, std::io::Error>("x")]).chain(stream::pending()));
        let error = Patient::with(stalled).collect().await.unwrap_err();
        assert!(was_silent(&error), "{error}");
        assert!(!was_silent(&std::io::Error::other("gone")));
    }

    #[tokio::test(start_paused = true)]
    async fn time_in_which_nobody_reads_does_not_count() {
        let mut body = Patient::with(Body::from_stream(stream::iter(["a", "b"].map(Ok::<_, std::io::Error>))));
        body.frame().await.unwrap().unwrap();
        sleep(PAUSE * 2).await;
        assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "b");
    }
}
