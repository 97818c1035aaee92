//! A multipart form, read part by part.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::{
    body::Body,
    extract::{
        DefaultBodyLimit, FromRequest as _, Multipart, Request,
        multipart::{Field, MultipartError},
    },
};
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, timeout_at};

use crate::{
    edge::patience::was_silent,
    error::{Error, Result},
};

/// Largest text of a part: a gate of 32 leaves fits many times.
const TEXT_BYTES: usize = 64 * 1024;
/// Bytes in which no part is found. The parser keeps what it can make nothing of, and anybody may send it.
const UNREAD_BYTES: usize = 256 * 1024;

/// A form of any length; none of it is gathered but the texts of its parts.
pub struct Form {
    parts: Multipart,
    unread: Unread,
}

impl Form {
    /// Of a request with such a body.
    ///
    /// # Errors
    /// `Malformed` when the request does not say where parts end.
    pub async fn of(mut request: Request) -> Result<Self> {
        // The body is a stream of any length; the upload service knows the limit.
        DefaultBodyLimit::disable().apply(&mut request);
        let unread = Unread::default();
        let request = request.map(|body| Body::new(Sips { body, unread: unread.clone(), rests: false }));
        let parts = Multipart::from_request(request, &()).await.map_err(|error| Error::Malformed(error.body_text()))?;
        Ok(Self { parts, unread })
    }

    /// The next part, once the one before is read.
    ///
    /// # Errors
    /// When the form is broken, or breaks off.
    pub async fn next(&mut self) -> Result<Option<Part<'_>>> {
        let field = self.parts.next_field().await.map_err(|error| broken(&error))?;
        self.unread.clear();
        Ok(field.map(|field| Part { field, unread: self.unread.clone() }))
    }
}

/// A part of a form.
pub struct Part<'a> {
    field: Field<'a>,
    unread: Unread,
}

impl Part<'_> {
    /// Name of the field, or nothing.
    pub fn name(&self) -> &str {
        self.field.name().unwrap_or_default()
    }

    /// Name of the file, if it says so.
    pub fn file_name(&self) -> Option<&str> {
        self.field.file_name().filter(|name| !name.is_empty())
    }

    /// The bytes that come next.
    ///
    /// # Errors
    /// When the form is broken, or breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let chunk = self.field.chunk().await.map_err(|error| broken(&error))?;
        self.unread.clear();
        Ok(chunk)
    }

    /// All of it, as a text.
    ///
    /// # Errors
    /// When it is too long or none, or the form breaks off.
    pub async fn text(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if bytes.len() + chunk.len() > TEXT_BYTES {
                return Err(Error::field(self.name(), format!("is longer than {TEXT_BYTES} bytes")));
            }
            bytes.extend_from_slice(&chunk);
        }
        String::from_utf8(bytes).map_err(|_| Error::field(self.name(), "is no UTF-8 text"))
    }
}

/// What `reading` gives, unless it takes too long. The words of a form come before its sender is known.
///
/// # Errors
/// `SlowBody` at `end`.
pub async fn before<T>(end: Instant, reading: impl Future<Output = Result<T>>) -> Result<T> {
    timeout_at(end, reading).await.map_err(|_| Error::SlowBody)?
}

fn broken(error: &MultipartError) -> Error {
    if was_silent(error) {
        return Error::SlowBody;
    }
    // The parser tells a broken connection and a broken form apart only in words.
    tracing::debug!(error = %error.body_text(), "a form could not be read");
    Error::Malformed(format!("the form could not be read: {}", error.body_text()))
}

/// Bytes that went into the parser since something came out.
#[derive(Clone, Default)]
struct Unread(Arc<AtomicUsize>);

impl Unread {
    fn clear(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

/// A body that is read one frame at a time: the parser would else take in all that has come before it looks at any of it.
struct Sips {
    body: Body,
    unread: Unread,
    rests: bool,
}

impl http_body::Body for Sips {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, axum::Error>>> {
        let this = self.get_mut();
        if std::mem::take(&mut this.rests) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if this.unread.0.load(Ordering::Relaxed) > UNREAD_BYTES {
            return Poll::Ready(Some(Err(axum::Error::new(std::io::Error::other("no part of a form in so many bytes")))));
        }
        let polled = Pin::new(&mut this.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            this.unread.0.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::Relaxed);
            this.rests = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
