//! One upload service on a port of its own, with metadata faked.

#![allow(dead_code, reason = "each file of tests uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "this server believes whom the tests claim to be, so that they need no auth service"
)]

mod meddled;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sha2::{Digest as _, Sha256};
use streamgate_core::{
    Account, ErrorKind, Failure, Identity, Role, ServiceName,
    gate::Gate,
    ids::{AccountId, ContentId, UploadId},
};
use streamgate_proto::streamgate::{
    events::v1::{DeliverRequest, Event, event::Payload, event_service_server::EventService as _},
    upload::v1::{
        self as pb, WriteUploadRequest, upload_service_client::UploadServiceClient, upload_service_server::UploadServiceServer,
        write_upload_request::Part,
    },
};
use streamgate_store::{BlobKey, BlobStore, Database, Events, Outbox, collect, open_blobs};
use streamgate_upload::{
    Config, Handler, MIGRATIONS, Metrics,
    engine::{Engine, Room, Storage, Titles},
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::mpsc::Sender, task::JoinHandle};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status, metadata::MetadataValue, service::interceptor::InterceptedService, transport::Channel};

pub use meddled::Meddled;

/// Longest wait for what must happen.
pub const BOUND: Duration = Duration::from_secs(90);

/// Who calls, as the tests' server believes without proof.
const WHO: &str = "x-test-caller";

/// Metadata that only counts, and fails as told.
#[derive(Debug, Default)]
pub struct FakeTitles {
    pub made: AtomicUsize,
    failing: Mutex<Option<ErrorKind>>,
    asked_for: Mutex<Vec<String>>,
}

impl FakeTitles {
    pub fn fail(&self, kind: Option<ErrorKind>) {
        *self.failing.lock().unwrap() = kind;
    }

    /// The uploads that titles were asked for.
    pub fn uploads(&self) -> Vec<String> {
        self.asked_for.lock().unwrap().clone()
    }
}

#[async_trait]
impl Titles for FakeTitles {
    async fn create(
        &self,
        _: &streamgate_core::Caller,
        upload: &UploadId,
        title: &str,
        _: Option<&Gate>,
    ) -> Result<String, Failure> {
        assert!(!title.is_empty());
        self.asked_for.lock().unwrap().push(upload.to_string());
        if let Some(kind) = *self.failing.lock().unwrap() {
            return Err(Failure::new(kind, "fault", "made by the test"));
        }
        self.made.fetch_add(1, Ordering::SeqCst);
        Ok(ContentId::new().to_string())
    }
}

/// A disk with as much room as a test wants.
#[derive(Debug)]
pub struct FakeRoom(AtomicU64);

impl FakeRoom {
    pub fn leave(&self, bytes: u64) {
        self.0.store(bytes, Ordering::SeqCst);
    }
}

impl Room for FakeRoom {
    fn free_bytes(&self) -> Option<u64> {
        Some(self.0.load(Ordering::SeqCst))
    }
}

pub struct House {
    folder: TempDir,
    pub room: Arc<FakeRoom>,
    config: Config,
    pub titles: Arc<FakeTitles>,
    pub db: Database,
    pub engine: Engine,
    pub blobs: Arc<dyn BlobStore>,
    address: String,
    stop: CancellationToken,
}

impl House {
    pub async fn new() -> Self {
        Self::with(Config::default()).await
    }

    pub async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (db, blobs) = stores(folder.path()).await;
        Self::over(folder, config, db, blobs).await
    }

    /// A house whose store does something else first.
    pub async fn meddled(config: Config) -> (Self, Arc<Meddled>) {
        let folder = tempfile::tempdir().unwrap();
        let (db, blobs) = stores(folder.path()).await;
        let meddled = Arc::new(Meddled::new(blobs));
        (Self::over(folder, config, db, meddled.clone()).await, meddled)
    }

    pub async fn over(folder: TempDir, config: Config, db: Database, blobs: Arc<dyn BlobStore>) -> Self {
        let (titles, room) = (Arc::new(FakeTitles::default()), Arc::new(FakeRoom(AtomicU64::new(u64::MAX))));
        let engine = build(&config, &db, &blobs, &titles, &room);
        let (address, stop) = serve(engine.clone()).await;
        Self { folder, room, config, titles, db, engine, blobs, address, stop }
    }

    /// Builds the service anew on what is on disk.
    pub async fn restart(&mut self) {
        self.stop.cancel();
        (self.db, self.blobs) = stores(self.folder.path()).await;
        self.engine = build(&self.config, &self.db, &self.blobs, &self.titles, &self.room);
        (self.address, self.stop) = serve(self.engine.clone()).await;
    }

    /// Calls as `creator-N`, `operator-N` or `service`.
    pub async fn connect(&self, who: &str) -> Caller {
        let channel = Channel::from_shared(self.address.clone()).unwrap().connect().await.unwrap();
        let who = who.parse().unwrap();
        Caller { client: UploadServiceClient::with_interceptor(channel, Signature(who)) }
    }

    /// Runs one statement that changes something, behind the service's back.
    pub async fn change(&self, sql: &'static str) {
        let mut tx = self.db.begin().await.unwrap();
        sqlx::query(sql).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// One number that is stored.
    pub async fn number(&self, sql: &'static str) -> i64 {
        sqlx::query_scalar(sql).fetch_one(self.db.pool()).await.unwrap()
    }

    /// Payloads that wait in the outbox.
    pub async fn events(&self) -> Vec<Payload> {
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq").fetch_all(self.db.pool()).await.unwrap();
        bodies.iter().map(|body| <Event as prost::Message>::decode(body.as_slice()).unwrap().payload.unwrap()).collect()
    }

    pub async fn deliver(&self, request: DeliverRequest) {
        Events::new(Arc::new(self.engine.clone())).deliver(Request::new(request)).await.unwrap();
    }

    pub async fn source(&self, key: &str) -> Vec<u8> {
        collect(self.blobs.read(&BlobKey::new(key).unwrap(), None).await.unwrap(), 1 << 24).await.unwrap().to_vec()
    }

    /// As a completion does before it commits.
    pub async fn seal(&self, upload_id: &str) {
        self.blobs.seal(&BlobKey::new(format!("sources/{upload_id}")).unwrap()).await.unwrap();
    }

    /// As a completion that was cut short: the chunks are frozen, and some bytes of them are in the file.
    pub async fn begin_joining(&self, upload_id: &str, joined: &[u8]) {
        let mut tx = self.db.begin().await.unwrap();
        sqlx::query("UPDATE uploads SET joining = 1 WHERE id = $1").bind(upload_id).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        let key = BlobKey::new(format!("sources/{upload_id}")).unwrap();
        self.blobs.append(&key, 0, streamgate_store::bytes(joined.to_vec().into())).await.unwrap();
    }

    /// Changes the file of an upload behind the service's back.
    pub fn spoil(&self, upload_id: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let path = find_file(&self.folder.path().join("blobs"), upload_id).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();
    }

    pub fn stored_files(&self) -> usize {
        count_files(&self.folder.path().join("blobs"))
    }

    /// Makes the time of uploads be over.
    pub async fn expire(&self, ids: &[String]) {
        let mut tx = self.db.begin().await.unwrap();
        for id in ids {
            sqlx::query("UPDATE uploads SET expires_ms = 1 WHERE id = $1").bind(id).execute(&mut *tx).await.unwrap();
        }
        tx.commit().await.unwrap();
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn find_file(folder: &Path, name: &str) -> Option<std::path::PathBuf> {
    let mut entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.find_map(|path| match path.is_dir() {
        true => find_file(&path, name),
        false => path.to_string_lossy().contains(name).then_some(path),
    })
}

fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| if path.is_dir() { count_files(&path) } else { 1 }).sum()
}

/// The service's rows at `path`, or on the server that stands for it.
pub async fn open(path: &Path) -> Database {
    streamgate_testkit::open_rows!(path, &MIGRATIONS)
}

/// Statements that read a whole table, and why they may.
pub const READ_WHOLE: &[(&str, &str)] = &[];

async fn stores(folder: &Path) -> (Database, Arc<dyn BlobStore>) {
    (open(&folder.join("db/upload.db")).await, open_blobs(&folder.join("blobs")).unwrap())
}

fn build(config: &Config, db: &Database, blobs: &Arc<dyn BlobStore>, titles: &Arc<FakeTitles>, room: &Arc<FakeRoom>) -> Engine {
    let outbox = Outbox::new(ServiceName::Upload);
    let titles: Arc<dyn Titles> = titles.clone();
    let storage = Storage { blobs: blobs.clone(), room: room.clone() };
    Engine::new(config.clone(), db.clone(), outbox, storage, titles, Metrics::default())
}

async fn serve(engine: Engine) -> (String, CancellationToken) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let service = UploadServiceServer::with_interceptor(Handler::new(engine), believe);
    let server = tonic::transport::Server::builder().add_service(service);
    tokio::spawn(server.serve_with_incoming_shutdown(TcpListenerStream::new(listener), stopped));
    (address, stop)
}

/// Puts the caller into the request, as the runtime does after authenticating.
#[allow(clippy::result_large_err, reason = "the signature of an interceptor")]
fn believe(mut request: Request<()>) -> Result<Request<()>, Status> {
    let who = request.metadata().get(WHO).unwrap().to_str().unwrap().to_owned();
    request.extensions_mut().insert(caller(&who));
    Ok(request)
}

/// Who calls, for a call to the engine itself.
pub fn caller(who: &str) -> streamgate_core::Caller {
    let identity = match who.split_once('-') {
        None => Identity::Service { name: ServiceName::Worker, on_behalf_of: None },
        Some((role, number)) => {
            let id: AccountId = format!("acc_{number:0>32}").parse().unwrap();
            Identity::Account(Account { id, role: role.parse::<Role>().unwrap(), wallet: None })
        }
    };
    streamgate_core::Caller { identity, request_id: "r".into() }
}

#[derive(Clone)]
pub struct Signature(MetadataValue<tonic::metadata::Ascii>);

impl tonic::service::Interceptor for Signature {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(WHO, self.0.clone());
        Ok(request)
    }
}

#[derive(Clone)]
pub struct Caller {
    pub client: UploadServiceClient<InterceptedService<Channel, Signature>>,
}

type Answer<T> = Result<T, Status>;

impl Caller {
    pub async fn create(&mut self, request: pb::CreateUploadRequest) -> Answer<pb::Upload> {
        Ok(self.client.create_upload(request).await?.into_inner().upload.unwrap())
    }

    pub async fn write(&mut self, upload_id: &str, offset: u64, body: &[u8]) -> Answer<pb::Upload> {
        let chunks = body.chunks(100_000).map(|chunk| WriteUploadRequest { part: Some(Part::Chunk(chunk.to_vec().into())) });
        let messages: Vec<_> = std::iter::once(header(upload_id, offset)).chain(chunks).collect();
        Ok(self.client.write_upload(tokio_stream::iter(messages)).await?.into_inner().upload.unwrap())
    }

    /// Begins a stream that stays open until the sender goes.
    pub async fn begin_writing(&self, upload_id: &str, first: &[u8]) -> (Sender<WriteUploadRequest>, JoinHandle<Answer<()>>) {
        let (sender, receiver) = tokio::sync::mpsc::channel(4);
        sender.send(header(upload_id, 0)).await.unwrap();
        sender.send(more(first)).await.unwrap();
        let mut client = self.client.clone();
        let writing = async move { client.write_upload(ReceiverStream::new(receiver)).await.map(drop) };
        (sender, tokio::spawn(writing))
    }

    /// Writes once the call before has let go.
    pub async fn write_when_free(&mut self, upload_id: &str, offset: u64, body: &[u8]) -> pb::Upload {
        let tries = async {
            loop {
                match self.write(upload_id, offset, body).await {
                    Err(status) if reason(&status) == "upload_busy" => tokio::time::sleep(Duration::from_millis(5)).await,
                    other => return other.unwrap(),
                }
            }
        };
        tokio::time::timeout(BOUND, tries).await.expect("the call before let go")
    }

    pub async fn complete(&mut self, upload_id: &str) -> Answer<pb::Upload> {
        self.complete_as(upload_id, "").await
    }

    pub async fn complete_as(&mut self, upload_id: &str, sha256: &str) -> Answer<pb::Upload> {
        let request = pb::CompleteUploadRequest { upload_id: upload_id.into(), sha256: sha256.into() };
        Ok(self.client.complete_upload(request).await?.into_inner().upload.unwrap())
    }

    pub async fn get(&mut self, upload_id: &str) -> Answer<pb::Upload> {
        let request = pb::GetUploadRequest { upload_id: upload_id.into() };
        Ok(self.client.get_upload(request).await?.into_inner().upload.unwrap())
    }

    pub async fn cancel(&mut self, upload_id: &str) -> Answer<pb::Upload> {
        let request = pb::CancelUploadRequest { upload_id: upload_id.into() };
        Ok(self.client.cancel_upload(request).await?.into_inner().upload.unwrap())
    }

    pub async fn list(&mut self, page_size: u32, page_token: &str) -> Answer<pb::ListUploadsResponse> {
        let request = pb::ListUploadsRequest { page_size, page_token: page_token.into() };
        Ok(self.client.list_uploads(request).await?.into_inner())
    }

    pub async fn sweep(&mut self, limit: u32) -> pb::SweepUploadsResponse {
        self.client.sweep_uploads(pb::SweepUploadsRequest { limit }).await.unwrap().into_inner()
    }

    /// Waits until so many bytes are durable.
    pub async fn until_offset(&mut self, upload_id: &str, offset: u64) {
        let reached = async {
            while self.get(upload_id).await.unwrap().offset_bytes != offset {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(BOUND, reached).await.expect("the bytes become durable");
    }
}

/// A request to upload a clip of unknown size.
pub fn clip() -> pb::CreateUploadRequest {
    pb::CreateUploadRequest { filename: "clip.mp4".into(), ..Default::default() }
}

pub fn header(upload_id: &str, offset_bytes: u64) -> WriteUploadRequest {
    WriteUploadRequest { part: Some(Part::Header(pb::WriteUploadHeader { upload_id: upload_id.into(), offset_bytes })) }
}

/// The next bytes of a stream.
pub fn more(bytes: &[u8]) -> WriteUploadRequest {
    WriteUploadRequest { part: Some(Part::Chunk(bytes.to_vec().into())) }
}

pub fn reason(status: &Status) -> String {
    Failure::from(status).reason.into_owned()
}

pub fn sha256(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}
