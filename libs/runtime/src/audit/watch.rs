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
use streamgate_core::{Caller, ErrorKind, Failure, access::only_reads};
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

/// A call under way. When it goes, it is noted as far as it came: callers break off, and handlers panic.
pub(crate) struct Watched {
    auditor: Auditor,
    path: String,
    shape: &'static Shape,
    request_id: String,
    head: Head,
    caller: Option<Caller>,
    /// How it would be noted now; absent while it need not be.
    ending: Option<Ending>,
}

/// How a call ended.
enum Ending {
    /// With an answer, that names what was made.
    Done(String),
    Failed(Failure),
}

impl Watched {
    /// Watches a call of a contract; others are not noted.
    pub(crate) fn new(auditor: &Auditor, path: &str, request_id: &str) -> Option<Self> {
        let shape = object::shape(path)?;
        let (path, request_id) = (path.to_owned(), request_id.to_owned());
        Some(Self { auditor: auditor.clone(), path, shape, request_id, head: Head::default(), caller: None, ending: None })
    }

    /// The body, with its first bytes noted as they pass.
    fn body(&self, body: Body) -> Body {
        Body::new(Passing { body, head: Arc::clone(&self.head) })
    }

    /// Notes a call that was refused before it reached its handler.
    pub(crate) async fn refused(mut self, caller: Option<Caller>, failure: Failure, body: Body) {
        (self.caller, self.ending) = (caller, Some(Ending::Failed(failure)));
        // Strangers may keep their bytes back; who is known is asked for them.
        if self.caller.as_ref().is_some_and(|caller| caller.account().is_some()) {
            let mut body = self.body(body);
            let _first = tokio::time::timeout(HEAD_PATIENCE, body.frame()).await;
        }
    }

    /// Lets a call go to its handler, which may change something before it is dropped.
    pub(crate) fn admitted(&mut self, caller: Option<Caller>, body: Body) -> Body {
        self.caller = caller;
        if self.may_change() {
            let message = "the call ended before its answer";
            self.ending = Some(Ending::Failed(Failure::new(ErrorKind::Cancelled, "outcome_unknown", message)));
        }
        self.body(body)
    }

    /// Notes how a call was answered, if it must be.
    pub(crate) async fn answered(mut self, response: Response<Body>) -> Response<Body> {
        // An error comes in the head, since no handler of ours sends a part of an answer before it.
        let failure = Status::from_header_map(response.headers()).map(|status| Failure::from(&status));
        let is_refused = super::outcome(failure.as_ref()) == super::AuditOutcome::Refused;
        if !is_refused && !self.may_change() {
            return response;
        }
        if let Some(failure) = failure {
            self.ending = Some(Ending::Failed(failure));
            return response;
        }
        self.ending = Some(Ending::Done(String::new()));
        if !self.shape.is_unary {
            return response;
        }
        let (parts, body) = response.into_parts();
        // A unary answer lies in memory already, whole.
        let Ok(answer) = body.collect().await else {
            return Status::internal("internal error").into_http();
        };
        let trailers = answer.trailers().cloned();
        let bytes = answer.to_bytes();
        self.ending = Some(Ending::Done(self.shape.of_response(&bytes)));
        let answer = Full::new(bytes).with_trailers(async move { trailers.map(Ok) });
        Response::from_parts(parts, Body::new(answer))
    }

    fn may_change(&self) -> bool {
        !only_reads(&self.path) && !self.caller.as_ref().is_some_and(Caller::is_service)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let (created, failure) = match self.ending.take() {
            None => return,
            Some(Ending::Done(created)) => (created, None),
            Some(Ending::Failed(failure)) => (String::new(), Some(failure)),
        };
        let asked = self.shape.of_request(&self.head.lock().unwrap_or_else(PoisonError::into_inner));
        let object = if asked.is_empty() { created } else { asked };
        let (method, caller, request_id) = (self.path.as_str(), self.caller.as_ref(), self.request_id.as_str());
        self.auditor.note(&Noted { method, caller, object, failure: failure.as_ref(), request_id });
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
