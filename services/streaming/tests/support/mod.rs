//! The service with its neighbours faked, and callers.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use prost::Message as _;
use streamgate_core::{
    Account, Caller, ErrorKind, Failure, Identity, Role, ServiceName,
    events::event_type,
    ids::{AccountId, ContentId, PlaybackId},
    time::now_ms,
};
use streamgate_proto::streamgate::{
    events::v1::Event,
    gate::v1::{Everyone, Rule, rule::Kind},
    media::v1::{Asset, AudioRendition, Presentation, Segment, Track, VideoRendition},
    streaming::v1::{self as pb, read_asset_response::Part, streaming_service_server::StreamingService},
};
use streamgate_store::{BlobKey, BlobStore, Database, MemoryBlobs, Outbox};
use streamgate_streaming::{
    Config, Handler, Metrics,
    engine::{
        Deps, Engine,
        neighbours::{Accounts, GateQuestion, Gates, Presentations, Title, Titles, TokenClaims, Tokens, Verdict},
    },
};
use tonic::{Request, Status};

pub const WALLET: &str = "eip155:31337:0x70997970c51812dc3a010c7d01b50e0d17dc79c8";
/// Longer than one message.
pub const SEGMENT_BYTES: usize = 600_000;

/// What the neighbours would say.
#[derive(Debug)]
pub struct World {
    pub titles: Mutex<Vec<(String, Title)>>,
    pub titles_away: Mutex<bool>,
    pub verdict: Mutex<Verdict>,
    pub gate_calls: AtomicUsize,
    /// Questions of all calls.
    pub gate_questions: AtomicUsize,
    /// Role of every account.
    pub role: Mutex<Option<Role>>,
    pub roles_away: Mutex<bool>,
    pub role_calls: AtomicUsize,
    pub made: Mutex<Option<Presentation>>,
    /// What was made before.
    pub made_before: Mutex<Option<Presentation>>,
}

#[async_trait]
impl Titles for World {
    async fn resolve(&self, playback_id: &str) -> Result<Option<Title>, Failure> {
        if *self.titles_away.lock().unwrap() {
            return Err(Failure::new(ErrorKind::Unavailable, "away", "away"));
        }
        Ok(self.titles.lock().unwrap().iter().find(|(id, _)| id == playback_id).map(|(_, title)| title.clone()))
    }

    async fn playback_id(&self, caller: &Caller, content_id: &str) -> Result<Option<String>, Failure> {
        let titles = self.titles.lock().unwrap();
        let known = titles.iter().find(|(_, title)| title.content_id == content_id && caller.may_act_for(&title.owner));
        Ok(known.map(|(id, _)| id.clone()))
    }
}

#[async_trait]
impl Gates for World {
    async fn evaluate(&self, questions: Vec<GateQuestion>) -> Vec<Verdict> {
        self.gate_calls.fetch_add(1, Ordering::SeqCst);
        self.gate_questions.fetch_add(questions.len(), Ordering::SeqCst);
        // Lets others arrive while the answer is under way.
        tokio::task::yield_now().await;
        vec![self.verdict.lock().unwrap().clone(); questions.len()]
    }
}

#[async_trait]
impl Accounts for World {
    async fn roles(&self, account_ids: Vec<String>) -> Result<Vec<Option<Role>>, Failure> {
        self.role_calls.fetch_add(1, Ordering::SeqCst);
        if *self.roles_away.lock().unwrap() {
            return Err(Failure::new(ErrorKind::Unavailable, "away", "away"));
        }
        Ok(vec![*self.role.lock().unwrap(); account_ids.len()])
    }
}

#[async_trait]
impl Presentations for World {
    async fn newer_than(&self, _content_id: &str, version: u32, known_revision: u64) -> Result<Option<Presentation>, Failure> {
        let (made, before) = (self.made.lock().unwrap().clone(), self.made_before.lock().unwrap().clone());
        let all = made.iter().chain(&before).find(|made| version == 0 || made.version == version);
        if version > 0 && all.is_none() {
            return Err(Failure::new(ErrorKind::NotFound, "content_unknown", "no such version"));
        }
        Ok(all.filter(|made| made.revision != known_revision).cloned())
    }
}

/// Tokens in plain text: the real ones are proved where they are made.
#[derive(Debug)]
struct PlainTokens;

#[async_trait]
impl Tokens for PlainTokens {
    async fn issue(&self, claims: &TokenClaims) -> Result<String, Failure> {
        let TokenClaims { session_id, playback_id, content_id, gate_hash, expires_ms, .. } = claims;
        Ok(format!("{session_id}.{playback_id}.{content_id}.{gate_hash}.{expires_ms}"))
    }

    async fn verify(&self, token: &str) -> Result<TokenClaims, Failure> {
        let parts: Vec<_> = token.split('.').map(str::to_owned).collect();
        let [session_id, playback_id, content_id, gate_hash, expires] = <[String; 5]>::try_from(parts)
            .map_err(|_| Failure::new(ErrorKind::Unauthenticated, "token_invalid", "the token is malformed"))?;
        let expires_ms: i64 = expires.parse().unwrap();
        if expires_ms <= now_ms() {
            return Err(Failure::new(ErrorKind::Unauthenticated, "token_expired", "the token has expired"));
        }
        Ok(TokenClaims { session_id, playback_id, content_id, subject: String::new(), gate_hash, expires_ms })
    }
}

/// One title with a gate, and the service that plays it.
pub struct Fixture {
    pub world: Arc<World>,
    pub engine: Arc<Engine>,
    pub handler: Handler,
    pub db: Database,
    pub playback_id: String,
    pub content_id: String,
    pub owner: Caller,
    config: Config,
    blobs: Arc<MemoryBlobs>,
    _folder: tempfile::TempDir,
}

/// The service's rows at `path`, or on the server that stands for it.
pub async fn open(path: &Path) -> Database {
    streamgate_testkit::open_rows!(path, &streamgate_streaming::MIGRATIONS)
}

/// Statements that read a whole table, and why they may.
pub const READ_WHOLE: &[(&str, &str)] = &[
    ("WHERE account_id = $1 AND state = 'active'", "one account has a bounded number of sessions that run"),
    (
        "WHERE playback_id = $1 AND state = 'active'",
        "sessions_running has these columns in this order; without a row others look as cheap",
    ),
    ("WHERE playing = 1 AND (used_ms", "only what plays right now is in the index that is read"),
];

impl Fixture {
    pub async fn open() -> Self {
        Self::with(Config::default()).await
    }

    /// Every request asks the gate again.
    pub async fn always_checking() -> Self {
        Self::with(Config {
            recheck_seconds: 0,
            unknown_retry_ms: 0,
            growing_fresh_ms: 0,
            whole_fresh_seconds: 0,
            ..Config::default()
        })
        .await
    }

    pub async fn with(config: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder.path().join("streaming.db")).await;
        let owner = as_account(Role::Creator, None);
        let (playback_id, content_id) = (PlaybackId::new().to_string(), ContentId::new().to_string());
        let title = Title {
            content_id: content_id.clone(),
            owner: owner.account().unwrap().id.to_string(),
            gate: Some(Arc::new(Rule { kind: Some(Kind::Everyone(Everyone {})) })),
            gate_hash: "gate1".into(),
        };
        let world = Arc::new(World {
            titles: Mutex::new(vec![(playback_id.clone(), title)]),
            titles_away: Mutex::new(false),
            verdict: Mutex::new(Verdict::Granted),
            gate_calls: AtomicUsize::new(0),
            gate_questions: AtomicUsize::new(0),
            role: Mutex::new(Some(Role::Operator)),
            roles_away: Mutex::new(false),
            role_calls: AtomicUsize::new(0),
            made: Mutex::new(Some(presentation(&content_id))),
            made_before: Mutex::new(None),
        });
        let blobs = Arc::new(MemoryBlobs::new());
        store_media(&blobs, &content_id).await;
        let engine = engine(&world, &db, &blobs, &config);
        let handler = Handler::new(Arc::clone(&engine));
        Self { world, engine, handler, db, playback_id, content_id, owner, config, blobs, _folder: folder }
    }

    /// The same service after a restart of its process.
    pub fn restart(&mut self) {
        self.engine = engine(&self.world, &self.db, &self.blobs, &self.config);
        self.handler = Handler::new(Arc::clone(&self.engine));
    }

    pub fn set_verdict(&self, verdict: Verdict) {
        *self.world.verdict.lock().unwrap() = verdict;
    }

    pub fn gate_calls(&self) -> usize {
        self.world.gate_calls.load(Ordering::SeqCst)
    }

    /// Adds a second title with a playback id of its own.
    pub fn second_title(&self) -> String {
        let mut titles = self.world.titles.lock().unwrap();
        let id = PlaybackId::new().to_string();
        let title = Title { content_id: ContentId::new().to_string(), ..titles[0].1.clone() };
        titles.push((id.clone(), title));
        id
    }

    pub async fn create(&self, caller: &Caller, playback_id: &str) -> Result<pb::CreateSessionResponse, Status> {
        let request = pb::CreateSessionRequest { playback_id: playback_id.into(), choice: None };
        Ok(self.handler.create_session(call(caller, request)).await?.into_inner())
    }

    pub async fn session(&self, caller: &Caller, session_id: &str) -> Result<pb::Session, Status> {
        let request = pb::GetSessionRequest { session_id: session_id.into() };
        Ok(self.handler.get_session(call(caller, request)).await?.into_inner().session.unwrap())
    }

    pub async fn end(&self, caller: &Caller, session_id: &str) -> Result<pb::Session, Status> {
        let request = pb::EndSessionRequest { session_id: session_id.into() };
        Ok(self.handler.end_session(call(caller, request)).await?.into_inner().session.unwrap())
    }

    /// Reads with a playback token from the URL.
    pub async fn read(&self, token: &str, path: &str) -> Result<(pb::AssetHeader, Bytes), Status> {
        self.read_with(&anonymous(), self.asset(token, path)).await
    }

    pub fn asset(&self, token: &str, path: &str) -> pb::ReadAssetRequest {
        pb::ReadAssetRequest {
            playback_id: self.playback_id.clone(),
            path: path.into(),
            token: token.into(),
            token_in_url: true,
            ..Default::default()
        }
    }

    pub async fn read_with(&self, caller: &Caller, request: pb::ReadAssetRequest) -> Result<(pb::AssetHeader, Bytes), Status> {
        let mut stream = self.handler.read_asset(call(caller, request)).await?.into_inner();
        let Some(Part::Header(header)) = stream.next().await.unwrap()?.part else { panic!("the header comes first") };
        let mut body = BytesMut::new();
        while let Some(message) = stream.next().await {
            let Some(Part::Chunk(chunk)) = message?.part else { panic!("chunks follow") };
            assert!(chunk.len() <= 256 * 1024);
            body.extend_from_slice(&chunk);
        }
        Ok((header, body.freeze()))
    }

    /// Types of the events that were told, in order.
    pub async fn events(&self) -> Vec<&'static str> {
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq").fetch_all(self.db.pool()).await.unwrap();
        bodies.iter().map(|body| event_type(&Event::decode(body.as_slice()).unwrap().payload.unwrap())).collect()
    }

    /// The title is made again: from now on, version 2 is the one that is played.
    pub async fn make_again(&self) {
        let before = self.world.made.lock().unwrap().clone().unwrap();
        let again = Presentation { version: 2, revision: before.revision + 1, ..renamed(&before, "job_1", "job_2") };
        store(&self.blobs, &self.content_id, &again, b"again").await;
        *self.world.made.lock().unwrap() = Some(again);
        *self.world.made_before.lock().unwrap() = Some(before);
    }

    /// Another poster of 40 bytes takes the place of the one before, whose file goes.
    pub async fn replace_poster(&self) {
        let before = self.world.made.lock().unwrap().clone().unwrap();
        let key = |path: &str| BlobKey::new(format!("media/{}/{path}", self.content_id)).unwrap();
        let other = Asset { path: "job_1/poster-2000-1.jpg".into(), size_bytes: 40 };
        self.blobs.put(&key(&other.path), streamgate_store::bytes(pattern(40))).await.unwrap();
        self.blobs.delete(&key(&before.poster.as_ref().unwrap().path)).await.unwrap();
        let after = Presentation { revision: before.revision + 1, poster: Some(other), ..before };
        *self.world.made.lock().unwrap() = Some(after);
    }

    /// The same service in another process, over the same rows.
    pub fn replica(&self) -> Handler {
        Handler::new(self.replica_engine())
    }

    pub fn replica_engine(&self) -> Arc<Engine> {
        engine(&self.world, &self.db, &self.blobs, &self.config)
    }

    pub async fn reason_of(&self, token: &str, path: &str) -> String {
        reason(&self.read(token, path).await.unwrap_err())
    }
}

fn engine(world: &Arc<World>, db: &Database, blobs: &Arc<MemoryBlobs>, config: &Config) -> Arc<Engine> {
    let deps = Deps {
        titles: world.clone(),
        gates: world.clone(),
        accounts: world.clone(),
        presentations: world.clone(),
        tokens: Arc::new(PlainTokens),
        blobs: blobs.clone(),
        outbox: Outbox::new(ServiceName::Streaming),
        database: db.clone(),
        metrics: Metrics::default(),
    };
    Arc::new(Engine::new(deps, config.clone(), "https://video.example/"))
}

/// Byte `index` of a stored file.
pub fn pattern(length: usize) -> Bytes {
    (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect::<Vec<_>>().into()
}

async fn store_media(blobs: &MemoryBlobs, content_id: &str) {
    store(blobs, content_id, &presentation(content_id), b"").await;
}

/// Stores every file of a presentation: `head`, then the pattern.
async fn store(blobs: &MemoryBlobs, content_id: &str, made: &Presentation, head: &[u8]) {
    let tracks = made.video.iter().filter_map(|v| v.track.clone()).chain(made.audio.iter().filter_map(|a| a.track.clone()));
    let mut files: Vec<(String, u64)> = made.poster.iter().map(|poster| (poster.path.clone(), poster.size_bytes)).collect();
    for track in tracks {
        let init = track.init.unwrap();
        files.push((init.path, init.size_bytes));
        files.extend(track.segments.into_iter().map(|segment| (segment.path, segment.size_bytes)));
    }
    for (path, size) in files {
        let key = BlobKey::new(format!("media/{content_id}/{path}")).unwrap();
        let mut body = BytesMut::from(head);
        body.extend_from_slice(&pattern(usize::try_from(size).unwrap())[head.len()..]);
        blobs.put(&key, streamgate_store::bytes(body.freeze())).await.unwrap();
    }
}

fn renamed(made: &Presentation, from: &str, to: &str) -> Presentation {
    let mut made = made.clone();
    let rename = |path: &mut String| *path = path.replacen(from, to, 1);
    let tracks =
        made.video.iter_mut().filter_map(|v| v.track.as_mut()).chain(made.audio.iter_mut().filter_map(|a| a.track.as_mut()));
    for track in tracks {
        track.init.iter_mut().for_each(|init| rename(&mut init.path));
        track.segments.iter_mut().for_each(|segment| rename(&mut segment.path));
    }
    made.poster.iter_mut().for_each(|poster| rename(&mut poster.path));
    made
}

fn track(name: &str, timescale: u32) -> Track {
    let segments = (1..=3_u32).map(|number| Segment {
        number,
        start: u64::from(number - 1) * 2 * u64::from(timescale),
        duration: 2 * u64::from(timescale),
        size_bytes: SEGMENT_BYTES as u64,
        path: format!("job_1/{name}/{number:05}.m4s"),
    });
    Track {
        timescale,
        init: Some(Asset { path: format!("job_1/{name}/init.mp4"), size_bytes: 700 }),
        segments: segments.collect(),
    }
}

pub fn presentation(content_id: &str) -> Presentation {
    let video = VideoRendition {
        name: "v720".into(),
        width: 1280,
        height: 720,
        frame_rate_num: 25,
        frame_rate_den: 1,
        codecs: "avc1.64001f".into(),
        track: Some(track("v720", 12_800)),
    };
    let audio = AudioRendition {
        name: "a128".into(),
        sample_rate_hz: 48_000,
        channels: 2,
        codecs: "mp4a.40.2".into(),
        language: String::new(),
        track: Some(track("a128", 48_000)),
    };
    Presentation {
        content_id: content_id.into(),
        job_id: "job_1".into(),
        complete: true,
        revision: 5,
        video: vec![video],
        audio: Some(audio),
        source_duration_ms: 6_000,
        poster: Some(Asset { path: "job_1/poster.jpg".into(), size_bytes: 50 }),
        version: 1,
        stopped: false,
        playable_at_ms: now_ms(),
    }
}

pub fn as_account(role: Role, wallet: Option<&str>) -> Caller {
    let account = Account { id: AccountId::new(), role, wallet: wallet.map(str::to_owned) };
    Caller { identity: Identity::Account(account), request_id: "r".into() }
}

pub fn viewer() -> Caller {
    as_account(Role::Viewer, Some(WALLET))
}

pub fn anonymous() -> Caller {
    Caller { identity: Identity::Anonymous, request_id: "r".into() }
}

pub fn call<T>(caller: &Caller, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(caller.clone());
    request
}

pub fn reason(status: &Status) -> String {
    Failure::from(status).reason.into_owned()
}

/// Every URI of a playlist or manifest, as it stands there.
pub fn uris(text: &str) -> Vec<String> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#') && !line.trim_start().starts_with('<'));
    let quoted = ["URI=\"", "initialization=\"", "media=\""];
    let attributes = quoted.iter().flat_map(|mark| text.split(mark).skip(1)).filter_map(|rest| rest.split('"').next());
    lines.chain(attributes).map(str::to_owned).collect()
}
