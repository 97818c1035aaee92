//! Background tasks of a service: named, and clear about what their failure means.

use std::{borrow::Cow, panic::AssertUnwindSafe, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use streamgate_core::ServiceName;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::BoxError;

/// Wait before a failed task is started again; doubles up to the longest, until an attempt lasts longer than that.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What the failure of a task means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The service is worth nothing without it.
    StopProcess,
    /// It is logged and started again after a while. Needs a closure that makes the future; a
    /// plain future can't be run again, so its failure stops the process.
    LogAndRestart,
}

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

/// How the future of a task is made: each time anew, or once.
pub(crate) enum Body {
    Once(Attempt),
    Again(Box<dyn FnMut() -> Attempt + Send>),
}

/// Something that can be a task: a future, or a closure that makes one.
pub trait IntoTask<Marker>: Send + 'static {
    #[doc(hidden)]
    fn into_body(self) -> TaskBody;
}

/// The future of a task, ready to run.
pub struct TaskBody(pub(crate) Body);

impl std::fmt::Debug for TaskBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TaskBody(..)")
    }
}

/// Marks a plain future.
#[derive(Debug)]
pub struct PlainFuture;

/// Marks a closure that makes a future.
#[derive(Debug)]
pub struct FutureMaker;

impl<F> IntoTask<PlainFuture> for F
where
    F: Future + Send + 'static,
    F::Output: TaskOutcome,
{
    fn into_body(self) -> TaskBody {
        TaskBody(Body::Once(Box::pin(async move { self.await.into_result() })))
    }
}

impl<M, F> IntoTask<FutureMaker> for M
where
    M: FnMut() -> F + Send + 'static,
    F: Future + Send + 'static,
    F::Output: TaskOutcome,
{
    fn into_body(mut self) -> TaskBody {
        TaskBody(Body::Again(Box::new(move || {
            let future = self();
            Box::pin(async move { future.await.into_result() })
        })))
    }
}

pub(crate) struct Task {
    pub(crate) name: Cow<'static, str>,
    pub(crate) on_failure: OnFailure,
    pub(crate) body: Body,
}

impl Task {
    /// Runs until the task ends well, or the service stops, or its failure must stop the process:
    /// then `fatal` is cancelled.
    pub(crate) async fn run(self, service: ServiceName, stop: CancellationToken, fatal: CancellationToken) {
        let Self { name, on_failure, mut body } = self;
        let span = tracing::info_span!("task", service = %service, name = %name);
        let mut wait = FIRST_WAIT;
        loop {
            let (attempt, maker) = match body {
                Body::Once(future) => (future, None),
                Body::Again(mut make) => (make(), Some(make)),
            };
            let began = Instant::now();
            let Err(error) = guarded(attempt).instrument(span.clone()).await else { return };
            if began.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            if stop.is_cancelled() {
                tracing::info!(task = %name, %error, "task failed while stopping");
                return;
            }
            let Some(maker) = maker.filter(|_| on_failure == OnFailure::LogAndRestart) else {
                tracing::error!(task = %name, %error, "task failed; the process stops");
                fatal.cancel();
                return;
            };
            let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            tracing::error!(task = %name, %error, wait_ms, "task failed; it starts again");
            if stop.run_until_cancelled(sleep(wait)).await.is_none() {
                return;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
            body = Body::Again(maker);
        }
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
        let TaskBody(body) = attempts.into_body();
        let task = Task { name: "flaky".into(), on_failure: OnFailure::LogAndRestart, body };
        task.run(ServiceName::Worker, stop, CancellationToken::new()).await;
        let began = began.lock().unwrap();
        let waited = |number: usize| began[number] - began[number - 1];
        assert_eq!(waited(FAILURES - 1), LONGEST_WAIT);
        assert_eq!(waited(FAILURES), LONGEST_WAIT * 2 + FIRST_WAIT);
    }
}
