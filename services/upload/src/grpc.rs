//! Decode, call, encode.

use async_trait::async_trait;
use futures::StreamExt as _;
use streamgate_core::{Caller, Failure};
use streamgate_proto::streamgate::upload::v1::{
    self as pb, upload_service_server::UploadService, write_chunk_request, write_upload_request::Part,
};
use streamgate_store::ByteStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    command::{ChunkHead, CreateUpload, expected_sha256, upload_id},
    engine::{Broke, Engine},
    wire,
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

    async fn upload_chunk(&self, request: Request<pb::UploadChunkRequest>) -> Result<Response<pb::UploadChunkResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        if request.data.len() > MAX_CHUNK_BYTES {
            return Err(Failure::invalid_field("data", "must be at most 1 MiB; larger chunks are streamed").into());
        }
        let (id, bytes) = (upload_id(&request.upload_id)?, request.data.clone());
        let head = ChunkHead::try_from(wire::header(request))?;
        let chunk = self.engine.chunk(&caller, &id, head, streamgate_store::bytes(bytes)).await?;
        let (received_bytes, chunk_count) = (chunk.received_bytes, chunk.chunk_count);
        Ok(Response::new(pb::UploadChunkResponse { chunk: Some(wire::chunk(&id, chunk)), received_bytes, chunk_count }))
    }

    async fn write_chunk(
        &self,
        request: Request<Streaming<pb::WriteChunkRequest>>,
    ) -> Result<Response<pb::WriteChunkResponse>, Status> {
        let caller = Caller::of(&request)?;
        let mut stream = request.into_inner();
        let Some(pb::WriteChunkRequest { part: Some(write_chunk_request::Part::Header(header)) }) = stream.message().await?
        else {
            return Err(Failure::invalid_field("header", "must be the first message of the stream").into());
        };
        let id = upload_id(&header.upload_id)?;
        let chunk = self.engine.chunk(&caller, &id, ChunkHead::try_from(header)?, data(stream)).await?;
        let (received_bytes, chunk_count) = (chunk.received_bytes, chunk.chunk_count);
        Ok(Response::new(pb::WriteChunkResponse { chunk: Some(wire::chunk(&id, chunk)), received_bytes, chunk_count }))
    }

    async fn complete_upload(
        &self,
        request: Request<pb::CompleteUploadRequest>,
    ) -> Result<Response<pb::CompleteUploadResponse>, Status> {
        let caller = Caller::of(&request)?;
        let request = request.into_inner();
        let (id, sha256) = (upload_id(&request.upload_id)?, expected_sha256(request.sha256)?);
        let upload = self.engine.complete(&caller, &id, &sha256).await?;
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

    async fn verify_objects(
        &self,
        request: Request<pb::VerifyObjectsRequest>,
    ) -> Result<Response<pb::VerifyObjectsResponse>, Status> {
        let wanted = request.get_ref();
        let verified = self.engine.verify(wanted.limit, &wanted.page_token).await?;
        Ok(Response::new(pb::VerifyObjectsResponse {
            checked: verified.checked,
            corrupt_upload_ids: verified.corrupt,
            next_page_token: verified.next,
        }))
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

/// The data after the header, as bytes.
fn data(stream: Streaming<pb::WriteChunkRequest>) -> ByteStream {
    stream
        .map(|message| match message {
            Ok(pb::WriteChunkRequest { part: Some(write_chunk_request::Part::Data(data)) }) if data.len() <= MAX_CHUNK_BYTES => {
                Ok(data)
            }
            Ok(_) => {
                let wrong = Failure::invalid_field("data", "after the header come messages of at most 1 MiB of data");
                Err(Broke::Refused(wrong).into_io())
            }
            Err(_) => Err(Broke::Client.into_io()),
        })
        .boxed()
}
