//! A queue on a folder of its own, and jobs that do as they are told.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use streamgate_core::ids::JobId;
use streamgate_store::Database;
use streamgate_worker::{
    engine::{Job, Queue},
    jobs::{JobError, JobType},
};

/// A queue, and the folder it lives in.
pub struct Fixture {
    pub queue: Queue,
    pub db: Database,
    _folder: tempfile::TempDir,
}

impl Fixture {
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Database::open(&folder.path().join("worker.db"), &streamgate_worker::MIGRATIONS).await.unwrap();
        Self { queue: Queue::new(db.clone()), db, _folder: folder }
    }
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

    async fn run(&self) -> Result<String, JobError> {
        self.attempts.fetch_add(1, Ordering::SeqCst);
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }
}
