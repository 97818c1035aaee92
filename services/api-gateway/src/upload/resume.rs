//! Raw bytes of an upload, from any offset that is durable.

use axum::{extract::Request, response::Response};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use crate::{
    error::{Error, Result},
    upload::{empty, session::Session},
};

/// Media type of the bytes.
pub const MEDIA_TYPE: &str = "application/offset+octet-stream";
/// The next byte to send.
pub const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");

/// How far an upload is.
pub async fn offset(session: &Session, upload_id: &str) -> Result<Response> {
    let upload = session.get(upload_id).await?;
    let mut response = empty(StatusCode::OK);
    let headers = response.headers_mut();
    headers.insert(UPLOAD_OFFSET, HeaderValue::from(upload.offset_bytes));
    if upload.size_bytes > 0 {
        headers.insert(UPLOAD_LENGTH, HeaderValue::from(upload.size_bytes));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Appends the request's body.
pub async fn append(session: Session, upload_id: &str, request: Request) -> Result<Response> {
    if request.method() != Method::PATCH {
        return Err(Error::WrongMethod { method: request.method().clone(), allowed: "HEAD, PATCH, OPTIONS".into() });
    }
    let offset_bytes = wanted_offset(request.headers())?;
    let upload_id = upload_id.to_owned();
    // In a task of its own: when the connection breaks, this call is dropped, but what has come in so
    // far must still become durable, or the caller would send it again.
    let write = tokio::spawn(async move {
        let mut body = request.into_body().into_data_stream();
        let pump = async |sender| {
            while let Some(chunk) = body.next().await {
                let chunk = chunk.map_err(|error| Error::of_body(&error))?;
                if !session.send(&sender, chunk).await {
                    break;
                }
            }
            Ok(())
        };
        session.write(&upload_id, offset_bytes, pump).await
    });
    let upload = write.await.map_err(|error| Error::Contract(error.to_string()))??;
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(UPLOAD_OFFSET, HeaderValue::from(upload.offset_bytes));
    Ok(response)
}

fn wanted_offset(headers: &HeaderMap) -> Result<u64> {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != MEDIA_TYPE) {
        return Err(Error::WrongMediaType { wanted: MEDIA_TYPE });
    }
    let offset = headers.get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()).and_then(|text| text.parse().ok());
    offset.ok_or_else(|| Error::field("Upload-Offset", "is the offset of the first byte, as HEAD tells it"))
}
