//! Background tasks of a service: named, and clear about what their failure means.

use std::{borrow::Cow, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use streamgate_core::{ServiceName, error::chain};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::BoxError;

/// Wait before a failed task is started again; doubles up to the longest, until an attempt lasts longer than that.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a task may end with.
pub trait TaskOutcome {
    /// The outcome as a result.
    ///
    /// # Errors
    /// Why the task failed.
    fn into_result(self) -> Result<(), BoxError>;
}

impl TaskOutcome for () {
    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl<E: Into<BoxError>> TaskOutcome for Result<(), E> {
    fn into_result(self) -> Result<(), BoxError> {
        self.map_err(Into::into)
    }
}

type Attempt = BoxFuture<'static, Result<(), BoxError>>;

/// What a task runs, which says what its failure means.
enum Work {
    /// Can't be run again: the service is worth nothing without it.
    Once(Attempt),
    /// Is made anew after a failure.
    Restarting(Box<dyn FnMut() -> Attempt + Send>),
}

pub(crate) struct Task {
    name: Cow<'static, str>,
    work: Work,
}

impl Task {
    /// A task whose failure stops the process.
    pub(crate) fn once<F>(name: Cow<'static, str>, future: F) -> Self
    where
        F: Future + Send + 'static,
        F::Output: TaskOutcome,
    {
        Self { name, work: Work::Once(Box::pin(async move { future.await.into_result() })) }
    }

    /// A task that starts again after a failure.
    pub(crate) fn restarting<M, F>(name: Cow<'static, str>, mut make: M) -> Self
    where
        M: FnMut() -> F + Send + 'static,
        F: Future + Send + 'static,
        F::Output: TaskOutcome,
    {
        let attempt = move || -> Attempt {
            let future = make();
            Box::pin(async move { future.await.into_result() })
        };
        Self { name, work: Work::Restarting(Box::new(attempt)) }
    }

    /// Runs until the task ends well, or the service stops, or its failure must stop the process:
    /// then `fatal` is cancelled.
    pub(crate) async fn run(self, service: ServiceName, stop: CancellationToken, fatal: CancellationToken) {
        // Of the gravest level, or a quiet log would lose whose lines these are.
        let span = tracing::error_span!("task", service = %service, name = %self.name);
        let running = async move {
            match self.work {
                Work::Once(attempt) => run_once(&self.name, attempt, &stop, &fatal).await,
                Work::Restarting(make) => run_again_and_again(&self.name, make, &stop).await,
            }
        };
        running.instrument(span).await;
    }
}

async fn run_once(name: &str, attempt: Attempt, stop: &CancellationToken, fatal: &CancellationToken) {
    let Err(error) = guarded(attempt).await else { return };
    let error = chain(error.as_ref());
    if stop.is_cancelled() {
        tracing::info!(task = name, error, "task failed while stopping");
        return;
    }
    tracing::error!(task = name, error, "task failed; the process stops");
    fatal.cancel();
}

async fn run_again_and_again(name: &str, mut make: Box<dyn FnMut() -> Attempt + Send>, stop: &CancellationToken) {
    let mut wait = FIRST_WAIT;
    loop {
        let began = Instant::now();
        let Err(error) = guarded(make()).await else { return };
        let error = chain(error.as_ref());
        if began.elapsed() > LONGEST_WAIT {
            wait = FIRST_WAIT;
        }
        if stop.is_cancelled() {
            tracing::info!(task = name, error, "task failed while stopping");
            return;
        }
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(task = name, error, wait_ms, "task failed; it starts again");
        if stop.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

async fn guarded(attempt: Attempt) -> Result<(), BoxError> {
    AssertUnwindSafe(attempt).catch_unwind().await.unwrap_or_else(|panic| Err(panic_text(panic.as_ref()).into()))
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned()).or_else(|| panic.downcast_ref::<String>().cloned());
    format!("panicked: {}", text.unwrap_or_else(|| "without a message".to_owned()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_after_a_long_run_is_not_held_against_the_task() {
        const FAILURES: usize = 12;
        let (stop, began) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
        let (starts, at_last) = (Arc::clone(&began), stop.clone());
        let attempts = move || {
            let (starts, stop) = (Arc::clone(&starts), at_last.clone());
            async move {
                let count = {
                    let mut starts = starts.lock().unwrap();
                    starts.push(Instant::now());
                    starts.len()
                };
                match count {
                    ..FAILURES => {}
                    FAILURES => sleep(LONGEST_WAIT * 2).await,
                    _ => stop.cancel(),
                }
                Err::<(), BoxError>("it failed".into())
            }
        };
        let task = Task::restarting("flaky".into(), attempts);
        task.run(ServiceName::Worker, stop, CancellationToken::new()).await;
        let began = began.lock().unwrap();
        let waited = |number: usize| began[number] - began[number - 1];
        assert_eq!(waited(FAILURES - 1), LONGEST_WAIT);
        assert_eq!(waited(FAILURES), LONGEST_WAIT * 2 + FIRST_WAIT);
    }
    /// What a log of warnings holds.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("sweep the sessions")]
    struct SweepFailed(#[source] std::io::Error);

    #[tokio::test]
    async fn a_failure_is_logged_with_its_causes_and_its_service_in_a_quiet_log_too() {
        let lines = Lines::default();
        let written = lines.clone();
        let log = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(move || written.clone()).finish();
        let _quiet = tracing::subscriber::set_default(log);
        let fatal = CancellationToken::new();
        let failing = async { Err::<(), _>(SweepFailed(std::io::Error::other("the disk is full"))) };
        Task::once("sweep".into(), failing).run(ServiceName::Worker, CancellationToken::new(), fatal.clone()).await;
        assert!(fatal.is_cancelled());
        let log = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("sweep the sessions: the disk is full"), "{log}");
        let plain: String = log.chars().filter(char::is_ascii_graphic).collect();
        assert!(plain.contains("worker"), "{log}");
    }
}
