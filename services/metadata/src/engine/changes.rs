//! Tells near caches which titles changed, over the cache service.

use streamgate_proto::streamgate::cache::v1::{InvalidateRequest, invalidate_request::Target};
use streamgate_runtime::Mesh;
use tokio::sync::mpsc;

/// Titles that wait to be told. When more do, near caches hear of the newest later than they would have.
const WAITING: usize = 1_024;

/// Where the engine says that a title changed. Cheap to clone.
///
/// It is a matter of speed and not of truth: what is not told is noticed when an answer has become old.
#[derive(Debug, Clone, Default)]
pub struct Changes(Option<mpsc::Sender<String>>);

impl Changes {
    /// Nobody hears of changes.
    #[must_use]
    pub const fn untold() -> Self {
        Self(None)
    }

    /// Changes, and the task that tells them.
    pub fn told(mesh: Mesh) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (sender, mut waiting) = mpsc::channel::<String>(WAITING);
        let tell = async move {
            while let Some(content_id) = waiting.recv().await {
                let target = Some(Target::Tag(content_id));
                if let Err(status) = mesh.cache().invalidate(InvalidateRequest { target }).await {
                    tracing::debug!(code = ?status.code(), "near caches were not told of a change");
                }
            }
        };
        (Self(Some(sender)), tell)
    }

    pub(super) fn tell(&self, content_id: &str) {
        if let Some(sender) = &self.0
            && sender.try_send(content_id.to_owned()).is_err()
        {
            tracing::debug!(content_id, "too many changes wait to be told");
        }
    }
}
