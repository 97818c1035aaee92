//! Everything the edge serves on its port beside its own gRPC service.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State, rejection::PathRejection},
    response::{IntoResponse as _, Response},
    routing::{any, get},
};
use http::{HeaderValue, Method, header};
use prost_reflect::DescriptorPool;

use crate::{
    backends::Backends,
    config::Config,
    edge::{self, limit::Limits},
    ending::Ending,
    error::Error,
    media::Media,
    metrics::EdgeMetrics,
    openapi, pages,
    proxy::{Proxy, is_grpc},
    rest::{self, Transcoder},
    upload::{Uploads, chunk::Kind},
};

/// What the handlers share.
#[derive(Debug)]
struct Edge {
    transcoder: Transcoder,
    proxy: Proxy,
    uploads: Uploads,
    media: Media,
    openapi: String,
}

/// All routes of the edge.
///
/// # Errors
/// A sentence when the contracts can't be served.
pub fn router(
    backends: &Backends,
    config: &Config,
    public_url: &str,
    metrics: &EdgeMetrics,
    ending: Ending,
) -> Result<Router, String> {
    let pool = DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string())?;
    let transcoder = Transcoder::new(&pool, backends.clone(), config)?;
    let edge = Arc::new(Edge {
        openapi: openapi::document(&pool, transcoder.table(), public_url).to_string(),
        proxy: Proxy::new(backends.clone(), &pool, ending),
        uploads: Uploads::new(backends.clone(), pool, metrics.clone(), config.call_timeout()),
        media: Media::new(backends.clone(), metrics.clone(), config.call_timeout(), public_url),
        transcoder,
    });
    let routes = pages::routes()
        .route("/openapi.json", get(openapi_json))
        .route("/api/v1/upload", any(upload))
        .route("/api/v1/upload/chunk", any(upload_chunk))
        .route("/api/v1/uploads/{upload_id}", any(upload_bytes))
        .route("/api/v1/uploads/{upload_id}/chunks", any(upload_chunk_of))
        .route("/play/{*path}", any(play))
        .route("/api/v1/stream/hls", any(play))
        .route("/api/v1/stream/dash", any(play))
        .route("/api/v1/stream/segment", any(play))
        .fallback(rest_or_grpc)
        .method_not_allowed_fallback(only_get)
        .with_state(edge);
    Ok(edge::around(routes, Limits::new(config, metrics.clone()), metrics.clone()))
}

async fn rest_or_grpc(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    if is_grpc(request.headers()) { edge.proxy.answer(request).await } else { edge.transcoder.answer(request).await }
}

/// A form is taken in by hand; JSON begins an upload, which is REST.
async fn upload(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    if *request.method() == Method::POST && !rest::is_json_body(request.headers()) {
        return edge.uploads.form(request).await.unwrap_or_else(Error::into_response);
    }
    edge.transcoder.answer(request).await
}

async fn upload_chunk(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    chunk_of(&edge, None, request).await
}

async fn upload_chunk_of(State(edge): State<Arc<Edge>>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    let Ok(Path(upload_id)) = path else { return Error::UnknownPath.into_response() };
    chunk_of(&edge, Some(&upload_id), request).await
}

/// The bytes of a chunk are streamed by hand; a chunk in JSON is REST.
async fn chunk_of(edge: &Edge, upload_id: Option<&str>, request: Request) -> Response {
    if *request.method() != Method::POST {
        return edge.transcoder.answer(request).await;
    }
    match Kind::of(request.headers()) {
        Ok(Kind::Json) => edge.transcoder.answer(request).await,
        Ok(kind) => edge.uploads.chunk(upload_id, kind, request).await.unwrap_or_else(Error::into_response),
        Err(error) => error.into_response(),
    }
}

/// Bytes of an upload are written by hand; all else at this path is REST.
async fn upload_bytes(State(edge): State<Arc<Edge>>, path: Result<Path<String>, PathRejection>, request: Request) -> Response {
    let Ok(Path(upload_id)) = path else { return Error::UnknownPath.into_response() };
    match *request.method() {
        Method::PATCH | Method::HEAD => edge.uploads.resume(&upload_id, request).await.unwrap_or_else(Error::into_response),
        _ => edge.transcoder.answer(request).await,
    }
}

async fn play(State(edge): State<Arc<Edge>>, request: Request) -> Response {
    edge.media.answer(request).await.unwrap_or_else(Error::into_response)
}

async fn openapi_json(State(edge): State<Arc<Edge>>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-cache")),
    ];
    (headers, edge.openapi.clone()).into_response()
}

async fn only_get(method: Method) -> Response {
    Error::WrongMethod { method, allowed: "GET, HEAD, OPTIONS".into() }.into_response()
}
