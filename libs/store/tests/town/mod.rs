//! Services with nothing but events: databases on either engine, neighbours that fail as told, and
//! handlers that remember.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use streamgate_client::{Mesh, MeshSecret};
use streamgate_core::{ErrorKind, Failure, ServiceName, events::Settings};
use streamgate_proto::streamgate::events::v1::{Event, FileUploaded, TranscodingStarted, event::Payload};
use streamgate_store::{
    Addressee, Database, Delivery, EventBus, EventHandler, Inbox, Migrations, Outbox, Patience, PostgresServer, Receipt,
};
use streamgate_testkit::engines::Postgres;
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// How long a test waits for what must happen: longer than a killed replica keeps a subject to itself.
const BOUND: Duration = Duration::from_secs(90);

/// Where databases are.
pub enum Stage {
    Sqlite(TempDir),
    Postgres { server: Arc<Postgres>, prefix: &'static str },
}

impl Stage {
    pub fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    /// The database of this name; the same one each time.
    pub async fn open(&self, name: &str) -> Database {
        match self {
            Self::Sqlite(folder) => Database::open(&folder.path().join(format!("{name}.db")), &Migrations::none()).await.unwrap(),
            Self::Postgres { server, prefix } => {
                let server = PostgresServer::parse(&server.url()).unwrap();
                Database::connect(&server, &format!("{prefix}_{name}"), &Migrations::none()).await.unwrap()
            }
        }
    }
}

/// Metadata and the transcoder: remember what they took, and fail as told. Others take everything.
#[derive(Default)]
pub struct Neighbours {
    taken: Mutex<Vec<(ServiceName, String)>>,
    /// How often a delivery of this payload's job is refused before it is taken.
    refusals: Mutex<HashMap<String, (ErrorKind, u32)>>,
    away: Mutex<Option<ServiceName>>,
    /// Deliveries that wait here are neither done nor refused.
    hold: Mutex<Option<Arc<Semaphore>>>,
    /// How many have come to where they wait.
    held: AtomicUsize,
}

#[async_trait]
impl Delivery for Neighbours {
    async fn deliver(&self, to: Addressee, event: Event, _: bool) -> Result<Receipt, Failure> {
        let Addressee::One(to) = to else { panic!("there is no broker here") };
        if !matches!(to, ServiceName::Metadata | ServiceName::Transcoder) {
            return Ok(Receipt::default());
        }
        if *self.away.lock().unwrap() == Some(to) {
            return Err(Failure::new(ErrorKind::Unavailable, "unavailable", "away"));
        }
        let hold = self.hold.lock().unwrap().clone();
        if let Some(hold) = hold {
            self.held.fetch_add(1, Relaxed);
            let _let_through = hold.acquire().await;
        }
        let name = name_of(&event);
        assert!(name != "panics", "a panic made by the test");
        if let Some((kind, left)) = self.refusals.lock().unwrap().get_mut(&name)
            && *left > 0
        {
            *left -= 1;
            return Err(Failure::new(*kind, "fault", "made by the test"));
        }
        self.taken.lock().unwrap().push((to, name));
        Ok(Receipt::default())
    }
}

impl Neighbours {
    pub fn refuse(&self, name: &str, kind: ErrorKind, times: u32) {
        self.refusals.lock().unwrap().insert(name.to_owned(), (kind, times));
    }

    pub fn go_away(&self, who: Option<ServiceName>) {
        *self.away.lock().unwrap() = who;
    }

    /// Holds deliveries up until the gate is opened.
    pub fn hold(&self) -> Arc<Semaphore> {
        let hold = Arc::new(Semaphore::new(0));
        *self.hold.lock().unwrap() = Some(Arc::clone(&hold));
        hold
    }

    /// Waits for a delivery that is held up.
    pub async fn until_held(&self) {
        until(|| async { (self.held.load(Relaxed) > 0).then_some(()) }).await.expect("a delivery comes to where it waits");
    }

    pub fn taken_by(&self, who: ServiceName) -> Vec<String> {
        self.taken.lock().unwrap().iter().filter(|(to, _)| *to == who).map(|(_, name)| name.clone()).collect()
    }

    pub async fn until_taken(&self, who: ServiceName, count: usize) -> Vec<String> {
        until(|| async {
            let taken = self.taken_by(who);
            (taken.len() >= count).then_some(taken)
        })
        .await
        .unwrap_or_else(|| panic!("{who} took only {:?}", self.taken_by(who)))
    }
}

/// Looks until there is something, or until the bound is over.
pub async fn until<T, Fut: Future<Output = Option<T>>>(mut look: impl FnMut() -> Fut) -> Option<T> {
    let began = Instant::now();
    while began.elapsed() < BOUND {
        if let Some(found) = look().await {
            return Some(found);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

fn name_of(event: &Event) -> String {
    match event.payload.as_ref().unwrap() {
        Payload::TranscodingStarted(started) => started.job_id.clone(),
        Payload::FileUploaded(uploaded) => uploaded.upload_id.clone(),
        other => panic!("not sent by these tests: {other:?}"),
    }
}

/// An event for metadata.
pub fn started(name: &str) -> Payload {
    Payload::TranscodingStarted(TranscodingStarted { job_id: name.into(), content_id: "c".into(), ..Default::default() })
}

/// An event for metadata and the transcoder.
pub fn uploaded(name: &str) -> Payload {
    Payload::FileUploaded(FileUploaded { upload_id: name.into(), ..FileUploaded::default() })
}

pub fn mesh(own: ServiceName) -> Mesh {
    Mesh::builder(own, MeshSecret::new(b"only for these tests").unwrap()).build().unwrap()
}

/// Gives an event up after three strikes, within a moment.
pub const IMPATIENT: Patience = Patience {
    strikes: 3,
    first_wait: Duration::from_millis(10),
    longest_wait: Duration::from_millis(200),
    longest_strike_wait: Duration::from_millis(50),
};

/// A bus at work.
pub struct Running {
    pub outbox: Outbox,
    pub bus: EventBus,
    db: Database,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), streamgate_store::Error>>,
}

impl Running {
    pub fn start(bus: EventBus, db: &Database) -> Self {
        let stop = CancellationToken::new();
        Self { outbox: bus.outbox(), task: tokio::spawn(bus.run(stop.clone())), bus, db: db.clone(), stop }
    }

    /// A service whose consumers are `neighbours`.
    pub fn beside(db: &Database, neighbours: &Arc<Neighbours>) -> Self {
        let own = ServiceName::Upload;
        let bus = EventBus::new(db.clone(), own, mesh(own), &Settings::default());
        Self::start(bus.patience(IMPATIENT).through(neighbours.clone()), db)
    }

    /// A service on a broker.
    pub fn on_broker(own: ServiceName, db: &Database, url: &str, recorder: &Arc<Recorder>) -> Self {
        let settings = Settings { nats_url: url.to_owned(), ..Settings::default() };
        let bus = EventBus::new(db.clone(), own, mesh(own), &settings).patience(IMPATIENT).hears(recorder.clone());
        Self::start(bus, db)
    }

    pub async fn send(&self, subject: &str, payload: Payload) {
        let mut tx = self.db.begin().await.unwrap();
        self.outbox.add(&mut tx, subject, payload).await.unwrap();
        tx.commit().await.unwrap();
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }

    /// As a kill does: nothing is brought to its end.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.is_err());
    }
}

pub async fn count(db: &Database, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(db.pool()).await.unwrap()
}

/// Handles each event once, in its own database, and fails as told.
pub struct Recorder {
    db: Database,
    effects: Mutex<Vec<String>>,
    refusals: Mutex<HashMap<String, (ErrorKind, u32)>>,
}

impl Recorder {
    pub fn new(db: &Database) -> Arc<Self> {
        Arc::new(Self { db: db.clone(), effects: Mutex::default(), refusals: Mutex::default() })
    }

    pub fn refuse(&self, name: &str, kind: ErrorKind, times: u32) {
        self.refusals.lock().unwrap().insert(name.to_owned(), (kind, times));
    }

    pub fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().clone()
    }

    /// Effects of events whose names begin with `prefix`, when there are `count`.
    pub async fn until_effects(&self, prefix: &str, count: usize) -> Vec<String> {
        let of = || self.effects().into_iter().filter(|name| name.starts_with(prefix)).collect::<Vec<_>>();
        until(|| async { (of().len() >= count).then(of) }).await.unwrap_or_else(|| panic!("only {:?}", self.effects()))
    }
}

#[async_trait]
impl EventHandler for Recorder {
    async fn handle(&self, event: Event) -> Result<(), Failure> {
        let name = name_of(&event);
        if let Some((kind, left)) = self.refusals.lock().unwrap().get_mut(&name)
            && *left > 0
        {
            *left -= 1;
            return Err(Failure::new(*kind, "fault", "made by the test"));
        }
        let mut tx = self.db.begin().await?;
        let first = Inbox::first_time(&mut tx, &event.id).await?;
        tx.commit().await?;
        if first {
            self.effects.lock().unwrap().push(name);
        }
        Ok(())
    }
}
