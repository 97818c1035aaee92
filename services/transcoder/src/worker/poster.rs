//! Another poster on request: one frame of one segment, decoded in a child of its own.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use streamgate_core::{Caller, ids::ContentId};
use streamgate_media::encoder_protocol::{Limits, Report};
use streamgate_store::{BlobKey, Error as StoreError};
use tokio::time::timeout;

use super::{
    Inner, Worker,
    child::{Child, Line, Task},
    files,
    verdict::Verdict,
};
use crate::{
    Error,
    engine::{Frame, Poster},
};

/// Posters made at once; each takes a core for a moment.
pub(super) const AT_ONCE: usize = 2;
/// How long a call waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long a child may take. With the wait for its turn, it is less than the edge waits for an answer.
const BOUND: Duration = Duration::from_secs(20);
/// CPU time of a child, in seconds.
const CPU_SECONDS: u64 = 60;
/// Largest picture, in bytes.
const FILE_BYTES: u64 = 16 << 20;

/// Where children for posters have their folders.
pub(super) fn scratch(inner: &Inner) -> PathBuf {
    inner.scratch.join("posters")
}

impl Worker {
    /// Makes the frame that a title of the caller shows at a time its poster. When it is that already, nothing is made.
    ///
    /// # Errors
    /// What [`Engine::frame`](crate::Engine::frame) says; `NoPoster` when the frame can't be decoded, `PostersBusy` and
    /// `NotNow` when it may go better later, and `Outdated` when the title has changed meanwhile.
    pub async fn make_poster(&self, caller: &Caller, content: &ContentId, at_ms: u64) -> Result<Poster, Error> {
        let inner = &*self.0;
        let frame = inner.engine.frame(caller, content, at_ms).await?;
        if let Some(poster) = frame.poster() {
            return Ok(poster);
        }
        let encoder = inner.readiness.lock().unwrap_or_else(PoisonError::into_inner).clone().map_err(Error::NotNow)?;
        let picture = {
            let Ok(Ok(_turn)) = timeout(TURN, inner.posters.acquire()).await else { return Err(Error::PostersBusy) };
            decode(inner, &encoder, &frame).await?
        };
        publish(inner, &frame, picture).await
    }
}

async fn decode(inner: &Inner, encoder: &Path, frame: &Frame) -> Result<Bytes, Error> {
    let folder = Folder(scratch(inner).join(uuid::Uuid::new_v4().simple().to_string()));
    let (input, output) = (folder.0.join("segment.mp4"), folder.0.join("out"));
    tokio::fs::create_dir_all(&output).await.map_err(Error::io("make a scratch folder"))?;
    let segment = read(inner, frame).await?;
    tokio::fs::write(&input, &segment).await.map_err(Error::io("copy a segment"))?;
    let limits = Limits {
        memory_bytes: inner.config.memory_mib << 20,
        cpu_seconds: CPU_SECONDS,
        file_bytes: FILE_BYTES,
        ..Limits::default()
    };
    let task = Task::Poster { at_ms: frame.offset_ms, limits: &limits };
    let mut child = Child::start(encoder, &inner.registry, &input, &output, task)?;
    let Ok(made) = timeout(BOUND, follow(inner, &mut child)).await else {
        return Err(Error::NotNow("the encoder took too long".to_owned()));
    };
    files::take(&output, &made?).await
}

/// The init segment and the segment as one: that decodes without any other.
async fn read(inner: &Inner, frame: &Frame) -> Result<Bytes, Error> {
    let media = BlobKey::new(format!("media/{}", frame.content_id))?;
    let mut both = BytesMut::new();
    for file in &frame.files {
        let body = match inner.engine.blobs.read(&media.join(&file.path)?, None).await {
            // It was purged since it was looked up.
            Err(StoreError::NotFound(_)) => return Err(Error::Outdated(frame.content_id.clone())),
            body => body?,
        };
        let size = usize::try_from(file.size_bytes).unwrap_or(usize::MAX);
        both.extend_from_slice(&streamgate_store::collect(body, size).await?);
    }
    Ok(both.freeze())
}

/// Reads the child to its end, and gives the name of the file that it made.
async fn follow(inner: &Inner, child: &mut Child) -> Result<String, Error> {
    let (mut made, mut verdict) = (None, None);
    let verdict = loop {
        match child.next().await {
            Some(Line::Report(Report::Poster { file, .. })) => made = Some(file),
            Some(Line::Report(Report::Error { reason, detail })) => verdict = Some(Verdict::of_error(&reason, &detail)),
            Some(Line::Report(Report::Done { duration_ms, partial })) => verdict = Some(Verdict::Done { duration_ms, partial }),
            Some(Line::Report(_)) => {}
            Some(Line::Nonsense(said)) => return Err(Error::Nonsense(said)),
            Some(Line::Ended(ended)) => break verdict.unwrap_or_else(|| Verdict::of_silence(&ended)),
            None => break verdict.unwrap_or_else(|| Verdict::Crashed("the encoder went away".to_owned())),
        }
    };
    match verdict {
        Verdict::Done { .. } => made.ok_or_else(|| Error::Nonsense("it made no poster".to_owned())),
        Verdict::Refused { detail, .. } => Err(Error::NoPoster(detail)),
        Verdict::Crashed(detail) => {
            inner.engine.metrics.crashes.inc();
            Err(Error::Crashed(detail))
        }
        Verdict::PutOff(detail) => Err(Error::NotNow(detail)),
        Verdict::Cancelled | Verdict::Stopped | Verdict::Lost => Err(Error::NotNow("the encoder was stopped".to_owned())),
    }
}

/// Stores the picture, shows it, and then deletes the one before, which nothing names any more.
async fn publish(inner: &Inner, frame: &Frame, picture: Bytes) -> Result<Poster, Error> {
    let media = BlobKey::new(format!("media/{}", frame.content_id))?;
    let (path, size_bytes) = (frame.new_path(), picture.len() as u64);
    let key = media.join(&path)?;
    inner.engine.blobs.put(&key, streamgate_store::bytes(picture)).await?;
    if let Err(error) = inner.engine.replace_poster(frame, &path, size_bytes).await {
        // Of other errors it is not certain that nothing was changed.
        if matches!(error, Error::Outdated(_)) {
            delete(inner, &key).await;
        }
        return Err(error);
    }
    if let Some(before) = &frame.before {
        delete(inner, &media.join(&before.path)?).await;
    }
    Ok(Poster { version: frame.version, at_ms: frame.at_ms, size_bytes })
}

/// What stays behind goes with the title's media.
async fn delete(inner: &Inner, key: &BlobKey) {
    if let Err(error) = inner.engine.blobs.delete(key).await {
        tracing::warn!(%key, %error, "a poster that nobody sees any more could not be deleted");
    }
}

/// A folder that goes with the call, also when that is broken off.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
