//! Tells near caches which titles changed, over the cache service.

use std::time::Duration;

use streamgate_proto::streamgate::cache::v1::{InvalidateRequest, invalidate_request::Target};
use streamgate_runtime::Mesh;
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

/// Titles that wait to be told. When more do, near caches hear of the newest later than they would have.
const WAITING: usize = 1_024;
/// How long an answer waits for near caches to have been told, so that who changes a title sees the change at once.
const PATIENCE: Duration = Duration::from_millis(100);

/// A title that changed, and who waits for it to be told.
type Change = (String, oneshot::Sender<()>);

/// Where the engine says that a title changed. Cheap to clone.
///
/// It is a matter of speed and not of truth: what is not told is noticed when an answer has become old.
#[derive(Debug, Clone, Default)]
pub struct Changes(Option<mpsc::Sender<Change>>);

impl Changes {
    /// Nobody hears of changes.
    #[must_use]
    pub const fn untold() -> Self {
        Self(None)
    }

    /// Changes, and the task that tells them.
    pub fn told(mesh: Mesh) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut waiting) = mpsc::channel::<Change>(WAITING);
        let tell = async move {
            while let Some((content_id, told)) = waiting.recv().await {
                let target = Some(Target::Tag(content_id));
                if let Err(status) = mesh.cache().invalidate(InvalidateRequest { target }).await {
                    tracing::debug!(code = ?status.code(), "near caches were not told of a change");
                }
                // Nobody waiting any more is no failure.
                let _ = told.send(());
            }
        };
        (Self(Some(sender)), tell)
    }

    /// Tells of a change that nobody waits for.
    pub(super) fn tell_later(&self, content_id: &str) {
        drop(self.send(content_id));
    }

    /// Tells of a change, and waits for a short time until near caches have heard of it.
    pub(super) async fn tell(&self, content_id: &str) {
        if let Some(heard) = self.send(content_id) {
            // However it ends, the change itself is done.
            let _ = timeout(PATIENCE, heard).await;
        }
    }

    fn send(&self, content_id: &str) -> Option<oneshot::Receiver<()>> {
        let (told, heard) = oneshot::channel();
        match self.0.as_ref()?.try_send((content_id.to_owned(), told)) {
            Ok(()) => Some(heard),
            Err(_) => {
                tracing::debug!(content_id, "too many changes wait to be told");
                None
            }
        }
    }
}
