//! Sends lines to the monitor, in batches over one open call.

use std::{pin::pin, sync::atomic::Ordering, time::Duration};

use streamgate_client::Mesh;
use streamgate_proto::streamgate::monitor::v1::PushLogsRequest;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::Waiting;

/// Says beside a failure how many lines of a call the monitor has taken before, those that it was only told the number of
/// among them.
pub const LINES_TAKEN: &str = "x-streamgate-lines-taken";
/// Lines of one batch; the monitor takes no more.
const MAX_BATCH: usize = 500;
/// How long lines are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(300);
/// Batches under way in one call.
const MAX_UNDER_WAY: usize = 4;
/// Batches of one call: its end says that they have arrived.
const BATCHES_PER_CALL: usize = 200;
/// Wait after a call that failed; doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Patience with a call, and then with the last, when the process stops.
const LAST_CALL: Duration = Duration::from_secs(1);

/// Sends until `stop`, and then what is left, once. The monitor may be away: lines that find no
/// room meanwhile are counted, and the count is sent later.
pub(crate) async fn ship(mut waiting: Waiting, mesh: Mesh, stop: CancellationToken) {
    let mut wait = FIRST_WAIT;
    while !stop.is_cancelled() {
        if call(&mut waiting, &mesh, &stop).await {
            wait = FIRST_WAIT;
        } else {
            // Not logged: a line about lines that can't be sent would only be one more.
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
    while let Ok(line) = waiting.lines.try_recv()
        && waiting.gathered.len() < MAX_BATCH
    {
        waiting.gathered.push(line);
    }
    if !waiting.gathered.is_empty() {
        let mut monitor = mesh.monitor();
        let sent = monitor.push_logs(futures::stream::iter([waiting.batch()]));
        // Fails when the monitor stopped before; then the lines are in this process's own output.
        let _last = tokio::time::timeout(LAST_CALL, sent).await;
    }
}

/// One call with many batches; says whether it ended well.
async fn call(waiting: &mut Waiting, mesh: &Mesh, stop: &CancellationToken) -> bool {
    // Nothing to say, no call.
    if stop.run_until_cancelled(waiting.gather()).await.is_none() {
        return true;
    }
    let (sender, receiver) = mpsc::channel(MAX_UNDER_WAY);
    let mut monitor = mesh.monitor();
    let mut pushing = pin!(monitor.push_logs(futures::stream::unfold(receiver, |mut batches| async move {
        let batch: PushLogsRequest = batches.recv().await?;
        Some((batch, batches))
    })));
    // A monitor that lives and does not answer must not keep the process from ending.
    let mut given_up = pin!(async {
        stop.cancelled().await;
        tokio::time::sleep(LAST_CALL).await;
    });
    let mut told = 0;
    let feeding = async {
        for _ in 0..BATCHES_PER_CALL {
            let batch = waiting.batch();
            told += batch.lines.len() as u64 + batch.dropped;
            if sender.send(batch).await.is_err() || stop.run_until_cancelled(waiting.gather()).await.is_none() {
                break;
            }
        }
    };
    let ended = tokio::select! {
        outcome = &mut pushing => Some(outcome),
        () = feeding => None,
        () = &mut given_up => Some(Err(never_answered())),
    };
    drop(sender);
    let outcome = match ended {
        Some(outcome) => outcome,
        None => tokio::select! {
            outcome = &mut pushing => outcome,
            () = &mut given_up => Err(never_answered()),
        },
    };
    let Err(status) = outcome else { return true };
    waiting.dropped.fetch_add(told.saturating_sub(taken(&status)), Ordering::Relaxed);
    false
}

fn never_answered() -> Status {
    Status::deadline_exceeded("the monitor never answered")
}

/// Lines that have arrived in spite of a failure. Where the monitor could not say, too many lost ones are the honest side.
fn taken(status: &Status) -> u64 {
    status.metadata().get(LINES_TAKEN).and_then(|lines| lines.to_str().ok()?.parse().ok()).unwrap_or(0)
}

impl Waiting {
    /// Gathers lines until there are many, or some have waited. Loses none when it is given up.
    async fn gather(&mut self) {
        if self.gathered.is_empty() {
            match self.lines.recv().await {
                Some(line) => self.gathered.push(line),
                None => return std::future::pending().await,
            }
        }
        let until = tokio::time::Instant::now() + GATHER;
        while self.gathered.len() < MAX_BATCH {
            match tokio::time::timeout_at(until, self.lines.recv()).await {
                Ok(Some(line)) => self.gathered.push(line),
                Ok(None) | Err(_) => break,
            }
        }
    }

    fn batch(&mut self) -> PushLogsRequest {
        PushLogsRequest { lines: std::mem::take(&mut self.gathered), dropped: self.dropped.swap(0, Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        future::{Pending, Ready, pending, ready},
        sync::Arc,
        task::{Context, Poll},
    };

    use axum::body::Body;
    use http::{Request, Response};
    use streamgate_core::ServiceName;
    use tokio::sync::Notify;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::{Service, logs::tap, testing};

    /// A monitor that takes calls and never answers.
    #[derive(Clone)]
    struct Hanging(Arc<Notify>);

    impl tower::Service<Request<tonic::body::Body>> for Hanging {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pending<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<tonic::body::Body>) -> Self::Future {
            self.0.notify_one();
            pending()
        }
    }

    impl tonic::server::NamedService for Hanging {
        const NAME: &'static str = "streamgate.monitor.v1.MonitorService";
    }

    /// A monitor that fails after some lines.
    #[derive(Clone)]
    struct Failing {
        taken: &'static str,
    }

    impl tower::Service<Request<tonic::body::Body>> for Failing {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Ready<Result<Response<Body>, Infallible>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<tonic::body::Body>) -> Self::Future {
            let mut status = Status::unavailable("it stops");
            status.metadata_mut().insert(LINES_TAKEN, self.taken.parse().unwrap());
            ready(Ok(status.into_http()))
        }
    }

    impl tonic::server::NamedService for Failing {
        const NAME: &'static str = Hanging::NAME;
    }

    fn one_line() -> Waiting {
        let (tap, waiting) = tap(ServiceName::Cache);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(tap), || tracing::info!("x"));
        waiting
    }

    #[tokio::test]
    async fn a_monitor_that_never_answers_does_not_keep_the_process_from_ending() {
        let called = Arc::new(Notify::new());
        let service = Service::new().grpc(Hanging(Arc::clone(&called)));
        let running = testing::serve(ServiceName::Monitor, service).await.unwrap();
        let stop = CancellationToken::new();
        let shipping = tokio::spawn(ship(one_line(), running.mesh().clone(), stop.clone()));
        called.notified().await;
        stop.cancel();
        tokio::time::timeout(LAST_CALL * 10, shipping).await.expect("it gives up").unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn a_count_of_dropped_lines_outlives_the_call_that_failed_to_tell_it() {
        let mesh = testing::mesh(ServiceName::Cache, &[]).unwrap();
        let mut waiting = one_line();
        waiting.dropped.store(3, Ordering::Relaxed);
        assert!(!call(&mut waiting, &mesh, &CancellationToken::new()).await);
        assert_eq!(waiting.dropped.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn lines_that_were_taken_before_a_failure_are_not_counted_as_dropped() {
        for (taken, dropped) in [("3", 1), ("nonsense", 4), ("99", 0)] {
            let running = testing::serve(ServiceName::Monitor, Service::new().grpc(Failing { taken })).await.unwrap();
            let mut waiting = one_line();
            waiting.dropped.store(3, Ordering::Relaxed);
            assert!(!call(&mut waiting, running.mesh(), &CancellationToken::new()).await);
            assert_eq!(waiting.dropped.load(Ordering::Relaxed), dropped, "{taken}");
            running.stop().await;
        }
    }
}
