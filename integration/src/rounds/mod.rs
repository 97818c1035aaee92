//! Rounds of kills: while a title is sent, transcoded, published and played, one of the nine services dies at a moment that
//! a seed decides and is started again. Nothing that was acknowledged may be lost, nothing may come to be twice, and nobody
//! may see what is not theirs.

mod creator;
mod dice;
mod engines;
mod onlookers;
mod patient;
mod plan;

use std::{
    fs,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use serde_json::Value;
use streamgate_testkit::{Platform, Shape, eventually};
use tokio::{sync::watch, time::sleep};
use url::Url;

pub use engines::{BACK_BOUND, ENGINES, EnginePlan, Outage, Outlived};
pub use plan::{Phase, Plan, SERVICES};

use self::{
    creator::{Creator, Made},
    onlookers::{Jobs, Onlookers},
    patient::Patient,
};
use crate::{
    rest::{Rest, Session},
    stage::{Published, Stage},
    tools::ffmpeg,
    walk::whole_title,
};

/// A killed service is ready, and answers through the edge, within this.
pub const READY_BOUND: Duration = Duration::from_secs(5);
/// Seconds of the clip of a round.
const CLIP_SECONDS: f64 = 4.0;
/// How far the length of a rendition may be from the clip's.
const LENGTH_SLACK: f64 = 0.3;
/// A service that does not come back at all.
const GONE_BOUND: Duration = Duration::from_secs(60);

/// A platform on which rounds are run, one after the other.
#[derive(Debug)]
pub struct Arena {
    stage: Stage,
    operator: Rest,
    clip: Vec<u8>,
    /// A title that is there before every round.
    shown: Published,
    first_segment: Bytes,
}

/// How a round that held went.
#[derive(Debug, Clone, Copy)]
pub struct Held {
    /// From the kill until the service said that it is ready.
    pub ready: Duration,
    /// From the kill until a call through the edge was answered by it.
    pub answering: Duration,
    /// Calls of clients that had to be repeated.
    pub repeats: usize,
    /// Jobs that were handed in during the round; each was done.
    pub jobs: usize,
}

impl Arena {
    /// Starts a platform of this form, with a title that its holder can play.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn start(shape: Shape) -> Result<Self> {
        let unlimited = ["IDENTITY", "ADDRESS", "MEDIA"].iter().fold(Platform::builder().shape(shape), |builder, what| {
            builder.env(format!("STREAMGATE_API_GATEWAY__RATES__{what}_PER_SECOND"), "0")
        });
        let stage = Stage::start_with(unlimited).await?;
        let operator = stage.anonymous().with_bearer(stage.platform.api_key("operator")?);
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("clip.mp4");
        short_clip(file.to_str().context("a folder with a plain name")?)?;
        let shown = stage.publish_ready(&file).await?;
        let session = stage.viewer().await?.session(&shown.playback_id).await?;
        let (_, first_segment) = first_segment(&stage.anonymous(), &session).await?;
        Ok(Self { operator, clip: fs::read(&file)?, shown, first_segment, stage })
    }

    /// Runs one round.
    ///
    /// # Errors
    /// When something did not hold; the message says what.
    pub async fn round(&mut self, plan: Plan) -> Result<Held> {
        let patient = Patient::new(plan.service == "gateway");
        let (viewer, stranger) = (self.stage.viewer().await?, self.stage.anonymous().sign_in(&self.stage.stranger).await?);
        let session = viewer.session(&self.shown.playback_id).await?;
        let (segment, bytes) = first_segment(&viewer.anonymous(), &session).await?;
        ensure!(bytes == self.first_segment, "a segment has changed since it was made");
        let gate = self.stage.pass.gate(self.stage.anvil.chain_id());
        let Stage { platform, creator: rest, .. } = &mut self.stage;
        let name = format!("round-{}-{}", plan.service, plan.seed);

        let creator = Creator { patient: &patient, rest: &*rest, viewer: &viewer, gate: &gate };
        let onlookers = Onlookers {
            patient: &patient,
            stranger: &stranger,
            playback_id: &self.shown.playback_id,
            segment: &segment,
            bytes: &bytes,
        };
        let jobs = Jobs::new(&patient, &self.operator);
        let (begins, begun) = watch::channel(None);
        let round =
            async { tokio::try_join!(creator.live(&self.clip, &name, begins), kill(platform, &self.operator, plan, begun)) };
        let (made, (ready, answering)) = tokio::select! {
            done = round => done?,
            wrong = onlookers.look() => bail!("{:#}", wrong.err().context("onlookers look on")?),
            wrong = jobs.submit(&name) => bail!("{:#}", wrong.err().context("jobs go on")?),
        };
        let jobs = jobs.all_done().await?;
        self.check(&made, &name, &stranger).await?;
        ensure!(ready <= READY_BOUND && answering <= READY_BOUND, "ready after {ready:?}, answering after {answering:?}");
        Ok(Held { ready, answering, repeats: patient.repeats(), jobs })
    }

    /// What must be true of a title after its round.
    async fn check(&self, made: &Made, name: &str, stranger: &Rest) -> Result<()> {
        let creator = &self.stage.creator;
        let json = async |path: String| creator.get(&path).await?.expect(200)?.json();
        let upload = json(format!("/api/v1/uploads/{}", made.upload_id)).await?;
        let whole: String = digest(&SHA256, &self.clip).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        ensure!(upload["upload"]["sha256"] == whole.as_str(), "the source is not the clip: {upload}");

        let contents = json("/api/v1/contents?page_size=100".to_owned()).await?;
        ensure!(count(&contents["contents"], "title", name) == 1, "the title is not there once: {contents}");
        let jobs = json(format!("/api/v1/transcode/jobs?content_id={}", made.content_id)).await?;
        ensure!(count(&jobs["jobs"], "state", "JOB_STATE_SUCCEEDED") == 1, "the transcode was not done once: {jobs}");
        ensure!(jobs["jobs"].as_array().is_some_and(|jobs| jobs.len() == 1), "there is more than one transcode: {jobs}");

        for rendition in &made.title.renditions {
            ensure!(rendition.playlist.ended, "{} has not ended", rendition.name);
            let seconds = rendition.seconds();
            ensure!((seconds - CLIP_SECONDS).abs() < LENGTH_SLACK, "{} lasts {seconds} s", rendition.name);
        }
        stranger.try_session(&made.playback_id).await?.expect(403)?;
        Ok(())
    }

    /// What the platform has logged.
    #[must_use]
    pub fn output(&self) -> String {
        self.stage.platform.output()
    }
}

fn count(list: &Value, field: &str, value: &str) -> usize {
    list.as_array().map_or(0, |things| things.iter().filter(|thing| thing[field] == value).count())
}

/// Kills the service at its moment, starts it again, and measures until it is there again.
async fn kill(
    platform: &mut Platform,
    operator: &Rest,
    plan: Plan,
    mut begun: watch::Receiver<Option<Phase>>,
) -> Result<(Duration, Duration)> {
    begun.wait_for(|phase| *phase >= Some(plan.phase)).await.context("the title's life ended before")?;
    // The moment is what the seed chose; nothing is waited for.
    sleep(plan.delay).await;
    let killed = Instant::now();
    platform.kill_service(plan.service)?;
    platform.restart_service(plan.service).await?;
    let ready = killed.elapsed();
    eventually("the service answers through the edge", GONE_BOUND, || async {
        Ok(operator.get(path_to(plan.service)).await.ok().filter(|reply| reply.status == 200))
    })
    .await?;
    Ok((ready, killed.elapsed()))
}

/// A path that only this service can answer.
fn path_to(service: &str) -> &'static str {
    match service {
        "upload" => "/api/v1/uploads",
        "transcoder" => "/api/v1/transcode/jobs",
        "streaming" => "/api/v1/sessions",
        "metadata" => "/api/v1/contents",
        "cache" => "/api/v1/cache/stats",
        "auth" => "/api/v1/auth/accounts",
        "worker" => "/api/v1/jobs",
        "monitor" => "/api/v1/monitor/alert-rules",
        _ => "/ready",
    }
}

/// A clip whose transcode takes a second or two.
fn short_clip(file: &str) -> Result<()> {
    let video = format!("testsrc2=s=640x360:r=25:d={CLIP_SECONDS}");
    let sound = format!("sine=f=440:r=48000:d={CLIP_SECONDS}");
    let sources = ["-f", "lavfi", "-i", &video, "-f", "lavfi", "-i", &sound];
    let codecs = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-shortest", file];
    ffmpeg(&[sources.as_slice(), codecs.as_slice()].concat()).map(drop)
}

/// The first segment that a session may read.
async fn first_segment(viewer: &Rest, session: &Session) -> Result<(Url, Bytes)> {
    let title = whole_title(viewer, session).await?;
    let rendition = title.renditions.first().context("a rendition")?;
    let (url, _) = rendition.playlist.segments.first().context("a segment")?;
    Ok((url.clone(), rendition.segments.first().cloned().unwrap_or_default()))
}
