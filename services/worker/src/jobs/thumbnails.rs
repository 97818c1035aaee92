//! `thumbnails`: makes another frame of a title its poster.

use std::time::Duration;

use async_trait::async_trait;
use streamgate_client::Mesh;
use streamgate_core::{
    ErrorKind, Failure, ServiceName,
    ids::{BadId, ContentId},
};
use streamgate_proto::streamgate::{transcoder::v1::MakePosterRequest, worker::v1::job_params::Kind};
use tonic::Request;

use super::{JobError, JobType, said};
use crate::engine::Work;

/// How long the transcoder may take: it decodes before it answers, and others may have their turn first.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Makes posters.
#[async_trait]
pub trait MakePoster: Send + Sync + 'static {
    /// Makes the frame that a title shows at a time its poster, and gives the size of that in bytes.
    async fn make_poster(&self, content_id: &str, at_ms: u64) -> Result<u64, Failure>;
}

#[async_trait]
impl MakePoster for Mesh {
    async fn make_poster(&self, content_id: &str, at_ms: u64) -> Result<u64, Failure> {
        let mut request = Request::new(MakePosterRequest { content_id: content_id.to_owned(), at_ms });
        request.set_timeout(TIMEOUT);
        let answer = self.transcoder().make_poster(request).await.map_err(|status| Failure::from(&status))?;
        Ok(answer.into_inner().size_bytes)
    }
}

/// Asks the transcoder service for another poster. The same one again is no work there.
#[derive(Debug)]
pub struct Thumbnails<P> {
    posters: P,
}

impl<P: MakePoster> Thumbnails<P> {
    /// Has posters made by `posters`.
    #[must_use]
    pub const fn new(posters: P) -> Self {
        Self { posters }
    }
}

#[async_trait]
impl<P: MakePoster> JobType for Thumbnails<P> {
    fn name(&self) -> &'static str {
        "thumbnails"
    }

    fn check(&self, params: Option<&Kind>) -> Result<(), Failure> {
        let Some(Kind::Thumbnails(params)) = params else {
            return Err(Failure::invalid_field("params.thumbnails", "is required"));
        };
        let parsed: Result<ContentId, BadId> = params.content_id.parse();
        parsed.map(drop).map_err(|bad| Failure::invalid_field("params.thumbnails.content_id", bad.to_string()))
    }

    async fn run(&self, work: &Work) -> Result<String, JobError> {
        let Some(Kind::Thumbnails(params)) = &work.params else {
            return Err(JobError::Hopeless("the job names no title".to_owned()));
        };
        match self.posters.make_poster(&params.content_id, params.at_ms).await {
            Ok(size) => Ok(format!("made a poster of {size} bytes of the frame at {} ms", params.at_ms)),
            Err(failure) => {
                let words = said(ServiceName::Transcoder, &failure);
                Err(if is_refusal(failure.kind) { JobError::Hopeless(words) } else { JobError::Retry(words) })
            }
        }
    }
}

/// Whether asking again would be answered the same.
const fn is_refusal(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidArgument | ErrorKind::NotFound | ErrorKind::FailedPrecondition | ErrorKind::PermissionDenied)
}
