//! A service whose encoder is a script, and what tests ask of it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses its part")]

use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use prost::Message as _;
use streamgate_core::{
    Account, Caller, Identity, Role, ServiceName,
    events::event_type,
    ids::{AccountId, ContentId, EventId, UploadId},
};
use streamgate_proto::streamgate::{
    events::v1::{ContentPurged, Event, FileUploaded, event::Payload},
    media::v1::Presentation,
    transcoder::v1::{
        GetJobRequest, GetPresentationRequest, Job, JobState, SubmitJobRequest, transcoder_service_server::TranscoderService as _,
    },
};
use streamgate_store::{BlobKey, BlobStore, Database, EventHandler as _, Outbox, bytes, collect, open_blobs};
use streamgate_transcoder::{Claim, Config, Engine, Handler, MIGRATIONS, Metrics, Worker};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::Request;

/// How long a test waits for a state.
const BOUND: Duration = Duration::from_secs(60);

/// Plays an encoder: reads its part from a file beside it, a step a line.
const SCRIPT: &str = r#"#!/bin/bash
[ "$1" = check ] && exit 0
here=$(dirname "$0"); out=$5; spec=$7
if [ "$1" = poster ]; then
  [ -e "$here/blind" ] && { echo '{"type":"error","reason":"damaged","detail":"a sentence"}'; exit 2; }
  { printf 'at %s of ' "$7"; cat "$3"; } >"$out/poster.jpg"
  echo '{"type":"poster","file":"poster.jpg","size_bytes":1}'; echo '{"type":"done","duration_ms":0,"partial":false}'; exit 0
fi
from=$(sed 's/.*"resume_from":\([0-9]*\).*/\1/' <<<"$spec")
echo $$ >"$here/pid"
turn=$(($(cat "$here/turn" 2>/dev/null || echo 0) + 1)); echo $turn >"$here/turn"
active=1
while read -r step a b c; do
  [ "$step" = attempt ] && { active=$([ "$a" = "$turn" ] && echo 1 || echo 0); continue; }
  [ "$active" = 1 ] || continue
  case $step in
    probed) echo '{"type":"probed","duration_ms":4000,"width":640,"height":360,"frame_rate":{"num":25,"den":1},"has_video":true,"has_audio":false,"tracks":["'"$a"'"]}';;
    rendition) mkdir -p "$out/$a"; echo init >"$out/$a/init.mp4"
      echo '{"type":"rendition","name":"'"$a"'","media":{"kind":"video","width":640,"height":360,"frame_rate":{"num":25,"den":1}},"codecs":"avc1.64001e","timescale":1000,"init_file":"'"$a"'/init.mp4","init_size_bytes":5}';;
    mumble) echo '{"type":"rendition","name":"'"$a"'","media":{"kind":"video","width":640,"height":360,"frame_rate":{"num":25,"den":1}},"codecs":"a\u0000b","timescale":1000,"init_file":"'"$a"'/init.mp4","init_size_bytes":5}';;
    sound) mkdir -p "$out/$a"; echo init >"$out/$a/init.mp4"
      echo '{"type":"rendition","name":"'"$a"'","media":{"kind":"audio","sample_rate_hz":48000,"channels":2,"language":""},"codecs":"mp4a.40.2","timescale":1000,"init_file":"'"$a"'/init.mp4","init_size_bytes":5}';;
    poster) echo first >"$out/poster.jpg"; echo '{"type":"poster","file":"poster.jpg","size_bytes":6}';;
    segment) file=$(printf '%s/%05d.m4s' "$a" "$b"); echo "segment $b" >"$out/$file"
      echo '{"type":"segment","rendition":"'"$a"'","number":'"$b"',"start":'$(((b-1)*2000))',"duration":2000,"file":"'"$file"'","size_bytes":10}';;
    steal) echo '{"type":"segment","rendition":"'"$a"'","number":'"${c:-1}"',"start":0,"duration":2000,"file":"'"$b"'","size_bytes":10}';;
    expect_resume) [ "$from" = "$a" ] || { echo '{"type":"error","reason":"damaged","detail":"resumed from '"$from"'"}'; exit 2; };;
    error) echo '{"type":"error","reason":"'"$a"'","detail":"a sentence"}'; exit 2;;
    done) echo '{"type":"done","duration_ms":'"$a"',"partial":false}'; exit 0;;
    await) until [ -e "$here/go" ]; do sleep 0.05; done;;
    crash) kill -9 $$;;
    hang) exec sleep 600;;
  esac
done <"$here/part"
"#;

/// The service's rows at `path`, or on the server that stands for it.
pub async fn open(path: &Path) -> Database {
    streamgate_testkit::open_rows!(path, &MIGRATIONS)
}

/// Statements that read a whole table, and why they may.
pub const READ_WHOLE: &[(&str, &str)] = &[
    (" workers ", "one row for each process that runs jobs"),
    ("FROM renditions WHERE job_id = $1", "a job has a few renditions"),
    ("FROM jobs WHERE content_id = $1 ORDER BY", "a title has a few versions"),
    ("FROM (SELECT started_ms", "the last that ended well stand at the end of the index that is read"),
    ("state = 'queued' OR (state = 'running'", "only what waits or runs is in the index that is read"),
    ("state = 'running' OR (priority", "only what waits or runs is in the index that is read"),
];

pub struct Rig {
    pub engine: Engine,
    pub handler: Handler,
    db: Database,
    blobs: Arc<dyn BlobStore>,
    folder: TempDir,
    config: Config,
    worker: Option<(JoinHandle<()>, CancellationToken)>,
}

impl Rig {
    /// A service whose encoder plays `part`, and may be silent for long: the machine may be busy.
    pub async fn start(part: &str) -> Self {
        Self::play(part, 600).await
    }

    /// The same, with an encoder that is soon thought to hang.
    pub async fn impatient(part: &str) -> Self {
        Self::play(part, 2).await
    }

    /// The same, with a worker that renews its leases so rarely that no test waits for it.
    pub async fn with_rare_heartbeats(part: &str, concurrency: u32) -> Self {
        let mut rig = Self::start(part).await;
        rig.stop_worker().await;
        rig.config = Config { heartbeat_ms: 300_000, concurrency, ..rig.config };
        rig.start_worker();
        rig
    }

    async fn play(part: &str, stall_seconds: u64) -> Self {
        let mut rig = Self::without_worker().await;
        let script = rig.folder.path().join("encoder");
        std::fs::write(&script, SCRIPT).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::write(rig.folder.path().join("part"), part).unwrap();
        rig.config = Config { encoder_path: script, stall_seconds, ..rig.config };
        rig.start_worker();
        rig
    }

    pub async fn with_encoder(encoder: &Path) -> Self {
        let mut rig = Self::without_worker().await;
        rig.config = Config { encoder_path: encoder.to_owned(), preset: "ultrafast".into(), stall_seconds: 60, ..rig.config };
        rig.start_worker();
        rig
    }

    pub async fn without_worker() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder.path().join("transcoder.db")).await;
        let outbox = Outbox::new(ServiceName::Transcoder);
        let blobs = open_blobs(&folder.path().join("blobs")).unwrap();
        // No lease ends because the machine is busy.
        let config = Config { heartbeat_ms: 200, lease_ms: 600_000, ..Config::default() };
        let engine = Engine::new(db.clone(), outbox, Arc::clone(&blobs), Metrics::default(), &config);
        let idle = Worker::new(engine.clone(), config.clone(), folder.path());
        Self { handler: Handler::new(engine.clone(), idle), engine, db, blobs, folder, config, worker: None }
    }

    pub fn start_worker(&mut self) -> Worker {
        let stop = CancellationToken::new();
        let worker = self.idle_worker();
        self.handler = Handler::new(self.engine.clone(), worker.clone());
        let (token, running) = (stop.clone(), worker.clone());
        let task = tokio::spawn(async move { running.run(token).await.unwrap() });
        self.worker = Some((task, stop));
        worker
    }

    fn idle_worker(&self) -> Worker {
        Worker::new(self.engine.clone(), self.config.clone(), self.folder.path())
    }

    pub async fn stop_worker(&mut self) {
        let (task, stop) = self.worker.take().unwrap();
        stop.cancel();
        task.await.unwrap();
    }

    /// Queues at most so many jobs, keeps superseded media for no time, and begins anew.
    pub fn limit(&mut self, max_queued: u32) {
        self.config = Config { max_queued, keep_superseded_hours: 0, ..self.config.clone() };
        let outbox = Outbox::new(ServiceName::Transcoder);
        self.engine = Engine::new(self.db.clone(), outbox, Arc::clone(&self.blobs), Metrics::default(), &self.config);
        self.handler = Handler::new(self.engine.clone(), self.idle_worker());
    }

    /// The same service in another process, over the same rows.
    pub fn replica(&self) -> Engine {
        let outbox = Outbox::new(ServiceName::Transcoder);
        Engine::new(self.db.clone(), outbox, Arc::clone(&self.blobs), Metrics::default(), &self.config)
    }

    /// What the encoder does from now on.
    pub fn set_part(&self, part: &str) {
        std::fs::write(self.folder.path().join("part"), part).unwrap();
    }

    /// From now on the encoder can decode no frame.
    pub fn go_blind(&self) {
        std::fs::write(self.folder.path().join("blind"), "").unwrap();
    }

    /// What is stored below a title's media.
    pub async fn media(&self, content: &str, path: &str) -> Option<Vec<u8>> {
        let key = BlobKey::new(format!("media/{content}/{path}")).unwrap();
        let body = self.blobs.read(&key, None).await.ok()?;
        Some(collect(body, 1 << 20).await.unwrap().to_vec())
    }

    pub async fn submit(&self, owner: &str, wanted: SubmitJobRequest) -> Result<Job, tonic::Status> {
        Ok(self.handler.submit_job(caller(owner, wanted)).await?.into_inner().job.unwrap())
    }

    pub async fn version(&self, content: &str, version: u32) -> Option<Presentation> {
        let ask = GetPresentationRequest { content_id: content.to_owned(), version, ..Default::default() };
        self.handler.get_presentation(operator(ask)).await.ok()?.into_inner().presentation
    }

    /// Whether events of the last kind say that the title played before.
    pub async fn last_event(&self) -> Payload {
        let body: Vec<u8> = sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq DESC LIMIT 1")
            .fetch_one(self.db.pool())
            .await
            .unwrap();
        Event::decode(body.as_slice()).unwrap().payload.unwrap()
    }

    pub fn engine_blobs(&self) -> &dyn BlobStore {
        self.blobs.as_ref()
    }

    pub async fn upload(&self, owner: &str) -> String {
        self.upload_bytes(owner, b"source").await
    }

    pub async fn upload_without_source(&self, owner: &str) -> String {
        let content = ContentId::new().to_string();
        self.engine.handle(uploaded(&content, owner)).await.unwrap();
        content
    }

    pub async fn upload_fixture(&self, owner: &str) -> String {
        let clip = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../integration/fixtures/bbb-720p25-51.mp4");
        self.upload_bytes(owner, &std::fs::read(clip).unwrap()).await
    }

    async fn upload_bytes(&self, owner: &str, body: &[u8]) -> String {
        let content = ContentId::new().to_string();
        let event = uploaded(&content, owner);
        let Some(Payload::FileUploaded(file)) = &event.payload else { unreachable!() };
        let key = BlobKey::new(file.source_key.as_str()).unwrap();
        self.blobs.put(&key, bytes(body.to_vec().into())).await.unwrap();
        self.engine.handle(event.clone()).await.unwrap();
        // The same event again, and the same upload in another event: neither queues another job.
        self.engine.handle(event.clone()).await.unwrap();
        self.engine.handle(Event { id: EventId::new().to_string(), ..event }).await.unwrap();
        content
    }

    pub async fn upload_again(&self, content: &str, owner: &str) {
        if self.find(content).await.is_none() {
            self.engine.handle(uploaded(content, owner)).await.unwrap();
        }
    }

    pub async fn delete(&self, content: &str) {
        let payload = Payload::ContentPurged(ContentPurged { content_id: content.to_owned(), ..Default::default() });
        self.engine.handle(event(content, payload)).await.unwrap();
    }

    async fn find(&self, content: &str) -> Option<Job> {
        let ask = GetJobRequest { content_id: content.to_owned(), ..Default::default() };
        self.handler.get_job(operator(ask)).await.ok().and_then(|answer| answer.into_inner().job)
    }

    pub async fn job(&self, content: &str) -> Job {
        self.find(content).await.unwrap()
    }

    /// Waits for a state of a title's newest job.
    pub async fn until(&self, content: &str, state: JobState) -> Job {
        let mut last = None;
        let waited = wait(async || {
            last = self.find(content).await;
            last.as_ref().is_some_and(|job| job.state() == state)
        });
        assert!(waited.await, "{content} is not {state:?}: {last:?}");
        last.unwrap()
    }

    pub async fn until_segments(&self, content: &str, count: usize) {
        let there = async || {
            let made = self.presentation(content, 0).await.unwrap_or_default();
            made.video.first().and_then(|v| v.track.as_ref()).is_some_and(|track| track.segments.len() >= count)
        };
        assert!(wait(there).await, "{content} has no {count} segments");
    }

    /// The number of the child that was started last, while it lives.
    pub fn child(&self) -> Option<u32> {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).ok()?;
        let pid: u32 = pid.trim().parse().ok()?;
        Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
    }

    pub async fn until_child(&self) {
        assert!(wait(async || self.child().is_some()).await, "no child was started");
    }

    /// Ends the lease of the first attempt until another one has begun.
    pub async fn until_taken_from(&self, first: u32) {
        let taken = async || {
            self.change("UPDATE jobs SET lease_until_ms = 1 WHERE state = 'running' AND attempts = 1").await;
            self.child().is_some_and(|child| child != first)
        };
        assert!(wait(taken).await, "nobody else began the job");
    }

    /// How many attempts have a folder.
    pub fn folders(&self) -> usize {
        let owners = std::fs::read_dir(self.folder.path().join("scratch")).into_iter().flatten().flatten();
        owners.filter_map(|owner| std::fs::read_dir(owner.path()).ok()).flatten().count()
    }

    /// Waits until a child is gone, and so is the folder of its attempt: one other has one.
    pub async fn until_gone(&self, child: u32) {
        let gone = async || !Path::new(&format!("/proc/{child}")).exists() && self.folders() == 1;
        assert!(wait(gone).await, "the child {child} or its folder is still there");
    }

    /// Lets the script go on behind `await`.
    pub fn go_on(&self) {
        std::fs::write(self.folder.path().join("go"), "").unwrap();
    }

    pub async fn until_no_child(&self) {
        assert!(wait(async || self.child().is_none()).await, "the child is still there");
    }

    pub async fn presentation(&self, content: &str, known_revision: u64) -> Option<Presentation> {
        let ask = GetPresentationRequest { content_id: content.to_owned(), known_revision, version: 0 };
        self.handler.get_presentation(operator(ask)).await.unwrap().into_inner().presentation
    }

    /// Claims the job whose lease has just ended.
    pub async fn claim_again(&self, owner: &str) -> Claim {
        let mut claim = None;
        let taken = wait(async || {
            claim = self.engine.claim(owner, Duration::from_secs(60)).await.unwrap();
            claim.is_some()
        });
        assert!(taken.await, "the lease does not end");
        claim.unwrap()
    }

    /// Types of the events that were sent, without those of progress.
    pub async fn events(&self) -> Vec<&'static str> {
        let types = self.sent().await.into_iter().map(|event| event_type(&event.payload.unwrap()));
        types.filter(|kind| *kind != "transcoding.progressed").collect()
    }

    /// The events that were sent.
    pub async fn sent(&self) -> Vec<Event> {
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq").fetch_all(self.db.pool()).await.unwrap();
        bodies.iter().map(|body| Event::decode(body.as_slice()).unwrap()).collect()
    }

    /// Changes rows behind the service's back.
    pub async fn change(&self, statement: &'static str) {
        let mut tx = self.db.begin().await.unwrap();
        sqlx::query(statement).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// Waits for a state, with a bound.
async fn wait(mut holds: impl AsyncFnMut() -> bool) -> bool {
    let asked = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(BOUND, asked).await.is_ok()
}

fn account(name: &str, role: Role) -> Account {
    // One id a name, the same in all calls.
    let digits: String = name.bytes().cycle().take(16).map(|b| format!("{b:02x}")).collect();
    Account { id: format!("acc_{digits}").parse::<AccountId>().unwrap(), role, wallet: None }
}

fn request<T>(account: Account, body: T) -> Request<T> {
    let mut request = Request::new(body);
    request.extensions_mut().insert(Caller { identity: Identity::Account(account), request_id: "r".to_owned() });
    request
}

pub fn caller<T>(name: &str, body: T) -> Request<T> {
    request(account(name, Role::Creator), body)
}

pub fn operator<T>(body: T) -> Request<T> {
    request(account("operator", Role::Operator), body)
}

fn event(subject: &str, payload: Payload) -> Event {
    Event {
        id: EventId::new().to_string(),
        source: "test".to_owned(),
        subject: subject.to_owned(),
        time: None,
        payload: Some(payload),
        ..Default::default()
    }
}

pub fn uploaded(content: &str, owner: &str) -> Event {
    let upload_id = UploadId::new().to_string();
    let file = FileUploaded {
        source_key: format!("sources/{upload_id}"),
        upload_id,
        content_id: content.to_owned(),
        size_bytes: 6,
        sha256: String::new(),
        filename: "clip.mp4".to_owned(),
        owner: account(owner, Role::Creator).id.to_string(),
    };
    event(content, Payload::FileUploaded(file))
}
