//! A queue on a folder of its own, and jobs that do as they are told.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use streamgate_core::{Account, Caller, Identity, Role, ServiceName, ids::JobId};
use streamgate_store::{Database, Outbox, PostgresServer};
use streamgate_worker::{
    Metrics,
    engine::{Claim, End, Ended, Filter, Job, Queue, State, Work},
    jobs::{JobError, JobType},
    webhooks::{
        Webhooks,
        guard::{Guard, SystemNames},
        sender::Sender,
    },
};
use tonic::Request;

/// Runs each case on both engines: by itself on SQLite, and all after each other on one PostgreSQL server.
#[allow(unused_macros, reason = "each test file uses a part")]
macro_rules! on_both_engines {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case(super::support::Fixture::open().await).await;
            })*
        }

        #[tokio::test]
        async fn postgres_does_all_of_this() {
            let postgres = streamgate_testkit::engines::Postgres::start().await.unwrap();
            let server = streamgate_store::PostgresServer::parse(&postgres.url()).unwrap();
            let mut number = 0;
            $(
                number += 1;
                println!("{}", stringify!($case));
                $case(support::Fixture::on_postgres(&server, &format!("case_{number}")).await).await;
            )*
        }
    };
}
#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use on_both_engines;

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
        let db = Database::open(&folder.path().join("worker.db"), &streamgate_worker::MIGRATIONS).await.unwrap();
        Self::over(db, Some(folder))
    }

    /// The same on a server, in a schema of its own.
    pub async fn on_postgres(server: &PostgresServer, schema: &str) -> Self {
        let db = Database::connect(server, schema, &streamgate_worker::MIGRATIONS).await.unwrap();
        Self::over(db, None)
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
        self.queue.settle(&[Ended { claim: claim.clone(), end, announced: true }], now).await.unwrap()[0]
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
        use prost::Message as _;
        let bodies: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT body FROM outbox_events ORDER BY seq").fetch_all(self.db.pool()).await.unwrap();
        let events = bodies.iter().map(|body| streamgate_proto::streamgate::events::v1::Event::decode(body.as_slice()).unwrap());
        events.map(|event| streamgate_core::events::event_type(&event.payload.unwrap()).to_owned()).collect()
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
}

impl Scripted {
    pub fn new(answers: impl IntoIterator<Item = Result<String, JobError>>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), attempts: Arc::default() }
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
        work.at(0.25);
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}
