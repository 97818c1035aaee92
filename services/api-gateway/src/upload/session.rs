//! The calls of one upload, made as its caller.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::{
    gate::v1::Rule,
    metadata::v1::{SetGateRequest, UpdateContentRequest, metadata_service_client::MetadataServiceClient},
    upload::v1::{
        CancelUploadRequest, CompleteUploadRequest, CreateUploadRequest, GetUploadRequest, Upload, WriteChunkHeader,
        WriteChunkRequest, WriteChunkResponse, WriteUploadHeader, WriteUploadRequest, upload_service_client::UploadServiceClient,
        write_chunk_request, write_upload_request::Part,
    },
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::{
    backends::{Backends, Channel},
    context::CallContext,
    error::{Error, Result},
    metrics::EdgeMetrics,
};

/// Chunks that may wait between the caller and the upload service: enough to keep both busy.
const CHUNKS_WAITING: usize = 8;
/// Largest chunk of one message; the contract takes 1 MiB.
const CHUNK_BYTES: usize = 256 * 1024;

/// Takes the bytes of a file.
pub type ByteSender = mpsc::Sender<WriteUploadRequest>;
/// Takes the bytes of a chunk.
pub type ChunkSender = mpsc::Sender<WriteChunkRequest>;

/// The calls of one upload.
#[derive(Debug, Clone)]
pub struct Session {
    uploads: UploadServiceClient<Channel>,
    titles: MetadataServiceClient<Channel>,
    context: CallContext,
    metrics: EdgeMetrics,
    timeout: Duration,
}

impl Session {
    /// Calls `backends` with the caller's own credential.
    pub fn new(backends: &Backends, context: CallContext, metrics: EdgeMetrics, timeout: Duration) -> Self {
        Self {
            uploads: UploadServiceClient::new(backends.channel(ServiceName::Upload)),
            titles: MetadataServiceClient::new(backends.channel(ServiceName::Metadata)),
            context,
            metrics,
            timeout,
        }
    }

    /// Begins an upload.
    pub async fn create(&self, request: CreateUploadRequest) -> Result<Upload> {
        let mut client = self.uploads.clone();
        let answer = self.bounded(client.create_upload(self.context.request(request))).await?;
        present(answer.upload)
    }

    /// State of an upload.
    pub async fn get(&self, upload_id: &str) -> Result<Upload> {
        let mut client = self.uploads.clone();
        let request = GetUploadRequest { upload_id: upload_id.to_owned() };
        present(self.bounded(client.get_upload(self.context.request(request))).await?.upload)
    }

    /// Closes an upload.
    pub async fn complete(&self, upload_id: &str) -> Result<Upload> {
        let mut client = self.uploads.clone();
        let request = CompleteUploadRequest { upload_id: upload_id.to_owned(), ..CompleteUploadRequest::default() };
        // Hashing and syncing a large file's end may take longer than a plain call.
        present(client.complete_upload(self.context.request(request)).await?.into_inner().upload)
    }

    /// Throws an upload away.
    pub async fn cancel(&self, upload_id: &str) -> Result<()> {
        let mut client = self.uploads.clone();
        let request = CancelUploadRequest { upload_id: upload_id.to_owned() };
        self.bounded(client.cancel_upload(self.context.request(request))).await.map(|_| ())
    }

    /// Names the title of an upload.
    pub async fn set_title(&self, content_id: &str, title: String) -> Result<()> {
        let mut client = self.titles.clone();
        let request =
            UpdateContentRequest { content_id: content_id.to_owned(), title: Some(title), ..UpdateContentRequest::default() };
        self.bounded(client.update_content(self.context.request(request))).await.map(|_| ())
    }

    /// Gates the title of an upload.
    pub async fn set_gate(&self, content_id: &str, gate: Rule) -> Result<()> {
        let mut client = self.titles.clone();
        let request = SetGateRequest { content_id: content_id.to_owned(), gate: Some(gate), ..SetGateRequest::default() };
        self.bounded(client.set_gate(self.context.request(request))).await.map(|_| ())
    }

    /// Appends what `pump` sends. The service's own refusal is told rather than the pump's broken pipe, and at once: the
    /// caller may be slow to send what nobody wants any more.
    pub async fn write<P, F>(&self, upload_id: &str, offset_bytes: u64, pump: P) -> Result<Upload>
    where
        P: FnOnce(ByteSender) -> F,
        F: Future<Output = Result<()>>,
    {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let header = Part::Header(WriteUploadHeader { upload_id: upload_id.to_owned(), offset_bytes });
        // The channel is new and empty, so this can't fail.
        let _ = sender.send(WriteUploadRequest { part: Some(header) }).await;
        let mut client = self.uploads.clone();
        let write = client.write_upload(self.context.request(ReceiverStream::new(receiver)));
        let mut write = std::pin::pin!(write);
        let pumped = tokio::select! {
            written = &mut write => return present(written?.into_inner().upload),
            pumped = pump(sender) => pumped,
        };
        // What has come before the caller broke off becomes durable too.
        let upload = present(write.await?.into_inner().upload)?;
        pumped?;
        Ok(upload)
    }

    /// Writes one chunk that `pump` sends. When the pump fails, the chunk must not count as whole: the call is given up.
    pub async fn write_chunk<P, F>(&self, header: WriteChunkHeader, pump: P) -> Result<WriteChunkResponse>
    where
        P: FnOnce(ChunkSender) -> F,
        F: Future<Output = Result<()>>,
    {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        let header = write_chunk_request::Part::Header(header);
        // The channel is new and empty, so this can't fail.
        let _ = sender.send(WriteChunkRequest { part: Some(header) }).await;
        let mut client = self.uploads.clone();
        let write = client.write_chunk(self.context.request(ReceiverStream::new(receiver)));
        // Kept until the pump is done: closing the channel says that the chunk is whole.
        let last = sender.clone();
        let pumping = async {
            pump(sender).await?;
            drop(last);
            // From here on only the service has something to say.
            std::future::pending::<Result<WriteChunkResponse>>().await
        };
        tokio::select! {
            written = write => Ok(written?.into_inner()),
            broken = pumping => broken,
        }
    }

    /// Sends `bytes` in messages of a fit size. False when the service takes no more.
    pub async fn send(&self, sender: &ByteSender, bytes: Bytes) -> bool {
        self.send_all(sender, bytes, |bytes| WriteUploadRequest { part: Some(Part::Chunk(bytes)) }).await
    }

    /// The same for the bytes of a chunk.
    pub async fn send_chunk(&self, sender: &ChunkSender, bytes: Bytes) -> bool {
        let message = |bytes| WriteChunkRequest { part: Some(write_chunk_request::Part::Data(bytes)) };
        self.send_all(sender, bytes, message).await
    }

    async fn send_all<M>(&self, sender: &mpsc::Sender<M>, mut bytes: Bytes, message: impl Fn(Bytes) -> M) -> bool {
        self.metrics.upload_bytes.inc_by(bytes.len() as u64);
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(CHUNK_BYTES));
            if sender.send(message(piece)).await.is_err() {
                return false;
            }
        }
        true
    }

    async fn bounded<T>(&self, call: impl Future<Output = std::result::Result<Response<T>, Status>>) -> Result<T> {
        Ok(tokio::time::timeout(self.timeout, call).await.map_err(|_| Error::TooSlow)??.into_inner())
    }
}

fn present(upload: Option<Upload>) -> Result<Upload> {
    upload.ok_or_else(|| Error::Contract("the upload service named no upload".into()))
}
