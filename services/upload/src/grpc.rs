//! Decode, call, encode.

use async_trait::async_trait;
use futures::StreamExt as _;
use streamgate_core::{Caller, Failure, time::to_timestamp};
use streamgate_proto::streamgate::upload::v1::{self as pb, upload_service_server::UploadService, write_upload_request::Part};
use streamgate_store::ByteStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    command::{CreateUpload, upload_id},
    engine::{Broke, Engine, State, Upload},
};

/// Largest chunk of a stream: what one client can make the service hold at once.
const MAX_CHUNK_BYTES: usize = 1024 * 1024;

/// The RPCs of `streamgate.upload.v1`.
#[derive(Debug, Clone)]
pub struct Handler {
    engine: Engine,
}

impl Handler {
    /// Handlers of this engine.
    #[must_use]
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

#[async_trait]
impl UploadService for Handler {
    async fn create_upload(
        &self,
        request: Request<pb::CreateUploadRequest>,
    ) -> Result<Response<pb::CreateUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let command = CreateUpload::try_from(request.into_inner())?;
        let upload = self.engine.create(&caller, command).await?;
        Ok(Response::new(pb::CreateUploadResponse { upload: Some(upload.into()) }))
    }

    async fn write_upload(
        &self,
        request: Request<Streaming<pb::WriteUploadRequest>>,
    ) -> Result<Response<pb::WriteUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let mut stream = request.into_inner();
        let Some(pb::WriteUploadRequest { part: Some(Part::Header(header)) }) = stream.message().await? else {
            return Err(Failure::invalid_field("header", "must be the first message of the stream").into());
        };
        let id = upload_id(&header.upload_id)?;
        let upload = self.engine.write(&caller, &id, header.offset_bytes, chunks(stream)).await?;
        Ok(Response::new(pb::WriteUploadResponse { upload: Some(upload.into()) }))
    }

    async fn complete_upload(
        &self,
        request: Request<pb::CompleteUploadRequest>,
    ) -> Result<Response<pb::CompleteUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = upload_id(&request.get_ref().upload_id)?;
        let upload = self.engine.complete(&caller, &id).await?;
        Ok(Response::new(pb::CompleteUploadResponse { upload: Some(upload.into()) }))
    }

    async fn get_upload(&self, request: Request<pb::GetUploadRequest>) -> Result<Response<pb::GetUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = upload_id(&request.get_ref().upload_id)?;
        let upload = self.engine.get(&caller, &id).await?;
        Ok(Response::new(pb::GetUploadResponse { upload: Some(upload.into()) }))
    }

    async fn list_uploads(&self, request: Request<pb::ListUploadsRequest>) -> Result<Response<pb::ListUploadsResponse>, Status> {
        let caller = Caller::of(&request)?;
        let wanted = request.get_ref();
        let page = self.engine.list(&caller, wanted.page_size, &wanted.page_token).await?;
        let uploads = page.uploads.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListUploadsResponse { uploads, next_page_token: page.next_page_token }))
    }

    async fn cancel_upload(
        &self,
        request: Request<pb::CancelUploadRequest>,
    ) -> Result<Response<pb::CancelUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let id = upload_id(&request.get_ref().upload_id)?;
        let upload = self.engine.cancel(&caller, &id).await?;
        Ok(Response::new(pb::CancelUploadResponse { upload: Some(upload.into()) }))
    }

    async fn sweep_uploads(
        &self,
        request: Request<pb::SweepUploadsRequest>,
    ) -> Result<Response<pb::SweepUploadsResponse>, Status> {
        let swept = self.engine.sweep(request.get_ref().limit).await?;
        Ok(Response::new(pb::SweepUploadsResponse { expired: swept.expired, more: swept.more }))
    }
}

/// The chunks after the header, as bytes.
fn chunks(stream: Streaming<pb::WriteUploadRequest>) -> ByteStream {
    stream
        .map(|message| match message {
            Ok(pb::WriteUploadRequest { part: Some(Part::Chunk(chunk)) }) if chunk.len() <= MAX_CHUNK_BYTES => Ok(chunk),
            Ok(_) => {
                let wrong = Failure::invalid_field("chunk", "after the header come chunks of at most 1 MiB");
                Err(Broke::Refused(wrong).into_io())
            }
            Err(_) => Err(Broke::Client.into_io()),
        })
        .boxed()
}

impl From<Upload> for pb::Upload {
    fn from(upload: Upload) -> Self {
        let state = match upload.state {
            State::Open => pb::UploadState::Open,
            State::Completed => pb::UploadState::Completed,
            State::Cancelled => pb::UploadState::Cancelled,
            State::Expired => pb::UploadState::Expired,
        };
        Self {
            file_id: upload.file_id(),
            upload_id: upload.id.into(),
            content_id: upload.content_id,
            filename: upload.filename,
            state: state.into(),
            offset_bytes: upload.offset_bytes,
            size_bytes: upload.size_bytes,
            sha256: upload.sha256,
            create_time: Some(to_timestamp(upload.created_ms)),
            expire_time: Some(to_timestamp(upload.expires_ms)),
        }
    }
}
