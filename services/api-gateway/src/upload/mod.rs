//! Uploads over HTTP: one multipart form, raw bytes that go on where a broken connection left off, or chunks in any order.
//!
//! Bytes pass through; none are gathered. Each call goes to the upload service as the caller.

pub mod chunk;
pub mod form;
mod linger;
mod parts;
pub mod resume;
mod session;
mod unfinished;

use std::time::Duration;

use axum::{body::Body, extract::Request, response::Response};
use http::Method;
use prost_reflect::DescriptorPool;

use crate::{
    backends::Backends,
    context::CallContext,
    error::{Error, Result},
    metrics::EdgeMetrics,
    upload::{linger::Rest, session::Session},
};

/// Answers uploads.
#[derive(Debug, Clone)]
pub struct Uploads {
    backends: Backends,
    pool: DescriptorPool,
    metrics: EdgeMetrics,
    timeout: Duration,
}

impl Uploads {
    /// Uploads into `backends`; each call to a service that does not carry bytes may take `timeout`.
    #[must_use]
    pub const fn new(backends: Backends, pool: DescriptorPool, metrics: EdgeMetrics, timeout: Duration) -> Self {
        Self { backends, pool, metrics, timeout }
    }

    /// `POST /api/v1/upload`: a multipart form with a file.
    ///
    /// # Errors
    /// When the form can't be read, or a service refuses.
    pub async fn form(&self, request: Request) -> Result<Response> {
        if request.method() != Method::POST {
            return Err(Error::WrongMethod { method: request.method().clone(), allowed: "POST, OPTIONS".into() });
        }
        heard(request, |request| form::answer(self, request)).await
    }

    /// `POST /api/v1/upload/chunk` and `POST /api/v1/uploads/{upload_id}/chunks`, when the body is no JSON.
    ///
    /// # Errors
    /// When it is not said where the chunk belongs, or the upload service refuses.
    pub async fn chunk(&self, upload_id: Option<&str>, kind: chunk::Kind, request: Request) -> Result<Response> {
        heard(request, |request| chunk::answer(self, upload_id, kind, request)).await
    }

    /// `HEAD` and `PATCH /api/v1/uploads/{upload_id}`: how far an upload is, and more of its bytes.
    ///
    /// # Errors
    /// When the headers are wrong, or the upload service refuses.
    pub async fn resume(&self, upload_id: &str, request: Request) -> Result<Response> {
        let session = self.session(&CallContext::of(request.headers()));
        if request.method() == Method::HEAD {
            return resume::offset(&session, upload_id).await;
        }
        heard(request, |request| resume::append(session, upload_id, request)).await
    }

    fn session(&self, context: &CallContext) -> Session {
        Session::new(&self.backends, context.clone(), self.metrics.clone(), self.timeout)
    }
}

/// What `answer` makes of the request, once a client that is refused can hear it.
async fn heard<F>(request: Request, answer: impl FnOnce(Request) -> F) -> Result<Response>
where
    F: Future<Output = Result<Response>>,
{
    let (request, rest) = Rest::of(request);
    let outcome = answer(request).await;
    // Whoever sends nothing is not waited for once more.
    if outcome.as_ref().is_err_and(|error| !matches!(error, Error::SlowBody))
        && let Some(rest) = rest
    {
        rest.drain().await;
    }
    outcome
}

/// An answer without a body.
fn empty(status: http::StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}
