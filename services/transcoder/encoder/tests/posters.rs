//! Posters of single frames.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Made, encode, encoder, ffmpeg, ffmpeg_bytes, fixture, reports};
use streamgate_media::encoder_protocol::Report;

/// What the encoder makes of one frame of `input`.
fn poster(input: &Path, at_ms: u64) -> Made {
    let folder = tempfile::tempdir().unwrap();
    let mut command = encoder();
    command.arg("poster").arg("--input").arg(input).arg("--output").arg(folder.path()).args(["--at-ms", &at_ms.to_string()]);
    let ran = command.output().unwrap();
    Made { reports: reports(&ran), folder }
}

/// The JPEG that it makes.
fn jpeg(input: &Path, at_ms: u64) -> Vec<u8> {
    let made = poster(input, at_ms);
    let [Report::Poster { file, size_bytes }, Report::Done { .. }] = made.reports.as_slice() else {
        panic!("{:?}", made.reports);
    };
    let bytes = made.bytes(file);
    assert_eq!((file.as_str(), *size_bytes, &bytes[..3]), ("poster.jpg", bytes.len() as u64, &[0xff, 0xd8, 0xff][..]));
    bytes
}

/// A segment of `v360` behind its init segment, as the transcoder hands it in.
fn segment(of: &Made, number: usize) -> PathBuf {
    let path = of.folder.path().join(format!("alone-{number}.mp4"));
    let segment = &of.segments("v360")[number - 1];
    fs::write(&path, [of.bytes("v360/init.mp4"), of.bytes(&segment.file)].concat()).unwrap();
    path
}

#[test]
fn another_time_is_another_frame_and_the_last_one_stays() {
    let made = encode(&fixture(), "");
    let second = segment(&made, 2);
    let first = jpeg(&second, 0);
    assert_eq!(first, jpeg(&second, 39), "it is shown for 40 ms");
    assert_ne!(first, jpeg(&second, 1_000));
    assert_ne!(first, made.bytes("poster.jpg"));
    assert_eq!(jpeg(&second, 1_960), jpeg(&second, 60_000));
}

#[test]
fn the_frame_that_is_shown_at_a_time_is_taken_to_the_frame() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("flash.mkv");
    // White from the middle of the second segment on.
    let pictures = "color=black:s=640x360:r=25,drawbox=c=white:t=fill:enable='gte(t,2.999)'";
    ffmpeg(&["-f", "lavfi", "-t", "4", "-i", pictures, "-c:v", "libx264", clip.to_str().unwrap()]);
    let made = encode(&clip, "");
    let second = segment(&made, 2);
    for (at_ms, is_white) in [(0, false), (960, false), (999, false), (1_000, true), (1_960, true)] {
        let picture = folder.path().join("poster.jpg");
        fs::write(&picture, jpeg(&second, at_ms)).unwrap();
        let grey = ffmpeg_bytes(&["-i", picture.to_str().unwrap(), "-vf", "scale=2:2,format=gray", "-f", "rawvideo"]);
        assert_eq!(grey[0] > 128, is_white, "at {at_ms} ms: {grey:?}");
    }
}

#[test]
fn a_file_without_a_picture_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (text, sound) = (folder.path().join("text.mp4"), folder.path().join("sound.mp4"));
    fs::write(&text, "this is a line of text, and nothing more than that\n").unwrap();
    ffmpeg(&["-f", "lavfi", "-t", "1", "-i", "sine", "-c:a", "aac", sound.to_str().unwrap()]);
    for input in [text, sound] {
        let refusal = poster(&input, 0).refusal();
        assert!(["damaged", "not_media"].contains(&refusal.as_str()), "{}: {refusal}", input.display());
    }
}
