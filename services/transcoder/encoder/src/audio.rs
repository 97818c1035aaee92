//! Sound: AAC frames become segments of whole frames, on their own timeline.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gstreamer as gst;
use streamgate_media::{
    aac::{AudioSpecificConfig, SAMPLES_PER_FRAME},
    encoder_protocol::{Media, Report},
    fmp4::{AudioTrack, Sample, audio_init, media_segment},
};

use crate::{output::Output, refusal::Refusal};

/// All sound is made at this rate; it is the timescale as well.
pub const SAMPLE_RATE: u32 = 48_000;
/// All sound is made with so many channels.
pub const CHANNELS: u32 = 2;
/// Frames that the encoder hears before the first one that is kept, so that a resumed
/// track goes on as the interrupted one would have.
const RUN_UP: u64 = 4;

/// Where segments of sound begin: at the whole frame nearest to each picture segment's start,
/// so that both drift never apart.
#[derive(Debug, Clone, Copy)]
pub struct Grid {
    /// Length of a picture segment, in nanoseconds.
    pub segment_nanos: u64,
}

impl Grid {
    /// The first frame of segment `number`, which counts from 1.
    pub fn first_frame(self, number: u32) -> u64 {
        let nanos = u128::from(number - 1) * u128::from(self.segment_nanos);
        let frame = u128::from(SAMPLES_PER_FRAME) * 1_000_000_000;
        u64::try_from((nanos * u128::from(SAMPLE_RATE) + frame / 2) / frame).unwrap_or(u64::MAX)
    }

    /// The first frame that the encoder must hear to make segment `number`.
    pub fn first_heard(self, number: u32) -> u64 {
        self.first_frame(number).saturating_sub(RUN_UP)
    }
}

/// The sound on its way into files.
#[derive(Debug)]
pub struct AudioTrackWriter {
    output: Arc<Output>,
    grid: Grid,
    kbps: u32,
    language: String,
    number: u32,
    /// Frames that came out of the encoder, the priming frame among them.
    seen: u64,
    first_heard: u64,
    frames: Vec<Sample<gst::MappedBuffer<gst::buffer::Readable>>>,
    begun: bool,
    made_ms: Arc<AtomicU64>,
}

impl AudioTrackWriter {
    /// A writer whose first segment is `number`.
    pub fn new(output: Arc<Output>, grid: Grid, kbps: u32, language: String, number: u32, made_ms: Arc<AtomicU64>) -> Self {
        let first_heard = grid.first_heard(number);
        Self { output, grid, kbps, language, number, seen: 0, first_heard, frames: Vec::new(), begun: false, made_ms }
    }

    fn name(&self) -> String {
        format!("a{}", self.kbps)
    }

    /// Takes one AAC frame.
    ///
    /// # Errors
    /// The disk's.
    pub fn take(&mut self, sample: &gst::Sample) -> Result<(), Refusal> {
        if !self.begun {
            self.begin(sample)?;
        }
        // The first frame out holds the 1024 samples of silence that prime the encoder. Without
        // it, frame n holds exactly the samples of frame n that went in.
        let frame = self.first_heard + self.seen;
        self.seen += 1;
        if self.seen == 1 || frame - 1 < self.grid.first_frame(self.number) {
            return Ok(());
        }
        let buffer = sample.buffer_owned().ok_or_else(|| Refusal::internal("an encoded frame without bytes"))?;
        let data = buffer.into_mapped_buffer_readable().map_err(|_| Refusal::internal("an encoded frame can't be read"))?;
        self.frames.push(Sample { duration: SAMPLES_PER_FRAME, composition_offset: 0, sync: true, data });
        let wanted = self.grid.first_frame(self.number + 1) - self.grid.first_frame(self.number);
        if self.frames.len() as u64 == wanted { self.close() } else { Ok(()) }
    }

    /// Writes what is left at the end of the source.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        if self.frames.is_empty() { Ok(()) } else { self.close() }
    }

    fn begin(&mut self, sample: &gst::Sample) -> Result<(), Refusal> {
        let caps = sample.caps().and_then(|caps| caps.structure(0));
        let config = caps.and_then(|s| s.get::<gst::Buffer>("codec_data").ok());
        let config = config.and_then(|buffer| buffer.map_readable().ok().map(|map| map.to_vec()));
        let config = config.ok_or_else(|| Refusal::internal("the encoder gave no decoder configuration"))?;
        let said =
            AudioSpecificConfig::parse(&config).ok_or_else(|| Refusal::internal("the encoder gave a damaged configuration"))?;
        let channels = u16::from(said.channels);
        let track = AudioTrack { sample_rate_hz: said.sample_rate_hz, channels, bitrate: self.kbps * 1000, config };
        let init_file = format!("{}/init.mp4", self.name());
        let stored = self.output.store(&init_file, &audio_init(&track));
        let init_size_bytes = stored.map_err(|e| Refusal::of_io("write the init segment", &e))?;
        self.begun = true;
        let media = Media::Audio {
            sample_rate_hz: said.sample_rate_hz,
            channels: u32::from(said.channels),
            language: self.language.clone(),
        };
        let report = Report::Rendition {
            name: self.name(),
            media,
            codecs: said.codecs(),
            timescale: SAMPLE_RATE,
            init_file,
            init_size_bytes,
        };
        self.output.say(&report).map_err(|e| Refusal::of_io("report", &e))
    }

    fn close(&mut self) -> Result<(), Refusal> {
        let name = self.name();
        self.output.wait_for_room(&name).map_err(|e| Refusal::of_io("look at the output folder", &e))?;
        let ticks = u64::from(SAMPLES_PER_FRAME);
        let start = self.grid.first_frame(self.number) * ticks;
        let duration = self.frames.len() as u64 * ticks;
        let bytes = media_segment(self.number, start, &self.frames);
        let file = format!("{name}/{:05}.m4s", self.number);
        let size_bytes = self.output.store(&file, &bytes).map_err(|e| Refusal::of_io("write a segment", &e))?;
        let report = Report::Segment { rendition: name, number: self.number, start, duration, file, size_bytes };
        self.output.say(&report).map_err(|e| Refusal::of_io("report", &e))?;
        self.made_ms.store((start + duration) * 1000 / u64::from(SAMPLE_RATE), Ordering::Relaxed);
        self.frames.clear();
        self.number += 1;
        Ok(())
    }
}
