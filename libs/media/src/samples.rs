//! Presentations for the tests of this crate.

use streamgate_proto::streamgate::media::v1::{Asset, AudioRendition, Presentation, Segment, Track, VideoRendition};

/// A track of `durations` ticks, each segment `bytes` long, beginning at tick `start`.
pub fn track(name: &str, timescale: u32, start: u64, durations: &[u64], bytes: u64) -> Track {
    let mut at = start;
    let mut segments = Vec::new();
    for (index, duration) in durations.iter().enumerate() {
        let number = u32::try_from(index + 1).unwrap();
        let path = format!("job_1/{name}/{number:05}.m4s");
        segments.push(Segment { number, start: at, duration: *duration, size_bytes: bytes, path });
        at += duration;
    }
    Track { timescale, init: Some(Asset { path: format!("job_1/{name}/init.mp4"), size_bytes: 800 }), segments }
}

/// A video rendition at 30000/1001 frames a second: two segments of 60 frames and one of 15.
pub fn video(height: u32, bytes: u64) -> VideoRendition {
    VideoRendition {
        name: format!("v{height}"),
        width: height * 16 / 9,
        height,
        frame_rate_num: 30_000,
        frame_rate_den: 1_001,
        codecs: format!("avc1.4d40{:02x}", height / 36),
        track: Some(track(&format!("v{height}"), 30_000, 0, &[60_060, 60_060, 15_015], bytes)),
    }
}

/// Stereo AAC at 48 kHz: segments of whole frames.
pub fn audio() -> AudioRendition {
    AudioRendition {
        name: "a128".into(),
        sample_rate_hz: 48_000,
        channels: 2,
        codecs: "mp4a.40.2".into(),
        language: String::new(),
        track: Some(track("a128", 48_000, 0, &[95_232, 96_256, 24_576], 32_000)),
    }
}

/// Three rungs and sound, whole.
pub fn title() -> Presentation {
    Presentation {
        content_id: "cnt_1".into(),
        job_id: "job_1".into(),
        complete: true,
        revision: 7,
        video: vec![video(720, 600_000), video(480, 250_000), video(360, 125_000)],
        audio: Some(audio()),
        source_duration_ms: 4_500,
        poster: Some(Asset { path: "job_1/poster.jpg".into(), size_bytes: 9_000 }),
        version: 1,
        stopped: false,
        playable_at_ms: 1_700_000_000_000,
    }
}
