//! One attempt at one job, from the source to the verdict.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use streamgate_media::encoder_protocol::{Media, Report};
use streamgate_store::{BlobKey, Error as StoreError};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use super::{
    Inner,
    child::{Child, Line, Task},
    files,
    verdict::Verdict,
};
use crate::{
    Claim, Error,
    engine::{Beat, NewRendition, NewSegment},
};

/// Most tracks that a child may announce.
const MAX_TRACKS: usize = 16;
/// Longest codec string or language.
const MAX_WORD_BYTES: usize = 100;

struct Attempt<'a> {
    inner: &'a Inner,
    claim: &'a Claim,
    folder: PathBuf,
    /// First segment that this attempt makes.
    resume_from: u32,
}

/// Runs the job until it is done, ends or is given back.
pub(super) async fn run(inner: &Inner, claim: &Claim, encoder: &Path, stop: &CancellationToken) -> Result<(), Error> {
    let job = &claim.job;
    let resume_from = resume_from(inner, claim).await?;
    // Another attempt at the same job may not have heard yet that it has lost it.
    let scratch = inner.scratch.join(format!("{}.{}", job.job_id, claim.fence()));
    let folder = scratch.join("out");
    tokio::fs::create_dir_all(&folder).await.map_err(Error::io("make a scratch folder"))?;
    let attempt = Attempt { inner, claim, folder, resume_from };
    tracing::info!(job_id = job.job_id, attempt = job.attempts, resume_from = attempt.resume_from, "job begun");
    let verdict = attempt.encode(encoder, &scratch, stop).await;
    let _ = tokio::fs::remove_dir_all(&scratch).await;
    let verdict = match verdict {
        // A child that says what can't be is broken, however it came to be so.
        Err(Error::Nonsense(said)) => Verdict::Crashed(said),
        Err(error @ Error::Store(StoreError::BadText)) => Verdict::Crashed(error.to_string()),
        verdict => verdict?,
    };
    tracing::info!(job_id = job.job_id, ?verdict, "attempt ended");
    attempt.conclude(verdict).await
}

/// The first segment that some track lacks.
async fn resume_from(inner: &Inner, claim: &Claim) -> Result<u32, Error> {
    let mut least: Option<u32> = None;
    for track in &claim.job.tracks {
        let last = inner.engine.last_segment(&claim.job.job_id, track).await?;
        least = Some(least.map_or(last, |least| least.min(last)));
    }
    Ok(least.unwrap_or(0) + 1)
}

/// Whether a text can be kept and shown everywhere.
fn is_word(text: &str) -> bool {
    text.len() <= MAX_WORD_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Attempt<'_> {
    async fn encode(&self, encoder: &Path, scratch: &Path, stop: &CancellationToken) -> Result<Verdict, Error> {
        tokio::select! {
            // The lease is kept while the source is fetched, too: that may take long.
            verdict = self.make(encoder, scratch) => verdict,
            verdict = self.keep_lease() => Ok(verdict),
            () = stop.cancelled() => Ok(Verdict::Stopped),
            () = tokio::time::sleep(Duration::from_secs(self.inner.config.wall_seconds)) => {
                Ok(Verdict::refused("timed_out", "encoding took more time than is given to one file"))
            }
        }
        // The child is dropped here, and killed if it still runs.
    }

    async fn make(&self, encoder: &Path, scratch: &Path) -> Result<Verdict, Error> {
        let job = &self.claim.job;
        let kept = self.inner.engine.profiles.kept(&job.settings).zip(BlobKey::new(job.source_key.as_str()).ok());
        let Some((settings, key)) = kept else {
            tracing::error!(job_id = job.job_id, settings = %job.settings, source_key = job.source_key, "the row of a job is damaged");
            return Ok(Verdict::refused("job_unreadable", "what is stored of the job can't be read; submit it again"));
        };
        let source = match files::materialise(self.inner.engine.blobs.as_ref(), &key, scratch).await {
            Ok(source) => source,
            Err(Error::Store(StoreError::NotFound(_))) => {
                return Ok(Verdict::refused("source_gone", "the source is not stored any more; upload it again"));
            }
            Err(Error::Store(StoreError::Corrupt(what))) => {
                tracing::error!(job_id = job.job_id, what, "a stored source is damaged");
                return Ok(Verdict::refused("source_damaged", "the stored source is damaged; upload it again"));
            }
            Err(error) => return Err(error),
        };
        let spec = self.inner.config.spec(settings, self.resume_from, job.poster_path.is_empty());
        let mut child = Child::start(encoder, &self.inner.registry, &source, &self.folder, Task::Encode(&spec))?;
        let span = tracing::info_span!("encode", job_id = job.job_id, attempt = job.attempts, resume_from = self.resume_from);
        self.follow(&mut child).instrument(span).await
    }

    /// Renews the lease until somebody wants the job to stop or has it.
    async fn keep_lease(&self) -> Verdict {
        let (engine, lease) = (&self.inner.engine, self.inner.config.lease());
        let pause = Duration::from_millis(self.inner.config.heartbeat_ms);
        let mut renewed = Instant::now();
        loop {
            // What is told while the rows are asked is not missed.
            let told = engine.work.notified();
            match engine.heartbeat(self.claim, lease).await {
                Ok(Beat::GoOn) => renewed = Instant::now(),
                Ok(Beat::Cancel) => return Verdict::Cancelled,
                Ok(Beat::Lost) => return Verdict::Lost,
                // The database is away. Once the lease has surely ended, somebody else may have the job.
                Err(error) if renewed.elapsed() > lease => {
                    tracing::warn!(job_id = self.claim.job.job_id, %error, "the lease could not be renewed");
                    return Verdict::Lost;
                }
                Err(error) => tracing::warn!(job_id = self.claim.job.job_id, %error, "a heartbeat failed"),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = told => {}
            }
        }
    }

    /// Reads the child until its end. One that shows no sign of life is given up.
    async fn follow(&self, child: &mut Child) -> Result<Verdict, Error> {
        let patience = Duration::from_secs(self.inner.config.stall_seconds);
        let mut verdict = None;
        loop {
            let Ok(line) = tokio::time::timeout(patience, child.next()).await else {
                child.kill();
                return Ok(Verdict::refused("stalled", "the file could not be read on from some point; it is damaged there"));
            };
            match line {
                Some(Line::Report(report)) => {
                    if let Some(last) = self.handle(report).await? {
                        verdict = Some(last);
                    }
                }
                Some(Line::Nonsense(said)) => return Err(Error::Nonsense(said)),
                Some(Line::Ended(ended)) => {
                    if !ended.complaint.is_empty() {
                        tracing::debug!(job_id = self.claim.job.job_id, complaint = %ended.complaint, "the encoder complained");
                    }
                    return Ok(verdict.unwrap_or_else(|| Verdict::of_silence(&ended)));
                }
                None => return Ok(verdict.unwrap_or_else(|| Verdict::Crashed("the encoder went away".to_owned()))),
            }
        }
    }

    /// Takes what a report announces; gives the verdict of a last line.
    async fn handle(&self, report: Report) -> Result<Option<Verdict>, Error> {
        let engine = &self.inner.engine;
        match report {
            Report::Probed { duration_ms, tracks, .. } => {
                if tracks.len() > MAX_TRACKS || !tracks.iter().all(|track| files::is_rendition(track)) {
                    return Err(Error::Nonsense(format!("{} tracks", tracks.len())));
                }
                engine.probed(self.claim, duration_ms, &tracks).await?;
            }
            Report::Rendition { name, mut media, codecs, timescale, init_file, .. } => {
                if !is_word(&codecs) {
                    return Err(Error::Nonsense("a rendition with odd codecs".to_owned()));
                }
                // It is what the file says of itself.
                if let Media::Audio { language, .. } = &mut media
                    && !is_word(language)
                {
                    language.clear();
                }
                let is_new = files::is_rendition(&name) && !engine.has_rendition(&self.claim.job.job_id, &name).await?;
                if is_new && timescale > 0 {
                    let (init_path, init_bytes) = self.publish(&init_file).await?;
                    engine
                        .add_rendition(self.claim, &NewRendition { name, media, codecs, timescale, init_path, init_bytes })
                        .await?;
                }
            }
            Report::Segment { rendition, number, start, duration, file, .. } => {
                self.add_segment(rendition, number, start, duration, &file).await?;
            }
            Report::Poster { file, .. } => {
                let (path, size) = self.publish(&file).await?;
                engine.add_poster(self.claim, &path, size).await?;
            }
            Report::Progress { .. } => {}
            Report::Error { reason, detail } => return Ok(Some(Verdict::of_error(&reason, &detail))),
            Report::Done { duration_ms, partial } => return Ok(Some(Verdict::Done { duration_ms, partial })),
        }
        Ok(None)
    }

    async fn add_segment(&self, rendition: String, number: u32, start: u64, duration: u64, file: &str) -> Result<(), Error> {
        let engine = &self.inner.engine;
        if !files::is_rendition(&rendition) || number == 0 {
            return Err(Error::Nonsense("a segment without a rendition or a number".to_owned()));
        }
        // A track that was ahead when the attempt before ended: its segment is published, and stays.
        if number <= engine.last_segment(&self.claim.job.job_id, &rendition).await? {
            return files::remove(&self.folder, file).await;
        }
        let (path, size_bytes) = self.publish(file).await?;
        engine.add_segment(self.claim, &NewSegment { rendition, number, start, duration, size_bytes, path }).await?;
        files::remove(&self.folder, file).await
    }

    /// Stores one file and gives its path and size.
    async fn publish(&self, file: &str) -> Result<(String, u64), Error> {
        let body = files::take(&self.folder, file).await?;
        let size = body.len() as u64;
        let (job, blobs) = (&self.claim.job, self.inner.engine.blobs.as_ref());
        let path = files::store(blobs, &job.content_id, &format!("{}/{file}", job.job_id), self.claim.fence(), body).await?;
        Ok((path, size))
    }

    /// Writes down what the verdict means.
    async fn conclude(&self, verdict: Verdict) -> Result<(), Error> {
        let (engine, claim) = (&self.inner.engine, self.claim);
        match verdict {
            Verdict::Done { duration_ms, partial } => engine.succeed(claim, duration_ms, partial).await,
            Verdict::Refused { reason, detail } => engine.fail(claim, reason, &detail).await,
            Verdict::Cancelled => engine.cancelled(claim).await,
            Verdict::Stopped => engine.give_back(claim, Duration::ZERO, false).await,
            Verdict::Lost => Ok(()),
            Verdict::PutOff(detail) => {
                tracing::error!(job_id = claim.job.job_id, detail, "the encoder can't work here now");
                let wait = Duration::from_secs(u64::from(claim.job.attempts.clamp(1, 12)) * 5);
                engine.give_back(claim, wait, false).await
            }
            Verdict::Crashed(detail) => {
                engine.metrics.crashes.inc();
                tracing::warn!(job_id = claim.job.job_id, detail, "the encoder crashed");
                if claim.job.crashes + 1 < self.inner.config.max_crashes {
                    return engine.give_back(claim, Duration::from_secs(1 << claim.job.crashes.min(5)), true).await;
                }
                engine
                    .fail(claim, "crashed", "the file makes the encoder fail again and again; export it in another format")
                    .await
            }
        }
    }
}
