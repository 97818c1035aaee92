//! The end of streams when the edge stops: they last for as long as they are let, and would use up the time of all who stop
//! after it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use http::{HeaderMap, Response};
use http_body::Frame;
use streamgate_core::{ErrorKind, Failure};
use streamgate_runtime::CancellationToken;
use tonic::{Status, body::Body};

/// How long a stream may go on once the edge stops: enough for what is on its way.
const LEEWAY: Duration = Duration::from_secs(1);
/// When its caller may try again. By then others have taken over, or the edge is back.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Ends streams soon after the edge begins to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Ending {
    stop: CancellationToken,
}

impl Ending {
    /// The edge stops when `stop` is cancelled.
    #[must_use]
    pub const fn with(stop: CancellationToken) -> Self {
        Self { stop }
    }

    /// The answer of a stream, which ends with a status when the edge stops.
    pub async fn of(&self, call: impl Future<Output = Response<Body>>) -> Response<Body> {
        let mut due = self.due();
        tokio::select! {
            biased;
            response = call => response.map(|body| Body::new(Bounded { body: Some(body), due, is_due: false, messages: Messages::default() })),
            () = &mut due => stopping().into_http(),
        }
    }

    fn due(&self) -> BoxFuture<'static, ()> {
        let stop = self.stop.clone();
        Box::pin(async move {
            stop.cancelled().await;
            tokio::time::sleep(LEEWAY).await;
        })
    }
}

fn stopping() -> Status {
    Failure::new(ErrorKind::Unavailable, "stopping", "this instance stops; try again soon").retry_after(RETRY_AFTER).into()
}

/// The answer of a stream, for as long as it may go on.
struct Bounded {
    /// Absent when it was ended.
    body: Option<Body>,
    due: BoxFuture<'static, ()>,
    is_due: bool,
    messages: Messages,
}

impl http_body::Body for Bounded {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        this.is_due = this.is_due || this.due.as_mut().poll(context).is_ready();
        // A client takes what ends within a message for broken, whatever status follows.
        if this.is_due && this.messages.is_between_two() {
            this.body = None;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(stopping().add_header(&mut trailers).map(|()| Frame::trailers(trailers))));
        }
        let frame = ready!(Pin::new(body).poll_frame(context));
        let Some(Ok(frame)) = frame else { return Poll::Ready(frame) };
        let whole = frame.into_data().map(|mut data| {
            data.truncate(this.messages.pass(&data, this.is_due));
            Frame::data(data)
        });
        Poll::Ready(Some(Ok(whole.unwrap_or_else(|trailers| trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

/// Where in a row of gRPC messages a body is: each has a head of five bytes, the last four of which say its length.
#[derive(Debug, Default)]
struct Messages {
    head: [u8; 5],
    head_bytes: usize,
    /// Bytes of the message that are to come.
    left: usize,
}

impl Messages {
    const fn is_between_two(&self) -> bool {
        self.head_bytes == 0 && self.left == 0
    }

    /// Notes bytes that pass; to the end of the message under way at the most, if `only_this`. Gives how many.
    fn pass(&mut self, data: &[u8], only_this: bool) -> usize {
        let mut passed = 0;
        while passed < data.len() && !(only_this && passed > 0 && self.is_between_two()) {
            if self.left == 0 {
                self.head[self.head_bytes] = data[passed];
                self.head_bytes += 1;
                passed += 1;
                if self.head_bytes == self.head.len() {
                    let [_, length @ ..] = self.head;
                    (self.head_bytes, self.left) = (0, u32::from_be_bytes(length) as usize);
                }
            } else {
                let some = self.left.min(data.len() - passed);
                self.left -= some;
                passed += some;
            }
        }
        passed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_message_is_found_however_it_is_cut() {
        let row = [&[0, 0, 0, 0, 3, 1, 2, 3][..], &[0, 0, 0, 0, 0], &[1, 0, 0, 1, 0], &[9; 256]].concat();
        for piece in 1..row.len() {
            let (mut messages, mut ends, mut at) = (Messages::default(), Vec::new(), 0);
            while at < row.len() {
                at += messages.pass(&row[at..row.len().min(at + piece)], true);
                if messages.is_between_two() {
                    ends.push(at);
                }
            }
            assert_eq!(ends, [8, 13, row.len()], "{piece}");
            assert_eq!(Messages::default().pass(&row, false), row.len());
        }
    }
}
