//! The main job, end to end: a video is uploaded, gated by an NFT, played by its holder and by nobody else.

mod report;
mod steps;

use std::{path::PathBuf, process::ExitCode};

use streamgate_testkit::{Platform, Shape, default_clip};

use report::Report;

/// Exit code when the file can't become a ladder and the platform said why.
const REFUSED_FILE: u8 = 3;

/// How a demo that ran to its end came out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Everything held.
    Held,
    /// The file was refused, with this stable reason and sentence.
    Refused {
        /// Stable reason, such as `no_media_streams`.
        reason: String,
        /// What the creator reads.
        detail: String,
    },
}

/// Runs the demo with a video, or with the default clip, on a platform of this form.
pub async fn run(video: Option<PathBuf>, shape: Shape) -> ExitCode {
    let video = video.unwrap_or_else(default_clip);
    let mut report = Report::begin(&format!("StreamGate demo with {}", video.display()));
    match steps::main_job(&video, Platform::builder().shape(shape), &mut report).await {
        Ok(Outcome::Held) => {
            report.end("Everything held.");
            ExitCode::SUCCESS
        }
        Ok(Outcome::Refused { reason, detail }) => {
            report.end(format!("The file was refused: {detail} [{reason}]"));
            REFUSED_FILE.into()
        }
        Err(error) => {
            report.end(format!("It did not hold: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The main job without words, for tests.
///
/// # Errors
/// When something did not hold.
pub async fn check(video: &std::path::Path, shape: Shape) -> anyhow::Result<Outcome> {
    steps::main_job(video, Platform::builder().shape(shape), &mut Report::begin("main job")).await
}
