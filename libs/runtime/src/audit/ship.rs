//! Brings entries to the monitor, file by file.

use std::{io, path::Path, time::Duration};

use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::audit::v1::{AppendEntriesRequest, audit_service_client::AuditServiceClient};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{
    Auditor,
    spool::{self, Contents},
};

/// Entries of one call; the monitor takes no more.
const MAX_BATCH: usize = 500;
/// How long entries are gathered before they are sent.
const GATHER: Duration = Duration::from_millis(200);
/// Wait after a call that failed; doubles up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// How long a file that can't be read is passed over before it is tried again.
const PASSED_OVER: Duration = Duration::from_secs(60);

/// Sends until `stop`. What is left then waits for the next process of the service.
pub(crate) async fn ship(auditor: Auditor, mesh: Mesh, stop: CancellationToken) {
    let mut wait = FIRST_WAIT;
    while !stop.is_cancelled() {
        let Some(path) = auditor.oldest() else {
            stop.run_until_cancelled(auditor.something_to_send()).await;
            continue;
        };
        match stop.run_until_cancelled(send(&path, &mesh)).await {
            Some(Sent::All { unreadable_bytes }) => {
                wait = FIRST_WAIT;
                auditor.arrived(&path, unreadable_bytes);
            }
            Some(Sent::Gone) => auditor.gone(&path),
            Some(Sent::Unreadable(error)) => auditor.pass_over(&path, &error),
            Some(Sent::NotYet) => {
                stop.run_until_cancelled(sleep(wait)).await;
                wait = (wait * 2).min(LONGEST_WAIT);
            }
            None => {}
        }
    }
}

/// What became of a file.
#[derive(Debug)]
enum Sent {
    /// What could be read of it has arrived.
    All { unreadable_bytes: u64 },
    /// The monitor did not take it.
    NotYet,
    /// Somebody removed it.
    Gone,
    /// It is there and can't be read.
    Unreadable(io::Error),
}

impl Auditor {
    fn oldest(&self) -> Option<std::path::PathBuf> {
        self.state().spool.oldest(Instant::now())
    }

    /// Waits until calls were noted, or a file that could not be read is to be tried again.
    async fn something_to_send(&self) {
        let next_try = self.state().spool.next_try();
        let again = async {
            match next_try {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.0.wake.notified() => sleep(GATHER).await,
            () = again => {}
        }
    }

    fn arrived(&self, path: &Path, unreadable_bytes: u64) {
        let place = path.display();
        if unreadable_bytes > 0 {
            tracing::warn!(path = %place, unreadable_bytes, "a file of entries for the audit log can't be read to its end; one is counted");
            self.count_missing();
        }
        if let Err(error) = self.forget(path) {
            tracing::warn!(path = %place, %error, "a file of entries that have arrived can't be removed; they are sent again");
        }
    }

    /// Asking again for what somebody removed would hold up all that follows.
    fn gone(&self, path: &Path) {
        tracing::warn!(path = %path.display(), "a file of entries for the audit log is gone; one is counted");
        self.count_missing();
        // There is nothing to remove, so this can't fail.
        let _gone = self.forget(path);
    }

    /// Nothing of the file is given up: it stays where it is, and is tried again.
    fn pass_over(&self, path: &Path, error: &io::Error) {
        let mut state = self.state();
        if state.spool.pass_over(path, Instant::now() + PASSED_OVER) {
            tracing::error!(path = %path.display(), %error, "a file of entries for the audit log can't be read; it is passed over until it can");
        }
        self.tell_unreadable(state.spool.unreadable());
    }

    fn forget(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let outcome = state.spool.done(path);
        self.tell_unreadable(state.spool.unreadable());
        outcome
    }

    fn tell_unreadable(&self, count: usize) {
        self.0.unreadable.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
}

/// Sends a file. An entry that arrives twice is there once.
async fn send(path: &Path, mesh: &Mesh) -> Sent {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let contents = spool::read(&owned)?;
        // Until the monitor has them, they should outlive the machine too.
        std::fs::File::open(&owned)?.sync_data()?;
        Ok::<_, io::Error>(contents)
    });
    let Contents { entries, unreadable_bytes } = match read.await.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
        Ok(contents) => contents,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Sent::Gone,
        Err(error) => return Sent::Unreadable(error),
    };
    let mut audit = AuditServiceClient::new(mesh.internal_channel(ServiceName::Monitor));
    for batch in entries.chunks(MAX_BATCH) {
        if let Err(status) = audit.append_entries(AppendEntriesRequest { entries: batch.to_vec() }).await {
            tracing::debug!(code = ?status.code(), "entries for the audit log wait");
            return Sent::NotYet;
        }
    }
    Sent::All { unreadable_bytes }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, File},
        io::Write as _,
    };

    use async_trait::async_trait;
    use streamgate_proto::streamgate::audit::v1::{
        self as pb,
        audit_service_server::{AuditService, AuditServiceServer},
    };
    use tokio::{sync::mpsc, task::JoinHandle};
    use tonic::{Request, Response, Status};

    use super::*;
    use crate::{Metrics, Running, Service, audit::Noted, testing};

    /// How long anything here may take.
    const PATIENCE: Duration = Duration::from_secs(60);

    /// A monitor that says what has arrived.
    #[derive(Debug)]
    struct Monitor(mpsc::UnboundedSender<Vec<pb::AuditEntry>>);

    #[async_trait]
    impl AuditService for Monitor {
        async fn append_entries(
            &self,
            request: Request<AppendEntriesRequest>,
        ) -> Result<Response<pb::AppendEntriesResponse>, Status> {
            let _heard = self.0.send(request.into_inner().entries);
            Ok(Response::new(Default::default()))
        }

        async fn list_entries(&self, _: Request<pb::ListEntriesRequest>) -> Result<Response<pb::ListEntriesResponse>, Status> {
            Ok(Response::new(Default::default()))
        }

        async fn verify_chain(&self, _: Request<pb::VerifyChainRequest>) -> Result<Response<pb::VerifyChainResponse>, Status> {
            Ok(Response::new(Default::default()))
        }
    }

    fn note(auditor: &Auditor) {
        auditor.note(&Noted { method: "/a.B/C", caller: None, object: String::new(), failure: None, request_id: "r" });
    }

    /// Notes of a service on their way to a monitor.
    struct Shipping {
        auditor: Auditor,
        metrics: Metrics,
        arrived: mpsc::UnboundedReceiver<Vec<pb::AuditEntry>>,
        running: Running,
        stop: CancellationToken,
        task: Option<JoinHandle<()>>,
        _folder: tempfile::TempDir,
    }

    impl Shipping {
        async fn prepare() -> Self {
            let (sender, arrived) = mpsc::unbounded_channel();
            let service = Service::new().grpc(AuditServiceServer::new(Monitor(sender)));
            let running = testing::serve(ServiceName::Monitor, service).await.unwrap();
            let folder = tempfile::tempdir().unwrap();
            let metrics = Metrics::new(ServiceName::Cache);
            let auditor = Auditor::open(folder.path(), ServiceName::Cache, &metrics).unwrap();
            Self { auditor, metrics, arrived, running, stop: CancellationToken::new(), task: None, _folder: folder }
        }

        fn start(&mut self) {
            let mesh = self.running.mesh().clone();
            self.task = Some(tokio::spawn(ship(self.auditor.clone(), mesh, self.stop.clone())));
        }

        /// How many calls are missing before the next one that arrives.
        async fn missing_before(&mut self) -> u64 {
            tokio::time::timeout(PATIENCE, self.arrived.recv()).await.unwrap().unwrap()[0].missing_before
        }

        async fn end(self) {
            self.stop.cancel();
            self.task.unwrap().await.unwrap();
            self.running.stop().await;
        }
    }

    async fn until_it_is_gone(path: &Path) {
        let gone = async {
            while path.exists() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, gone).await.unwrap();
    }

    #[tokio::test]
    async fn what_can_be_read_of_a_file_arrives_and_what_can_not_is_counted() {
        let mut shipping = Shipping::prepare().await;
        note(&shipping.auditor);
        let path = shipping.auditor.oldest().unwrap();
        File::options().append(true).open(&path).unwrap().write_all(&[40, 1]).unwrap();
        shipping.start();
        assert_eq!(shipping.missing_before().await, 0);
        until_it_is_gone(&path).await;
        note(&shipping.auditor);
        assert_eq!(shipping.missing_before().await, 1);
        shipping.end().await;
    }

    #[tokio::test]
    async fn a_file_that_can_not_be_read_holds_up_none_that_follow_and_arrives_when_it_can() {
        let mut shipping = Shipping::prepare().await;
        note(&shipping.auditor);
        let path = shipping.auditor.oldest().unwrap();
        let elsewhere = path.with_extension("elsewhere");
        fs::rename(&path, &elsewhere).unwrap();
        fs::create_dir(&path).unwrap();
        note(&shipping.auditor);
        shipping.start();
        assert_eq!(shipping.missing_before().await, 0);
        let told = shipping.metrics.encode().unwrap();
        assert!(told.contains("streamgate_audit_unreadable_files{service=\"cache\"} 1"), "{told}");

        fs::remove_dir(&path).unwrap();
        fs::rename(&elsewhere, &path).unwrap();
        shipping.auditor.state().spool.pass_over(&path, Instant::now());
        shipping.auditor.0.wake.notify_one();
        assert_eq!(shipping.missing_before().await, 0);
        until_it_is_gone(&path).await;
        assert_eq!(shipping.auditor.state().spool.unreadable(), 0);
        shipping.end().await;
    }

    #[tokio::test]
    async fn a_file_that_is_gone_holds_up_none_that_follow_and_is_counted() {
        let mut shipping = Shipping::prepare().await;
        note(&shipping.auditor);
        fs::remove_file(shipping.auditor.oldest().unwrap()).unwrap();
        shipping.start();
        let counted = async {
            while shipping.auditor.state().missing == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, counted).await.unwrap();
        note(&shipping.auditor);
        assert_eq!(shipping.missing_before().await, 1);
        shipping.end().await;
    }
}
