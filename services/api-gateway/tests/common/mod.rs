//! The edge in front of small services of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "each file of tests uses a part of it")]

use std::sync::{Arc, Mutex};

use axum::{Router, body::Body};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt as _;
use streamgate_api_gateway::{Config, backends::Backends, ending::Ending, grpc::Gateway, metrics::EdgeMetrics, router::router};
use streamgate_core::{ErrorKind, Failure, ServiceName};
use streamgate_proto::streamgate::{
    gateway::v1::gateway_service_server::GatewayServiceServer,
    streaming::v1::{
        self as streaming,
        read_asset_response::Part as AssetPart,
        streaming_service_server::{StreamingService, StreamingServiceServer},
    },
    upload::v1::{
        self as upload, UploadState,
        upload_service_server::{UploadService, UploadServiceServer},
        write_upload_request::Part,
    },
};
use streamgate_runtime::CancellationToken;
use tonic::{Request as Call, Response as Answer, Status, Streaming, service::Routes};
use tower::ServiceExt as _;

/// What the fake services have seen.
#[derive(Debug, Clone, Default)]
pub struct Seen(pub Arc<Mutex<Log>>);

#[derive(Debug, Default)]
pub struct Log {
    pub headers: Vec<HeaderMap>,
    pub created: Vec<upload::CreateUploadRequest>,
    pub bytes: Vec<u8>,
    pub chunks: Vec<(Option<upload::WriteChunkHeader>, Vec<u8>)>,
    pub cancelled: usize,
    pub completed: usize,
    pub reads: Vec<streaming::ReadAssetRequest>,
    /// The store has no room for the bytes of a file.
    pub full: bool,
}

impl Seen {
    fn note<T>(&self, call: &Call<T>) {
        self.0.lock().unwrap().headers.push(call.metadata().clone().into_headers());
    }
}

#[derive(Debug, Clone)]
struct Uploads(Seen);

impl Uploads {
    fn state(&self, state: UploadState) -> Option<upload::Upload> {
        let log = self.0.0.lock().unwrap();
        Some(upload::Upload {
            upload_id: "upl_1".into(),
            content_id: "cnt_1".into(),
            filename: "clip.mp4".into(),
            file_id: "fil_1".into(),
            sha256: "ab".into(),
            state: state.into(),
            offset_bytes: log.bytes.len() as u64,
            ..upload::Upload::default()
        })
    }
}

#[async_trait::async_trait]
impl UploadService for Uploads {
    async fn create_upload(
        &self,
        call: Call<upload::CreateUploadRequest>,
    ) -> Result<Answer<upload::CreateUploadResponse>, Status> {
        self.0.note(&call);
        if call.metadata().get("authorization").is_none() {
            return Err(Failure::new(ErrorKind::Unauthenticated, "credentials_missing", "sign in first").into());
        }
        self.0.0.lock().unwrap().created.push(call.into_inner());
        Ok(Answer::new(upload::CreateUploadResponse { upload: self.state(UploadState::Open) }))
    }

    async fn write_upload(
        &self,
        call: Call<Streaming<upload::WriteUploadRequest>>,
    ) -> Result<Answer<upload::WriteUploadResponse>, Status> {
        self.0.note(&call);
        let mut messages = call.into_inner();
        while let Some(message) = messages.message().await? {
            match message.part {
                Some(Part::Header(header)) if header.offset_bytes != self.0.0.lock().unwrap().bytes.len() as u64 => {
                    return Err(Failure::new(ErrorKind::Aborted, "wrong_offset", "ask for the offset").into());
                }
                Some(Part::Chunk(_)) if self.0.0.lock().unwrap().full => {
                    return Err(Failure::new(ErrorKind::StorageFull, "storage_full", "no room is left").into());
                }
                Some(Part::Chunk(chunk)) => self.0.0.lock().unwrap().bytes.extend_from_slice(&chunk),
                _ => {}
            }
        }
        Ok(Answer::new(upload::WriteUploadResponse { upload: self.state(UploadState::Open) }))
    }

    async fn upload_chunk(&self, call: Call<upload::UploadChunkRequest>) -> Result<Answer<upload::UploadChunkResponse>, Status> {
        let chunk = call.into_inner();
        self.0.0.lock().unwrap().chunks.push((None, chunk.data.to_vec()));
        Ok(Answer::new(upload::UploadChunkResponse { chunk_count: 1, ..Default::default() }))
    }

    async fn write_chunk(
        &self,
        call: Call<Streaming<upload::WriteChunkRequest>>,
    ) -> Result<Answer<upload::WriteChunkResponse>, Status> {
        use upload::write_chunk_request::Part;
        self.0.note(&call);
        let mut messages = call.into_inner();
        let (mut header, mut bytes) = (None, Vec::new());
        while let Some(message) = messages.message().await? {
            match message.part {
                Some(Part::Header(first)) => header = Some(first),
                Some(Part::Data(data)) => bytes.extend_from_slice(&data),
                None => {}
            }
        }
        let mut log = self.0.0.lock().unwrap();
        log.chunks.push((header, bytes));
        let chunk_count = u32::try_from(log.chunks.len()).unwrap();
        Ok(Answer::new(upload::WriteChunkResponse { chunk_count, ..Default::default() }))
    }

    async fn complete_upload(
        &self,
        _: Call<upload::CompleteUploadRequest>,
    ) -> Result<Answer<upload::CompleteUploadResponse>, Status> {
        self.0.0.lock().unwrap().completed += 1;
        Ok(Answer::new(upload::CompleteUploadResponse { upload: self.state(UploadState::Completed) }))
    }

    async fn get_upload(&self, call: Call<upload::GetUploadRequest>) -> Result<Answer<upload::GetUploadResponse>, Status> {
        self.0.note(&call);
        Ok(Answer::new(upload::GetUploadResponse { upload: self.state(UploadState::Open) }))
    }

    async fn list_uploads(&self, call: Call<upload::ListUploadsRequest>) -> Result<Answer<upload::ListUploadsResponse>, Status> {
        self.0.note(&call);
        Ok(Answer::new(upload::ListUploadsResponse {
            uploads: vec![],
            next_page_token: format!("after {}", call.get_ref().page_size),
        }))
    }

    async fn cancel_upload(&self, _: Call<upload::CancelUploadRequest>) -> Result<Answer<upload::CancelUploadResponse>, Status> {
        self.0.0.lock().unwrap().cancelled += 1;
        Ok(Answer::new(upload::CancelUploadResponse { upload: self.state(UploadState::Cancelled) }))
    }

    async fn sweep_uploads(&self, _: Call<upload::SweepUploadsRequest>) -> Result<Answer<upload::SweepUploadsResponse>, Status> {
        Ok(Answer::new(upload::SweepUploadsResponse::default()))
    }

    async fn verify_objects(
        &self,
        _: Call<upload::VerifyObjectsRequest>,
    ) -> Result<Answer<upload::VerifyObjectsResponse>, Status> {
        Ok(Answer::new(upload::VerifyObjectsResponse::default()))
    }
}

/// The bytes of the one segment there is.
pub const SEGMENT: &[u8] = b"0123456789";
/// An asset whose header is all that ever comes of it, and one of which nothing comes.
pub const ENDLESS: &str = "endless";
pub const SILENT: &str = "silent";

#[derive(Debug, Clone)]
struct Player(Seen);

#[async_trait::async_trait]
impl StreamingService for Player {
    type ReadAssetStream = BoxStream<'static, Result<streaming::ReadAssetResponse, Status>>;

    async fn read_asset(&self, call: Call<streaming::ReadAssetRequest>) -> Result<Answer<Self::ReadAssetStream>, Status> {
        self.0.note(&call);
        let bearer = call.metadata().contains_key("authorization");
        let asked = call.into_inner();
        self.0.0.lock().unwrap().reads.push(asked.clone());
        match asked.path.as_str() {
            SILENT => return std::future::pending().await,
            ENDLESS => {
                let header = streaming::ReadAssetResponse { part: Some(AssetPart::Header(Default::default())) };
                return Ok(Answer::new(stream::iter([Ok(header)]).chain(stream::pending()).boxed()));
            }
            _ => {}
        }
        if asked.token.is_empty() && !bearer {
            return Err(Failure::new(ErrorKind::PermissionDenied, "gate_not_met", "the gate is not met")
                .with_unmet(vec!["hold 1".into()])
                .into());
        }
        let size = SEGMENT.len() as u64;
        let (first, last) = match asked.range {
            Some(range) => (range.start.unwrap_or(0), range.end.unwrap_or(size - 1).min(size - 1)),
            None => (0, size - 1),
        };
        if first >= size {
            return Err(Failure::new(ErrorKind::OutOfRange, "out_of_range", "past the end").into());
        }
        let entry = asked.path == "master.m3u8";
        let header = streaming::AssetHeader {
            content_type: "video/iso.segment".into(),
            etag: "\"t1\"".into(),
            size_bytes: size,
            offset_bytes: first,
            length_bytes: last - first + 1,
            partial: asked.range.is_some(),
            not_modified: asked.if_none_match.iter().any(|tag| tag == "\"t1\""),
            immutable: !entry,
            new_token: if entry && bearer { "fresh".into() } else { String::new() },
            new_token_expires_at: None,
        };
        let bytes = Bytes::from_static(SEGMENT).slice(first as usize..=last as usize);
        let mut parts = vec![AssetPart::Header(header.clone())];
        if !asked.head_only && !header.not_modified {
            parts.extend(bytes.chunks(4).map(|chunk| AssetPart::Chunk(Bytes::copy_from_slice(chunk))));
        }
        let messages = parts.into_iter().map(|part| Ok(streaming::ReadAssetResponse { part: Some(part) }));
        Ok(Answer::new(Box::pin(stream::iter(messages))))
    }

    async fn create_session(
        &self,
        _: Call<streaming::CreateSessionRequest>,
    ) -> Result<Answer<streaming::CreateSessionResponse>, Status> {
        let failure = Failure::new(ErrorKind::Unavailable, "ownership_unknown", "the chain did not answer");
        Err(failure.retry_after(std::time::Duration::from_secs(5)).into())
    }

    async fn get_session(&self, _: Call<streaming::GetSessionRequest>) -> Result<Answer<streaming::GetSessionResponse>, Status> {
        Err(Status::internal("secret path"))
    }

    async fn get_stream_info(
        &self,
        _: Call<streaming::GetStreamInfoRequest>,
    ) -> Result<Answer<streaming::GetStreamInfoResponse>, Status> {
        Ok(Answer::new(streaming::GetStreamInfoResponse::default()))
    }

    async fn list_sessions(
        &self,
        _: Call<streaming::ListSessionsRequest>,
    ) -> Result<Answer<streaming::ListSessionsResponse>, Status> {
        Ok(Answer::new(streaming::ListSessionsResponse::default()))
    }

    async fn end_session(
        &self,
        call: Call<streaming::EndSessionRequest>,
    ) -> Result<Answer<streaming::EndSessionResponse>, Status> {
        let session = streaming::Session { session_id: call.into_inner().session_id, ..streaming::Session::default() };
        Ok(Answer::new(streaming::EndSessionResponse { session: Some(session) }))
    }
}

/// The small services, as they stand behind an edge.
pub fn behind(seen: &Seen) -> Backends {
    let others = Backends::default()
        .with(ServiceName::Upload, Routes::new(UploadServiceServer::new(Uploads(seen.clone()))))
        .with(ServiceName::Streaming, Routes::new(StreamingServiceServer::new(Player(seen.clone()))));
    let own = Routes::new(GatewayServiceServer::new(Gateway::new(others.clone())));
    others.with(ServiceName::ApiGateway, own)
}

/// The edge and what stands behind it.
pub struct Edge {
    router: Router,
    pub seen: Seen,
    /// Cancelled when it stops.
    pub stop: CancellationToken,
}

impl Edge {
    pub fn start() -> Self {
        Self::with(&Config::default())
    }

    pub fn with(config: &Config) -> Self {
        let seen = Seen::default();
        let stop = CancellationToken::new();
        let (metrics, ending) = (EdgeMetrics::default(), Ending::with(stop.clone()));
        let router = router(&behind(&seen), config, "https://video.example", &metrics, ending).unwrap();
        Self { router, seen, stop }
    }

    pub async fn send(&self, request: Request<Body>) -> Response<Body> {
        self.router.clone().oneshot(request).await.unwrap()
    }

    /// One call; the body of its answer is read whole.
    pub async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
            if *value == "application/grpc" {
                request = request.version(http::Version::HTTP_2);
            }
        }
        let (parts, body) = self.send(request.body(body.into()).unwrap()).await.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        if let Some(length) = parts.headers.get(http::header::CONTENT_LENGTH).filter(|_| method != "HEAD") {
            assert_eq!(length.to_str().unwrap(), body.len().to_string(), "a connection ends on a wrong length");
        }
        Reply { status: parts.status.as_u16(), headers: parts.headers, body }
    }
}

/// A whole answer.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Reply {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub const SIGNED_IN: (&str, &str) = ("authorization", "Bearer sgk_1");
pub const JSON: (&str, &str) = ("content-type", "application/json");

/// The answer is a problem document, whole and with this reason.
pub fn assert_problem(reply: &Reply, status: u16, reason: &str) {
    assert_eq!(reply.status, status, "{reply:?}");
    assert_eq!(reply.header("content-type"), "application/problem+json");
    let body = reply.json();
    assert_eq!(body["status"], status);
    assert_eq!(body["reason"], reason, "{body}");
    assert_eq!(body["type"], format!("urn:streamgate:error:{reason}"));
    assert_eq!(body["request_id"], reply.header("x-request-id"));
    assert!(!body["detail"].as_str().unwrap().is_empty() && !body["title"].as_str().unwrap().is_empty());
}
