//! What the transcoder and its encoder child say to each other: one JSON value a line.

use serde::{Deserialize, Serialize};

use crate::ladder::{DEFAULT_STEPS, FrameRate, Step};

/// What the encoder shall do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncodeSpec {
    /// x264 speed preset.
    pub preset: String,
    /// Constant rate factor; the rungs' rates are caps above it.
    pub quality: u32,
    /// Threads of one encoder; 0 lets x264 choose.
    pub threads: u32,
    /// Steps that may be made.
    pub steps: Vec<Step>,
    /// Bits in a second of the sound, in thousands.
    pub audio_kbps: u32,
    /// Length of a segment; a GOP is as long.
    pub segment_seconds: u32,
    /// Whether to make a poster.
    pub poster: bool,
    /// First segment to make, counting from 1; those before are there already.
    pub resume_from: u32,
    /// Finished segments that may wait to be taken before the encoder pauses.
    pub max_waiting_segments: u32,
    /// What the encoder may use.
    pub limits: Limits,
}

impl Default for EncodeSpec {
    fn default() -> Self {
        Self {
            preset: "veryfast".to_owned(),
            quality: 23,
            threads: 2,
            steps: DEFAULT_STEPS.to_vec(),
            audio_kbps: 128,
            segment_seconds: 2,
            poster: true,
            resume_from: 1,
            max_waiting_segments: 40,
            limits: Limits::default(),
        }
    }
}

/// What the encoder may use and take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Address space in bytes.
    pub memory_bytes: u64,
    /// CPU time in seconds.
    pub cpu_seconds: u64,
    /// Largest file that may be written, in bytes.
    pub file_bytes: u64,
    /// Longest source that is taken, in milliseconds.
    pub max_duration_ms: u64,
    /// Longest side of a source that is taken, in pixels.
    pub max_side: u32,
    /// How long looking at a source may take, or making a poster, in milliseconds.
    pub probe_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 4 << 30,
            cpu_seconds: 24 * 3600,
            file_bytes: 256 << 20,
            max_duration_ms: 12 * 3600 * 1000,
            max_side: 8192,
            probe_timeout_ms: 15_000,
        }
    }
}

/// One line of the encoder's standard output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Report {
    /// What the source is.
    Probed {
        /// Duration that it claims; 0 when it does not say.
        duration_ms: u64,
        /// Width as shown; 0 without a picture.
        width: u32,
        /// Height as shown; 0 without a picture.
        height: u32,
        /// Rate of what will be made; absent without a picture.
        frame_rate: Option<FrameRate>,
        /// Whether there is a picture.
        has_video: bool,
        /// Whether there is sound.
        has_audio: bool,
        /// Names of the renditions that will be made.
        tracks: Vec<String>,
    },
    /// A rendition has begun; its init segment lies in the output folder.
    Rendition {
        /// Name, such as `v720`.
        name: String,
        /// What it holds.
        media: Media,
        /// RFC 6381 codec string, from the bitstream.
        codecs: String,
        /// Ticks in a second.
        timescale: u32,
        /// File name of the init segment.
        init_file: String,
        /// Its size.
        init_size_bytes: u64,
    },
    /// A segment is whole and lies in the output folder.
    Segment {
        /// Name of its rendition.
        rendition: String,
        /// Counts from 1.
        number: u32,
        /// Start, in ticks.
        start: u64,
        /// Length, in ticks.
        duration: u64,
        /// File name.
        file: String,
        /// Its size.
        size_bytes: u64,
    },
    /// The poster lies in the output folder.
    Poster {
        /// File name.
        file: String,
        /// Its size.
        size_bytes: u64,
    },
    /// The encoder is alive, and this far.
    Progress {
        /// Duration made so far of the slowest rendition.
        made_ms: u64,
    },
    /// Nothing can be made of this; the last line.
    Error {
        /// Stable reason.
        reason: String,
        /// A sentence that a creator can act on.
        detail: String,
    },
    /// All is made; the last line.
    Done {
        /// Duration made; 0 of a poster alone.
        duration_ms: u64,
        /// True when that is less than the source claims.
        partial: bool,
    },
}

/// What a rendition holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Media {
    /// Pictures.
    Video {
        /// Width in square pixels.
        width: u32,
        /// Height in square pixels.
        height: u32,
        /// Frame rate.
        frame_rate: FrameRate,
    },
    /// Sound.
    Audio {
        /// Samples in a second.
        sample_rate_hz: u32,
        /// Channels.
        channels: u32,
        /// BCP 47 language, empty when unknown.
        language: String,
    },
}
