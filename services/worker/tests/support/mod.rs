//! A queue on a folder of its own, and jobs that do as they are told.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use streamgate_core::{Account, Caller, Identity, Role, ServiceName, ids::JobId};
use streamgate_proto::streamgate::events::v1::Event;
use streamgate_store::{Database, Outbox, PostgresServer};
use streamgate_worker::{
    MIGRATIONS, Metrics,
    engine::{Claim, End, Ended, Filter, Job, Origin, Queue, State, Work},
    jobs::{JobError, JobType},
    webhooks::{
        Webhooks,
        guard::{Guard, SystemNames},
        sender::Sender,
    },
};
use tonic::Request;

/// The service's rows at `path`, or on the server that stands for it.
pub async fn open(path: &Path) -> Database {
    streamgate_testkit::open_rows!(path, &MIGRATIONS)
}

/// Statements that read a whole table, and why they may.
pub const READ_WHOLE: &[(&str, &str)] =
    &[("SELECT count(*) FROM cron_schedules", "there are a thousand at the most, and operators seldom make one")];

/// Deliveries at once in these tests.
pub const AT_ONCE: u32 = 8;
/// How long a claim holds in these tests.
pub const LEASE: Duration = Duration::from_secs(30);

/// A queue, and the folder it lives in.
pub struct Fixture {
    pub queue: Queue,
    pub db: Database,
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::over(open(&folder.path().join("worker.db")).await, Some(folder))
    }

    /// On a server that the test stops and starts itself.
    pub async fn on_postgres(server: &PostgresServer) -> Self {
        Self::over(Database::connect(server, "worker", &MIGRATIONS).await.unwrap(), None)
    }

    fn over(db: Database, folder: Option<tempfile::TempDir>) -> Self {
        let outbox = Outbox::new(ServiceName::Worker);
        Self { queue: Queue::new(db.clone(), outbox), db, _folder: folder }
    }

    /// Webhooks that may go to receivers on this machine.
    pub fn webhooks(&self) -> Webhooks {
        let sender = Sender::new(Guard::Open, Arc::new(SystemNames)).unwrap();
        Webhooks::new(self.queue.clone(), sender, Guard::Open, Metrics::default(), AT_ONCE).unwrap()
    }

    /// One job for a worker called "w".
    pub async fn claim(&self, now: i64) -> Option<Claim> {
        self.queue.claim("w", 1, 0, LEASE, now).await.unwrap().pop()
    }

    /// Whether a claim still was the newest when its end was written.
    pub async fn settle(&self, claim: &Claim, end: End, now: i64) -> bool {
        self.queue.settle(&[Ended { claim: claim.clone(), end, announced: true, origin: Origin::current() }], now).await.unwrap()
            [0]
    }

    pub async fn finish(&self, claim: &Claim, now: i64) -> bool {
        self.settle(claim, End::Succeeded("done".into()), now).await
    }

    /// Whether the claim was kept alive.
    pub async fn beat(&self, claim: &Claim, now: i64) -> bool {
        self.queue.heartbeat(&[(claim, 0.5)], LEASE, now).await.unwrap().is_empty()
    }

    pub async fn all(&self, state: Option<State>) -> Vec<Job> {
        self.queue.list(100, "", &Filter { state, job_type: String::new() }).await.unwrap().jobs
    }

    /// Types of the events that wait to be told, in order.
    pub async fn events(&self) -> Vec<String> {
        let events = self.told().await.into_iter();
        events.map(|event| streamgate_core::events::event_type(&event.payload.unwrap()).to_owned()).collect()
    }

    /// The events that wait to be told, in order.
    pub async fn told(&self) -> Vec<Event> {
        use prost::Message as _;
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq").fetch_all(self.db.pool()).await.unwrap();
        bodies.iter().map(|body| Event::decode(body.as_slice()).unwrap()).collect()
    }

    /// Changes rows behind the service's back.
    pub async fn change(&self, statement: &'static str, value: Vec<u8>) {
        let mut tx = self.db.begin().await.unwrap();
        sqlx::query(statement).bind(value).execute(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
    }
}

/// The account that asks in these tests.
pub fn operator() -> Account {
    Account { id: "acc_00000000000000000000000000000001".parse().unwrap(), role: Role::Operator, wallet: None }
}

/// A request of an account.
pub fn asked_by<T>(account: Account, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller { identity: Identity::Account(account), request_id: "r".into() });
    request
}

/// A request of an operator.
pub fn asked<T>(message: T) -> Request<T> {
    asked_by(operator(), message)
}

pub fn id_of(job: &Job) -> JobId {
    job.job_id.parse().unwrap()
}

/// Answers each attempt from a list, then hangs.
#[derive(Clone, Default)]
pub struct Scripted {
    answers: Arc<Mutex<VecDeque<Result<String, JobError>>>>,
    pub attempts: Arc<AtomicU32>,
    /// Attempts whose work goes on no more, ended or broken off.
    pub left: Arc<AtomicU32>,
}

/// Counts when it is dropped.
struct Leaving(Arc<AtomicU32>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Scripted {
    pub fn new(answers: impl IntoIterator<Item = Result<String, JobError>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }
}

#[async_trait]
impl JobType for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn wait_after(&self, _: u32) -> Duration {
        Duration::from_millis(100)
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        let _leaving = Leaving(Arc::clone(&self.left));
        work.at(0.25);
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}
