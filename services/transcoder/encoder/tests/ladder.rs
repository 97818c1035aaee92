//! What comes out of good sources.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod common;

use std::{fs, path::Path};

use common::{Made, encode, encoder, ffmpeg, ffmpeg_bytes, ffprobe, fixture};
use streamgate_media::{
    encoder_protocol::{Media, Report},
    fmp4::init_facts,
};

/// A path of a temporary folder as text.
fn text(folder: &tempfile::TempDir, name: &str) -> String {
    folder.path().join(name).to_str().unwrap().to_owned()
}

fn sizes(made: &Made) -> Vec<(String, u32, u32)> {
    let mut sizes: Vec<_> = made
        .reports
        .iter()
        .filter_map(|report| match report {
            Report::Rendition { name, media: Media::Video { width, height, .. }, .. } => Some((name.clone(), *width, *height)),
            _ => None,
        })
        .collect();
    sizes.sort_by_key(|(_, width, _)| std::cmp::Reverse(*width));
    sizes
}

#[test]
fn each_segment_begins_at_the_same_time_in_all_rungs_with_a_frame_that_needs_no_other() {
    let made = encode(&fixture(), "");
    assert_eq!(made.tracks(), ["v720", "v480", "v360", "a128"]);
    let shape = |name: &str| made.segments(name).iter().map(|s| (s.number, s.start, s.duration)).collect::<Vec<_>>();
    assert_eq!(shape("v720"), [(1, 0, 50_000), (2, 50_000, 50_000), (3, 100_000, shape("v720")[2].2)]);
    for name in ["v720", "v480", "v360"] {
        assert_eq!(shape(name), shape("v720"), "{name}");
        for segment in made.segments(name) {
            let facts = made.facts(&segment);
            assert!(facts.starts_with_sync);
            assert_eq!((facts.sequence, facts.start, facts.duration), (segment.number, segment.start, segment.duration));
            let alone = made.folder.path().join("alone.mp4");
            fs::write(&alone, [made.bytes(&format!("{name}/init.mp4")), made.bytes(&segment.file)].concat()).unwrap();
            let frames =
                ffmpeg_bytes(&["-i", alone.to_str().unwrap(), "-vf", "scale=2:2,format=gray", "-f", "rawvideo"]).len() / 4;
            assert_eq!(frames, facts.samples, "{name} {}", segment.number);
        }
    }
    assert_eq!(made.done(), (5312, false));
    assert_eq!(&made.bytes("poster.jpg")[..3], [0xff, 0xd8, 0xff]);
}

#[test]
fn sound_drifts_never_from_the_pictures_and_is_whole_frames() {
    let made = encode(&fixture(), "");
    let mut end = 0;
    for segment in made.segments("a128") {
        assert_eq!(segment.start, end);
        assert_eq!(segment.duration % 1024, 0);
        let ideal = u64::from(segment.number - 1) * 96_000;
        assert!(segment.start.abs_diff(ideal) <= 512, "{segment:?}");
        end = segment.start + segment.duration;
    }
}

/// Seconds from the beginning to the first flash and to the first click.
fn flash_and_click(made: &Made, video: &str, fps: f64) -> (f64, f64) {
    let (pictures, sound) = (made.whole(video), made.whole("a128"));
    let begin = |file: &Path| ffprobe(file, "start_time").parse::<f64>().unwrap();
    let frames = ffmpeg_bytes(&["-i", pictures.to_str().unwrap(), "-vf", "scale=2:2,format=gray", "-f", "rawvideo"]);
    let flash = frames.chunks_exact(4).position(|frame| frame[0] > 128).unwrap();
    let samples = ffmpeg_bytes(&["-i", sound.to_str().unwrap(), "-ac", "1", "-f", "s16le"]);
    let click = samples.chunks_exact(2).position(|s| i16::from_le_bytes([s[0], s[1]]).unsigned_abs() > 6000).unwrap();
    #[allow(clippy::cast_precision_loss, reason = "small numbers")]
    (begin(&pictures) + flash as f64 / fps, begin(&sound) + click as f64 / 48_000.0)
}

#[test]
fn a_flash_and_a_click_stay_together() {
    let folder = tempfile::tempdir().unwrap();
    let clip = text(&folder, "click.mkv");
    let pictures = "color=black:s=640x360:r=25,drawbox=c=white:t=fill:enable='between(t,1,1.19)'";
    let sound = "aevalsrc=exprs='if(between(t,1,1.05),0.9*sin(2*PI*1000*t+1.57),0)':s=48000";
    ffmpeg(&[
        "-f",
        "lavfi",
        "-t",
        "3",
        "-i",
        pictures,
        "-f",
        "lavfi",
        "-t",
        "3",
        "-i",
        sound,
        "-c:v",
        "libx264",
        "-c:a",
        "pcm_s16le",
        &clip,
    ]);
    let made = encode(Path::new(&clip), "");
    let (flash, click) = flash_and_click(&made, "v360", 25.0);
    assert!((flash - 1.0).abs() < 0.001, "flash at {flash}");
    assert!((flash - click).abs() < 0.005, "flash at {flash}, click at {click}");
}

#[test]
fn tracks_that_begin_late_keep_their_distance() {
    let folder = tempfile::tempdir().unwrap();
    let clip = text(&folder, "late.mkv");
    let pictures = "color=black:s=640x360:r=25,drawbox=c=white:t=fill:enable='between(t,1,1.19)'";
    let sound = "aevalsrc=exprs='if(between(t,1,1.05),0.9*sin(2*PI*1000*t+1.57),0)':s=48000";
    let late = ["-f", "lavfi", "-t", "3", "-i", pictures, "-itsoffset", "0.24", "-f", "lavfi", "-t", "3", "-i", sound];
    ffmpeg(&[&late[..], &["-c:v", "libx264", "-c:a", "pcm_s16le", &clip]].concat());
    let (flash, click) = flash_and_click(&encode(Path::new(&clip), ""), "v360", 25.0);
    assert!((click - flash - 0.24).abs() < 0.005, "flash at {flash}, click at {click}");
}

#[test]
fn a_rotated_clip_is_turned_once_and_measured_by_its_short_side() {
    let folder = tempfile::tempdir().unwrap();
    let (lying, standing) = (text(&folder, "lying.mp4"), text(&folder, "standing.mp4"));
    // The left half is white: turned by 90 degrees it is the top or the bottom half.
    let pictures = "color=black:s=1280x720:r=25,drawbox=w=640:h=720:c=white:t=fill";
    ffmpeg(&["-f", "lavfi", "-t", "1", "-i", pictures, "-c:v", "libx264", "-preset", "ultrafast", &lying]);
    ffmpeg(&["-i", &lying, "-c", "copy", "-metadata:s:v:0", "rotate=90", &standing]);
    let made = encode(Path::new(&standing), "");
    let expected = [("v720", 720, 1280), ("v480", 480, 852), ("v360", 360, 640)];
    assert_eq!(sizes(&made), expected.map(|(name, w, h)| (name.to_owned(), w, h)));
    let facts = init_facts(&made.bytes("v720/init.mp4")).unwrap();
    assert_eq!(facts.matrix, [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
    let whole = made.whole("v720");
    let frame =
        ffmpeg_bytes(&["-i", whole.to_str().unwrap(), "-frames:v", "1", "-vf", "scale=2:2,format=gray", "-f", "rawvideo"]);
    assert_eq!(frame[0] > 128, frame[1] > 128, "the halves lie above each other: {frame:?}");
    assert_ne!(frame[0] > 128, frame[2] > 128, "{frame:?}");
}

#[test]
fn square_pixels_even_sizes_and_no_enlarging() {
    let folder = tempfile::tempdir().unwrap();
    let clip = text(&folder, "odd.mkv");
    ffmpeg(&[
        "-f",
        "lavfi",
        "-t",
        "1",
        "-i",
        "testsrc=s=181x135:r=15",
        "-vf",
        "setsar=4/3",
        "-pix_fmt",
        "yuv444p",
        "-c:v",
        "libx264",
        &clip,
    ]);
    let made = encode(Path::new(&clip), "");
    assert_eq!(sizes(&made), [("v134".to_owned(), 240, 134)]);
    assert_eq!(ffprobe(&made.whole("v134"), "pix_fmt"), "yuv420p");
}

#[test]
fn the_largest_rung_has_the_detail_of_the_source() {
    let folder = tempfile::tempdir().unwrap();
    let clip = text(&folder, "detail.mkv");
    // Lines of one pixel: scaled down anywhere on the way, they would be grey.
    let pictures = "nullsrc=s=1920x1080:r=25,geq=lum='255*mod(X,2)':cb=128:cr=128";
    ffmpeg(&["-f", "lavfi", "-t", "0.2", "-i", pictures, "-c:v", "libx264", "-preset", "ultrafast", "-qp", "0", &clip]);
    let made = encode(Path::new(&clip), r#""quality":10"#);
    let whole = made.whole("v1080");
    let frame = ffmpeg_bytes(&[
        "-i",
        whole.to_str().unwrap(),
        "-frames:v",
        "1",
        "-vf",
        "crop=64:2:512:512,format=gray",
        "-f",
        "rawvideo",
    ]);
    let contrast = frame.chunks_exact(2).map(|pair| i32::from(pair[0]).abs_diff(i32::from(pair[1]))).min().unwrap();
    assert!(contrast > 100, "{contrast}");
}

#[test]
fn an_interlaced_source_comes_out_progressive_at_its_rate() {
    let folder = tempfile::tempdir().unwrap();
    let clip = text(&folder, "fields.ts");
    let pictures = ["-f", "lavfi", "-t", "2", "-i", "testsrc=s=720x576:r=50", "-vf", "tinterlace=interleave_top"];
    ffmpeg(&[&pictures[..], &["-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-top", "1", "-b:v", "4M", &clip]].concat());
    let made = encode(Path::new(&clip), "");
    let whole = made.whole("v480");
    assert_eq!(ffprobe(&whole, "field_order"), "progressive");
    assert_eq!(ffprobe(&whole, "avg_frame_rate"), "25/1");
}

#[test]
fn no_place_and_no_title_survives() {
    let folder = tempfile::tempdir().unwrap();
    let clip = text(&folder, "tagged.mp4");
    let fixture = fixture();
    let tags = [
        "-metadata",
        "location=+48.1234+011.5678/",
        "-metadata",
        "title=SECRETTITLE",
        "-metadata:s:v",
        "handler_name=SECRETHANDLER",
    ];
    ffmpeg(&[&["-t", "1", "-i", fixture.to_str().unwrap(), "-c", "copy"][..], &tags, &[&clip]].concat());
    let made = encode(Path::new(&clip), "");
    for name in made.tracks() {
        let bytes = fs::read(made.whole(&name)).unwrap();
        for secret in [&b"48.1234"[..], b"SECRET"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{name}");
        }
    }
}

#[test]
fn sound_alone_and_pictures_alone_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let (sound, pictures) = (text(&folder, "sound.wav"), text(&folder, "pictures.webm"));
    ffmpeg(&["-f", "lavfi", "-t", "3", "-i", "sine=r=44100", "-ac", "1", &sound]);
    ffmpeg(&[
        "-f",
        "lavfi",
        "-t",
        "1",
        "-i",
        "testsrc=s=320x240:r=30000/1001",
        "-c:v",
        "libvpx-vp9",
        "-deadline",
        "realtime",
        &pictures,
    ]);
    let made = encode(Path::new(&sound), "");
    assert_eq!((made.tracks(), made.segments("a128").len()), (vec!["a128".to_owned()], 2));
    let made = encode(Path::new(&pictures), "");
    assert_eq!(made.tracks(), ["v240"]);
    let timescale = init_facts(&made.bytes("v240/init.mp4")).unwrap().timescale;
    assert_eq!((timescale, made.segments("v240")[0].duration % 1001), (30_000, 0));
}

#[test]
fn a_resumed_run_goes_on_exactly_where_the_first_one_was() {
    let whole = encode(&fixture(), "");
    let resumed = encode(&fixture(), r#""resume_from":2"#);
    for name in whole.tracks() {
        assert_eq!(resumed.segments(&name), whole.segments(&name)[1..], "{name}");
        for segment in resumed.segments(&name) {
            assert_eq!(resumed.facts(&segment).start, whole.facts(&segment).start);
            assert_eq!(resumed.facts(&segment).samples, whole.facts(&segment).samples);
        }
    }
    // A track goes on when its first part comes from one run and the rest from another.
    let mut bytes = whole.bytes("v360/init.mp4");
    bytes.extend(whole.bytes("v360/00001.m4s"));
    resumed.segments("v360").iter().for_each(|segment| bytes.extend(resumed.bytes(&segment.file)));
    let joined = whole.folder.path().join("joined.mp4");
    fs::write(&joined, bytes).unwrap();
    let frames =
        |file: &Path| ffmpeg_bytes(&["-i", file.to_str().unwrap(), "-vf", "scale=2:2,format=gray", "-f", "rawvideo"]).len();
    assert_eq!(frames(&joined), frames(&whole.whole("v360")));
}

#[test]
fn the_encoder_waits_while_nobody_takes_its_segments() {
    let folder = tempfile::tempdir().unwrap();
    let spec = r#"{"preset":"ultrafast","max_waiting_segments":1,"segment_seconds":1}"#;
    let mut command = encoder();
    command.arg("encode").arg("--input").arg(fixture()).arg("--output").arg(folder.path()).args(["--spec", spec]);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut numbers = Vec::new();
    for line in std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap())) {
        if let Report::Segment { rendition, number, file, .. } = serde_json::from_str(&line.unwrap()).unwrap() {
            let waiting = fs::read_dir(folder.path().join(&rendition))
                .unwrap()
                .filter(|f| f.as_ref().unwrap().path().extension().unwrap() == "m4s");
            assert_eq!(waiting.count(), 1);
            fs::remove_file(folder.path().join(file)).unwrap();
            numbers.push((rendition, number));
        }
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(numbers.iter().filter(|(name, _)| name == "v720").count(), 6);
}
