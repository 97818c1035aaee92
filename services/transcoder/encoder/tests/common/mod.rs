//! Runs the encoder on clips that are made on the spot, and reads what it made.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use streamgate_media::{
    encoder_protocol::Report,
    fmp4::{SegmentFacts, segment_facts},
};
use tempfile::TempDir;

/// The clip that the project ships: 5.3 s of 1280x720 at 25 frames a second, with sound.
pub fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../integration/fixtures/bbb-720p25-51.mp4")
}

/// A command of the encoder, with a registry of its own.
pub fn encoder() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_streamgate-encoder"));
    command.env("GST_REGISTRY", Path::new(env!("CARGO_TARGET_TMPDIR")).join("gst-registry.bin"));
    command
}

/// Makes a clip with ffmpeg.
pub fn ffmpeg(args: &[&str]) {
    let made = Command::new("ffmpeg").args(["-hide_banner", "-loglevel", "error", "-y"]).args(args).output();
    let made = made.expect("ffmpeg is needed to make clips for tests");
    assert!(made.status.success(), "ffmpeg {args:?}: {}", String::from_utf8_lossy(&made.stderr));
}

/// What ffmpeg writes to its standard output.
pub fn ffmpeg_bytes(args: &[&str]) -> Vec<u8> {
    let made = Command::new("ffmpeg").args(["-hide_banner", "-loglevel", "error"]).args(args).arg("-").output().unwrap();
    assert!(made.status.success(), "ffmpeg {args:?}: {}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// One field of ffprobe's answer about the first stream.
pub fn ffprobe(file: &Path, field: &str) -> String {
    let entries = format!("stream={field}");
    let args = ["-v", "error", "-show_entries", &entries, "-of", "csv=p=0"];
    let answer = Command::new("ffprobe").args(args).arg(file).output().unwrap();
    String::from_utf8_lossy(&answer.stdout).trim().trim_end_matches(',').to_owned()
}

/// What the encoder made of a file.
pub struct Made {
    pub folder: TempDir,
    pub reports: Vec<Report>,
}

/// A segment that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub rendition: String,
    pub number: u32,
    pub start: u64,
    pub duration: u64,
    pub file: String,
}

/// Encodes fast, with what `spec` adds.
pub fn encode(input: &Path, spec: &str) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let spec = format!("{{\"preset\":\"ultrafast\"{}{spec}}}", if spec.is_empty() { "" } else { "," });
    let ran =
        encoder().arg("encode").arg("--input").arg(input).arg("--output").arg(folder.path()).args(["--spec", &spec]).output();
    Made { reports: reports(&ran.unwrap()), folder }
}

pub fn reports(output: &Output) -> Vec<Report> {
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

impl Made {
    /// Names of the renditions that were announced after probing.
    pub fn tracks(&self) -> Vec<String> {
        let tracks =
            self.reports.iter().find_map(|r| if let Report::Probed { tracks, .. } = r { Some(tracks.clone()) } else { None });
        tracks.unwrap_or_default()
    }

    pub fn segments(&self, of: &str) -> Vec<Segment> {
        let segments = self.reports.iter().filter_map(|report| match report {
            Report::Segment { rendition, number, start, duration, file, .. } if rendition == of => Some(Segment {
                rendition: rendition.clone(),
                number: *number,
                start: *start,
                duration: *duration,
                file: file.clone(),
            }),
            _ => None,
        });
        segments.collect()
    }

    pub fn bytes(&self, file: &str) -> Vec<u8> {
        fs::read(self.folder.path().join(file)).unwrap()
    }

    pub fn facts(&self, segment: &Segment) -> SegmentFacts {
        segment_facts(&self.bytes(&segment.file)).unwrap()
    }

    /// The init segment and all segments of a rendition as one file.
    pub fn whole(&self, rendition: &str) -> PathBuf {
        let mut bytes = self.bytes(&format!("{rendition}/init.mp4"));
        for segment in self.segments(rendition) {
            bytes.extend(self.bytes(&segment.file));
        }
        let path = self.folder.path().join(format!("{rendition}.mp4"));
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Duration and whether it is partial; panics unless it ended well.
    pub fn done(&self) -> (u64, bool) {
        match self.reports.last() {
            Some(Report::Done { duration_ms, partial }) => (*duration_ms, *partial),
            other => panic!("not done: {other:?}"),
        }
    }

    /// The stable reason of a refusal.
    pub fn refusal(&self) -> String {
        match self.reports.last() {
            Some(Report::Error { reason, detail }) => {
                assert!(detail.len() > 20 && !detail.contains('\n'), "{detail}");
                reason.clone()
            }
            other => panic!("not refused: {other:?}"),
        }
    }
}
