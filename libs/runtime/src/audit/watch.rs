//! A call that may have to be noted: what it asks, who asks, and how it ends.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, Full};
use streamgate_core::{Caller, Failure, access::only_reads};
use tonic::Status;

use super::{
    Auditor, Noted,
    object::{self, Shape},
};

/// Bytes of a request that are looked at for ids, which come first.
const HEAD_BYTES: usize = 1024;
/// Patience with the first bytes of a request that is refused.
const HEAD_PATIENCE: Duration = Duration::from_millis(50);

/// The first bytes of a body, as they pass.
type Head = Arc<Mutex<Vec<u8>>>;

/// A call under way.
pub(crate) struct Watched {
    auditor: Auditor,
    path: String,
    shape: &'static Shape,
    request_id: String,
    head: Head,
}

impl Watched {
    /// Watches a call of a contract; others are not noted.
    pub(crate) fn new(auditor: &Auditor, path: &str, request_id: &str) -> Option<Self> {
        let shape = object::shape(path)?;
        let (path, request_id) = (path.to_owned(), request_id.to_owned());
        Some(Self { auditor: auditor.clone(), path, shape, request_id, head: Head::default() })
    }

    /// The body, with its first bytes noted as they pass.
    pub(crate) fn body(&self, body: Body) -> Body {
        Body::new(Passing { body, head: Arc::clone(&self.head) })
    }

    /// Notes a call that was refused before it reached its handler.
    pub(crate) async fn refused(self, caller: Option<&Caller>, failure: &Failure, body: Body) {
        // Strangers may keep their bytes back; who is known is asked for them.
        if caller.is_some_and(|caller| caller.account().is_some()) {
            let mut body = self.body(body);
            let _first = tokio::time::timeout(HEAD_PATIENCE, body.frame()).await;
        }
        self.note(caller, Some(failure), "");
    }

    /// Notes how a call was answered, if it must be.
    pub(crate) async fn answered(self, caller: Option<&Caller>, response: Response<Body>) -> Response<Body> {
        // An error comes in the head, since no handler of ours sends a part of an answer before it.
        let failure = Status::from_header_map(response.headers()).map(|status| Failure::from(&status));
        let is_refused = failure.as_ref().is_some_and(|failure| super::outcome(Some(failure)) == super::AuditOutcome::Refused);
        let may_change = !only_reads(&self.path) && !caller.is_some_and(Caller::is_service);
        if !is_refused && !may_change {
            return response;
        }
        if failure.is_some() || !self.shape.is_unary {
            self.note(caller, failure.as_ref(), "");
            return response;
        }
        let (parts, body) = response.into_parts();
        // A unary answer lies in memory already, whole.
        let Ok(answer) = body.collect().await else {
            self.note(caller, None, "");
            return Status::internal("internal error").into_http();
        };
        let trailers = answer.trailers().cloned();
        let bytes = answer.to_bytes();
        self.note(caller, None, &self.shape.of_response(&bytes));
        let answer = Full::new(bytes).with_trailers(async move { trailers.map(Ok) });
        Response::from_parts(parts, Body::new(answer))
    }

    fn note(&self, caller: Option<&Caller>, failure: Option<&Failure>, created: &str) {
        let asked = self.shape.of_request(&self.head.lock().unwrap_or_else(PoisonError::into_inner));
        let object = if asked.is_empty() { created.to_owned() } else { asked };
        self.auditor.note(&Noted { method: &self.path, caller, object, failure, request_id: &self.request_id });
    }
}

/// A body whose first bytes are noted.
struct Passing {
    body: Body,
    head: Head,
}

impl http_body::Body for Passing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(frame)) = &frame
            && let Some(data) = frame.data_ref()
        {
            let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
            let room = HEAD_BYTES.saturating_sub(head.len()).min(data.len());
            head.extend_from_slice(&data[..room]);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
