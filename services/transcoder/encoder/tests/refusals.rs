//! What comes out of bad sources, and what a child may reach.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use common::{encode, encoder, ffmpeg, fixture};
use streamgate_media::encoder_protocol::Report;

/// Far more than the patience of two probes, on a machine that is busy with other things.
const BOUND: Duration = Duration::from_secs(300);

fn file(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// Noise that is the same every time.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56).to_le_bytes()[0]
    };
    (0..count).map(|_| next()).collect()
}

#[test]
fn a_file_that_holds_no_media_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(encode(&file(&folder, "empty.mp4", b""), "").refusal(), "empty_file");
    assert_eq!(
        encode(&file(&folder, "text.mp4", b"this is a line of text, and nothing more than that\n"), "").refusal(),
        "not_media"
    );
    assert_eq!(encode(&file(&folder, "noise.mp4", &noise(100_000)), "").refusal(), "not_media");
}

#[test]
fn a_broken_file_is_refused_and_hangs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(fixture()).unwrap();
    let begun = Instant::now();
    let headless = [&whole[..32], &noise(200_000)].concat();
    let patience = r#""limits":{"probe_timeout_ms":6000}"#;
    let refusal = encode(&file(&folder, "headless.mp4", &headless), patience).refusal();
    assert!(["damaged", "truncated"].contains(&refusal.as_str()), "{refusal}");
    let matroska = folder.path().join("whole.mkv");
    ffmpeg(&["-i", fixture().to_str().unwrap(), "-c", "copy", matroska.to_str().unwrap()]);
    let short = &fs::read(matroska).unwrap()[..3_000];
    let refusal = encode(&file(&folder, "short.mkv", short), patience).refusal();
    assert!(["damaged", "no_media_streams"].contains(&refusal.as_str()), "{refusal}");
    assert!(begun.elapsed() < BOUND);
}

#[test]
fn a_file_whose_index_was_cut_off_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let late = folder.path().join("late-index.mp4");
    ffmpeg(&["-i", fixture().to_str().unwrap(), "-c", "copy", "-movflags", "0", late.to_str().unwrap()]);
    let bytes = fs::read(late).unwrap();
    assert_eq!(encode(&file(&folder, "cut.mp4", &bytes[..bytes.len() / 2]), "").refusal(), "truncated");
}

#[test]
fn what_is_there_of_a_cut_file_is_made_and_marked_partial() {
    let folder = tempfile::tempdir().unwrap();
    let early = folder.path().join("early-index.mp4");
    ffmpeg(&["-i", fixture().to_str().unwrap(), "-c", "copy", "-movflags", "+faststart", early.to_str().unwrap()]);
    let bytes = fs::read(early).unwrap();
    let made = encode(&file(&folder, "cut.mp4", &bytes[..bytes.len() / 3]), "");
    let (duration_ms, partial) = made.done();
    assert!(partial && duration_ms > 300 && duration_ms < 3_000, "{duration_ms}");
}

#[test]
fn flipped_bytes_end_in_a_ladder() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(fixture()).unwrap();
    let mut at = bytes.len() / 4;
    for (step, value) in (1_usize..).zip(noise(300)) {
        bytes[at] ^= value;
        at += 997 + step;
    }
    let made = encode(&file(&folder, "flipped.mp4", &bytes), "");
    assert!(made.done().0 > 3_000);
}

#[test]
fn hdr_is_refused_before_colours_go_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("hdr.mp4");
    let tags = "colorprim=bt2020:transfer=smpte2084:colormatrix=bt2020nc:log-level=none";
    let pictures = ["-f", "lavfi", "-t", "0.5", "-i", "testsrc=s=640x360:r=25", "-pix_fmt", "yuv420p10le", "-c:v", "libx265"];
    ffmpeg(&[&pictures[..], &["-preset", "ultrafast", "-x265-params", tags, clip.to_str().unwrap()]].concat());
    assert_eq!(encode(&clip, "").refusal(), "hdr_not_supported");
}

#[test]
fn limits_of_size_and_length_are_named() {
    assert_eq!(encode(&fixture(), r#""limits":{"max_side":640}"#).refusal(), "too_large_dimensions");
    assert_eq!(encode(&fixture(), r#""limits":{"max_duration_ms":1000}"#).refusal(), "too_long");
}

#[test]
fn a_child_reaches_its_source_and_its_folder_and_nothing_else() {
    let (source, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let clip = file(&source, "clip.mp4", b"x");
    file(&source, "beside.tmp", b"x");
    let ran = encoder().arg("confine").arg("--input").arg(&clip).arg("--output").arg(output.path()).output().unwrap();
    let reached: BTreeMap<String, bool> = serde_json::from_slice(&ran.stdout).unwrap();
    let allowed: Vec<&str> = reached.iter().filter(|(_, reached)| **reached).map(|(name, _)| name.as_str()).collect();
    assert_eq!(allowed, ["read_source", "start_thread", "write_output"]);
    assert_eq!(reached.len(), 15);
}

#[test]
fn the_check_finds_every_element() {
    let ran = encoder().arg("check").output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn the_check_names_the_package_of_what_is_missing() {
    let nowhere = tempfile::tempdir().unwrap();
    let mut command = encoder();
    command.arg("check").env("GST_REGISTRY", nowhere.path().join("registry.bin"));
    let ran = command.env("GST_PLUGIN_SYSTEM_PATH", nowhere.path()).output().unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success());
    assert!(said.lines().any(|line| line.contains("is missing: install") && line.contains("gstreamer1.0-")), "{said}");
}

/// Clips beyond those that the project ships, where they are at hand.
#[test]
fn every_clip_at_hand_ends_in_a_ladder_or_a_named_refusal() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../../shared/media");
    let clips = ["real", "made"].iter().filter_map(|part| fs::read_dir(folder.join(part)).ok()).flatten();
    let mut seen = 0;
    for clip in clips.map(|entry| entry.unwrap().path()) {
        let made = encode(&clip, "");
        let last = made.reports.last();
        let ended = match last {
            Some(Report::Done { .. }) => made.tracks().iter().all(|track| !made.segments(track).is_empty()),
            Some(Report::Error { reason, .. }) => !reason.starts_with("encoder"),
            _ => false,
        };
        assert!(ended, "{}: {last:?}", clip.display());
        seen += 1;
    }
    if seen == 0 {
        println!("skipped: no clips in {}", folder.display());
    }
}
