//! The title that an upload becomes, at the metadata service.

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::{Caller, ErrorKind, Failure, gate::Gate, ids::UploadId};
use streamgate_proto::streamgate::metadata::v1::CreateContentRequest;

/// Waits between tries to reach metadata: the call may be repeated, since it carries a request id.
const WAITS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(400)];

/// Makes titles.
#[async_trait]
pub trait Titles: Debug + Send + Sync + 'static {
    /// Makes the title of an upload, owned by the caller, and gives its id. Repeated for the same
    /// upload it gives the same title.
    async fn create(&self, caller: &Caller, upload: &UploadId, title: &str, gate: Option<&Gate>) -> Result<String, Failure>;
}

/// Makes titles at the metadata service of the mesh.
#[derive(Debug, Clone)]
pub struct MeshTitles {
    mesh: Mesh,
}

impl MeshTitles {
    /// Titles through this mesh.
    #[must_use]
    pub const fn new(mesh: Mesh) -> Self {
        Self { mesh }
    }
}

#[async_trait]
impl Titles for MeshTitles {
    async fn create(&self, caller: &Caller, upload: &UploadId, title: &str, gate: Option<&Gate>) -> Result<String, Failure> {
        let request = CreateContentRequest {
            title: title.to_owned(),
            gate: gate.cloned().map(Into::into),
            request_id: upload.to_string(),
            status: "uploading".to_owned(),
            ..CreateContentRequest::default()
        };
        let mut metadata = self.mesh.on_behalf_of(caller).metadata();
        let mut waits = WAITS.into_iter();
        loop {
            let failure = match metadata.create_content(request.clone()).await {
                Ok(response) => {
                    let content = response.into_inner().content.unwrap_or_default();
                    return Ok(content.content_id);
                }
                Err(status) => Failure::from(&status),
            };
            match waits.next() {
                Some(wait) if is_passing(failure.kind) => tokio::time::sleep(wait).await,
                _ => return Err(failure),
            }
        }
    }
}

/// Whether the same call may succeed later.
pub(super) const fn is_passing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded | ErrorKind::Aborted)
}
