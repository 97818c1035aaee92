//! Reads a refused body on for a moment, so that the answer arrives.
//!
//! A client of HTTP/1 sends its whole body before it reads. Closed before that, the connection breaks under its hands, and
//! it never learns why it was refused.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, extract::Request};
use bytes::Bytes;
use http::header::EXPECT;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::timeout;

/// Longest time that a refused body is read on: enough for a file that is on its way, too short to be a burden.
const LINGER: Duration = Duration::from_secs(5);

/// What is left of a body when its reader has given up.
pub(super) struct Rest(Shared);

#[derive(Clone)]
struct Shared(Arc<Mutex<Body>>);

impl Rest {
    /// Keeps a hand on the body of `request`. Absent when the client waits for leave to send it.
    pub(super) fn of(request: Request) -> (Request, Option<Self>) {
        if request.headers().contains_key(EXPECT) {
            return (request, None);
        }
        let (parts, body) = request.into_parts();
        let shared = Shared(Arc::new(Mutex::new(body)));
        (Request::from_parts(parts, Body::new(shared.clone())), Some(Self(shared)))
    }

    /// Reads it to its end, or for as long as is bearable.
    pub(super) async fn drain(self) {
        let mut body = self.0;
        let to_the_end = async { while let Some(Ok(_)) = body.frame().await {} };
        // Whoever is still sending then will see the connection break.
        let _ended = timeout(LINGER, to_the_end).await;
    }
}

impl http_body::Body for Shared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}
