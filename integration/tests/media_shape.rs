//! The shape of what was made, judged by ffprobe and ffmpeg.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::Value;
use streamgate_integration::{
    stage::Stage,
    tools::{ffmpeg, ffprobe},
    walk::{Rendition, Title, whole_title},
};
use streamgate_testkit::{default_clip, shared_media};
use tempfile::TempDir;

/// How far sound may be from the picture.
const SYNC_SECONDS: f64 = 0.005;

async fn title_of(stage: &Stage, clip: &Path) -> Title {
    let published = stage.publish_ready(clip).await.unwrap();
    let session = stage.viewer().await.unwrap().session(&published.playback_id).await.unwrap();
    whole_title(&stage.anonymous(), &session).await.unwrap()
}

fn video(title: &Title) -> impl Iterator<Item = &Rendition> {
    title.renditions.iter().filter(|rendition| rendition.is_video())
}

fn kept(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let file = folder.path().join(name);
    fs::write(&file, bytes).unwrap();
    file
}

fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap()
}

/// Video frames of a file: `(seconds, key frame, picture type)`.
fn frames(file: &Path) -> Vec<(f64, bool, String)> {
    let entries = ["-select_streams", "v:0", "-show_frames", "-show_entries", "frame=pts_time,key_frame,pict_type"];
    let shown = ffprobe(file, &entries).unwrap();
    let frames = shown["frames"].as_array().unwrap().iter();
    frames
        .map(|frame| (number(&frame["pts_time"]), frame["key_frame"] == 1, frame["pict_type"].as_str().unwrap().to_owned()))
        .collect()
}

/// Start times of the segments of a rendition, each decoded with its init segment alone.
fn segment_starts(folder: &TempDir, rendition: &Rendition) -> Vec<f64> {
    let segments = rendition.segments.iter().enumerate();
    segments
        .map(|(index, segment)| {
            let alone = kept(folder, &format!("{}-{index}.mp4", rendition.name), &[&rendition.init[..], &segment[..]].concat());
            ffmpeg(&["-i", alone.to_str().unwrap(), "-f", "null", "-"]).unwrap();
            let frames = frames(&alone);
            let (start, key, kind) = frames.first().unwrap();
            assert!(*key && kind == "I", "{} segment {} starts with {kind}, key {key}", rendition.name, index + 1);
            *start
        })
        .collect()
}

#[tokio::test]
async fn every_segment_starts_with_a_key_frame_decodes_alone_and_starts_when_its_siblings_do() {
    let stage = Stage::start().await.unwrap();
    let title = title_of(&stage, &default_clip()).await;
    let folder = tempfile::tempdir().unwrap();
    let starts: Vec<Vec<f64>> = video(&title).map(|rendition| segment_starts(&folder, rendition)).collect();
    assert!(starts.len() >= 3, "a 720p source makes at least three rungs");
    for rung in &starts {
        assert_eq!(rung.len(), starts[0].len());
        for (here, there) in rung.iter().zip(&starts[0]) {
            assert!((here - there).abs() < 0.001, "{starts:?}");
        }
    }
    for rendition in &title.renditions {
        let whole = kept(&folder, &format!("{}.mp4", rendition.name), &rendition.whole());
        ffmpeg(&["-i", whole.to_str().unwrap(), "-f", "null", "-"]).unwrap();
    }
}

/// A white picture with a click in the first half of every second from the first on, black and silent otherwise.
fn click_clip(file: &Path) {
    let flash = "color=black:s=640x360:r=50:d=6,drawbox=c=white:t=fill:enable='gte(t\\,1)*lt(mod(t\\,1)\\,0.1)'";
    let click = "aevalsrc='if(gte(t\\,1)*lt(mod(t\\,1)\\,0.1)\\,0.8*sin(2*PI*1000*t)\\,0)':s=48000:d=6";
    let file = file.to_str().unwrap();
    let inputs = ["-f", "lavfi", "-i", flash, "-f", "lavfi", "-i", click];
    let codecs = ["-c:v", "libx264", "-qp", "10", "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "192k", file];
    ffmpeg(&[inputs.as_slice(), codecs.as_slice()].concat()).unwrap();
}

/// Times at which the picture turns white.
fn flashes(file: &Path) -> Vec<f64> {
    let graph = format!("movie={},signalstats", file.display());
    let shown = ffprobe(Path::new(&graph), &["-f", "lavfi", "-show_entries", "frame=pts_time:frame_tags=lavfi.signalstats.YAVG"])
        .unwrap();
    let frames: Vec<(f64, bool)> = shown["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|frame| (number(&frame["pts_time"]), number(&frame["tags"]["lavfi.signalstats.YAVG"]) > 120.0))
        .collect();
    frames.windows(2).filter(|pair| !pair[0].1 && pair[1].1).map(|pair| pair[1].0).collect()
}

/// Times at which the sound begins, to the sample.
fn clicks(file: &Path) -> Vec<f64> {
    let raw = file.with_extension("f32");
    let start = ffprobe(file, &["-show_entries", "stream=start_time"]).unwrap();
    let start = number(&start["streams"][0]["start_time"]);
    ffmpeg(&["-i", file.to_str().unwrap(), "-ac", "1", "-ar", "48000", "-f", "f32le", raw.to_str().unwrap()]).unwrap();
    let bytes = fs::read(raw).unwrap();
    let samples: Vec<f32> = bytes.chunks_exact(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
    let mut found = Vec::new();
    let mut quiet = 4_800;
    for (index, sample) in samples.iter().enumerate() {
        if sample.abs() < 0.1 {
            quiet += 1;
        } else {
            if quiet >= 4_800 {
                found.push(start + f64::from(u32::try_from(index).unwrap()) / 48_000.0);
            }
            quiet = 0;
        }
    }
    found
}

#[tokio::test]
async fn sound_stays_within_five_milliseconds_of_the_picture() {
    let stage = Stage::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("click.mp4");
    click_clip(&clip);
    let title = title_of(&stage, &clip).await;
    let audio = title.renditions.iter().find(|rendition| !rendition.is_video()).unwrap();
    let picture = flashes(&kept(&folder, "picture.mp4", &video(&title).next().unwrap().whole()));
    let sound = clicks(&kept(&folder, "sound.mp4", &audio.whole()));
    let source_gap: Vec<f64> = gaps(&flashes(&clip), &clicks(&clip));
    let made_gap: Vec<f64> = gaps(&picture, &sound);
    assert!(made_gap.len() >= 4, "{picture:?} {sound:?}");
    for (made, source) in made_gap.iter().zip(&source_gap) {
        assert!((made - source).abs() <= SYNC_SECONDS, "made {made_gap:?}, source {source_gap:?}");
    }
}

fn gaps(picture: &[f64], sound: &[f64]) -> Vec<f64> {
    picture.iter().zip(sound).map(|(seen, heard)| heard - seen).collect()
}

#[tokio::test]
async fn a_turned_clip_is_upright_once_and_says_nothing_of_where_it_was_made() {
    let stage = Stage::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("turned.mp4");
    let upright = folder.path().join("upright.mp4");
    let (clip_name, upright_name) = (clip.to_str().unwrap(), upright.to_str().unwrap());
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=3", "-c:v", "libx264", "-pix_fmt", "yuv420p", upright_name])
        .unwrap();
    let place = ["-metadata", "location=+48.8584+002.2945/", "-metadata:s:v", "rotate=90"];
    let copy = ["-i", upright_name, "-c", "copy", "-movflags", "use_metadata_tags", clip_name];
    ffmpeg(&[&copy[..4], &place, &copy[4..]].concat()).unwrap();

    let title = title_of(&stage, &clip).await;
    for rendition in video(&title) {
        let whole = kept(&folder, &format!("{}.mp4", rendition.name), &rendition.whole());
        assert_upright(&whole);
        assert_nowhere(&rendition.whole());
    }
}

#[tokio::test]
async fn a_phone_clip_loses_its_position_in_every_file() {
    let Some(clip) = shared_media().map(|folder| folder.join("real/android-1080p-vfr-gps.mp4")) else { return };
    let stage = Stage::start().await.unwrap();
    let title = title_of(&stage, &clip).await;
    title.renditions.iter().for_each(|rendition| assert_nowhere(&rendition.whole()));
}

fn assert_upright(file: &Path) {
    let shown = ffprobe(file, &["-show_streams"]).unwrap();
    let stream = &shown["streams"][0];
    let (width, height) = (number(&stream["width"]), number(&stream["height"]));
    assert!(height > width, "{width}x{height}: not turned");
    assert!(stream["side_data_list"].is_null(), "turned twice: {}", stream["side_data_list"]);
}

fn assert_nowhere(file: &[u8]) {
    for mark in [&b"\xa9xyz"[..], b"loci", b"com.apple.quicktime.location", b"+48.8584", b"ISO6709"] {
        assert!(!file.windows(mark.len()).any(|window| window == mark), "{:?} is in the file", String::from_utf8_lossy(mark));
    }
}
