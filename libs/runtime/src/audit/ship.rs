//! Brings entries to the monitor, file by file.

use std::{path::Path, time::Duration};

use streamgate_client::Mesh;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::audit::v1::{AppendEntriesRequest, audit_service_client::AuditServiceClient};
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

/// Sends until `stop`. What is left then waits for the next process of the service.
pub(crate) async fn ship(auditor: Auditor, mesh: Mesh, stop: CancellationToken) {
    let mut wait = FIRST_WAIT;
    while !stop.is_cancelled() {
        let Some(path) = auditor.state().spool.oldest() else {
            stop.run_until_cancelled(auditor.0.wake.notified()).await;
            stop.run_until_cancelled(tokio::time::sleep(GATHER)).await;
            continue;
        };
        if let Some(Some(Arrived { unreadable_bytes })) = stop.run_until_cancelled(send(&path, &mesh)).await {
            wait = FIRST_WAIT;
            if unreadable_bytes > 0 {
                tracing::warn!(unreadable_bytes, "a file of entries for the audit log can't be read to its end; one is counted");
                auditor.count_missing();
            }
            if let Err(error) = auditor.state().spool.done(&path) {
                tracing::warn!(%error, "a file of entries that have arrived can't be removed; they are sent again");
            }
        } else {
            stop.run_until_cancelled(tokio::time::sleep(wait)).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
}

/// A file of which nothing more can be sent.
struct Arrived {
    /// What was in it and could not be sent.
    unreadable_bytes: u64,
}

/// Sends a file, if all of it arrives. An entry that arrives twice is there once.
async fn send(path: &Path, mesh: &Mesh) -> Option<Arrived> {
    let owned = path.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let contents = spool::read(&owned)?;
        // Until the monitor has them, they should outlive the machine too.
        std::fs::File::open(&owned)?.sync_data()?;
        Ok::<_, std::io::Error>(contents)
    });
    let Contents { entries, unreadable_bytes } = match read.await {
        Ok(Ok(contents)) => contents,
        // Asking again for what somebody removed would hold up all that follows.
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), "a file of entries for the audit log is gone");
            return Some(Arrived { unreadable_bytes: 0 });
        }
        Ok(Err(error)) => {
            tracing::warn!(%error, "a file of entries for the audit log can't be read");
            return None;
        }
        Err(_) => return None,
    };
    let mut audit = AuditServiceClient::new(mesh.internal_channel(ServiceName::Monitor));
    for batch in entries.chunks(MAX_BATCH) {
        if let Err(status) = audit.append_entries(AppendEntriesRequest { entries: batch.to_vec() }).await {
            tracing::debug!(code = ?status.code(), "entries for the audit log wait");
            return None;
        }
    }
    Some(Arrived { unreadable_bytes })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write as _};

    use async_trait::async_trait;
    use streamgate_proto::streamgate::audit::v1::{
        self as pb,
        audit_service_server::{AuditService, AuditServiceServer},
    };
    use tokio::sync::mpsc;
    use tonic::{Request, Response, Status};

    use super::*;
    use crate::{Metrics, Service, audit::Noted, testing};

    /// How long anything here may take.
    const PATIENCE: Duration = Duration::from_secs(10);

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

    #[tokio::test]
    async fn what_can_be_read_of_a_file_arrives_and_what_can_not_is_counted() {
        let (sender, mut arrived) = mpsc::unbounded_channel();
        let service = Service::new().grpc(AuditServiceServer::new(Monitor(sender)));
        let running = testing::serve(ServiceName::Monitor, service).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let auditor = Auditor::open(folder.path(), ServiceName::Cache, &Metrics::new(ServiceName::Cache)).unwrap();
        note(&auditor);
        let path = auditor.state().spool.oldest().unwrap();
        File::options().append(true).open(&path).unwrap().write_all(&[40, 1]).unwrap();

        let stop = CancellationToken::new();
        let shipping = tokio::spawn(ship(auditor.clone(), running.mesh().clone(), stop.clone()));
        let told = async {
            assert_eq!(arrived.recv().await.unwrap()[0].missing_before, 0);
            while path.exists() {
                tokio::task::yield_now().await;
            }
            note(&auditor);
            assert_eq!(arrived.recv().await.unwrap()[0].missing_before, 1);
        };
        tokio::time::timeout(PATIENCE, told).await.unwrap();
        stop.cancel();
        shipping.await.unwrap();
        running.stop().await;
    }

    #[tokio::test]
    async fn a_file_that_is_gone_holds_up_none_that_follow() {
        let folder = tempfile::tempdir().unwrap();
        let mesh = testing::mesh(ServiceName::Upload, &[]).unwrap();
        assert!(send(&folder.path().join("gone.entries"), &mesh).await.is_some());
    }
}
