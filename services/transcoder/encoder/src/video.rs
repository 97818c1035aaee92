//! Pictures: encoded frames of one rung become segments of exactly one GOP each.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use gstreamer as gst;
use streamgate_media::{
    encoder_protocol::{Media, Report},
    fmp4::{Sample, VideoTrack, media_segment, video_init},
    h264::Sps,
    ladder::{FrameRate, Rung},
};

use crate::{output::Output, refusal::Refusal};

/// Frames that a frame may be decoded before it is shown: x264's pyramids of B-frames need two.
const REORDER: u32 = 2;

/// Coded bytes, held where the encoder put them.
type Bytes = gst::MappedBuffer<gst::buffer::Readable>;

/// One rung on its way into files.
#[derive(Debug)]
pub struct VideoTrackWriter {
    output: Arc<Output>,
    rung: Rung,
    rate: FrameRate,
    gop: u32,
    number: u32,
    frames: Vec<Sample<Bytes>>,
    begun: bool,
    made_ms: Arc<AtomicU64>,
}

impl VideoTrackWriter {
    /// A writer whose first segment is `number`. It keeps `made_ms` up to date.
    pub fn new(output: Arc<Output>, rung: Rung, rate: FrameRate, gop: u32, number: u32, made_ms: Arc<AtomicU64>) -> Self {
        Self { output, rung, rate, gop, number, frames: Vec::with_capacity(gop as usize), begun: false, made_ms }
    }

    /// Takes one access unit.
    ///
    /// # Errors
    /// The disk's, or an encoder that left the frame grid.
    pub fn take(&mut self, sample: &gst::Sample) -> Result<(), Refusal> {
        if !self.begun {
            self.begin(sample)?;
        }
        let buffer = sample.buffer_owned().ok_or_else(|| Refusal::internal("an encoded frame without bytes"))?;
        let sync = !buffer.flags().contains(gst::BufferFlags::DELTA_UNIT);
        let frame = self.frame_of(sample, &buffer)?;
        if sync != self.frames.is_empty() {
            return Err(Refusal::internal(format!("{}: frame {frame} breaks the GOP of {}", self.rung.name, self.gop)));
        }
        let decoded = self.first_frame() + self.frames.len() as u64;
        let offset = (frame + u64::from(REORDER)).checked_sub(decoded).filter(|offset| *offset <= u64::from(self.gop + REORDER));
        let Some(offset) = offset.filter(|offset| !sync || *offset == u64::from(REORDER)) else {
            return Err(Refusal::internal(format!("{}: frame {frame} is not where frame {decoded} belongs", self.rung.name)));
        };
        let ticks = self.rate.frame_ticks();
        let data = buffer.into_mapped_buffer_readable().map_err(|_| Refusal::internal("an encoded frame can't be read"))?;
        let composition_offset = i32::try_from(offset * u64::from(ticks)).unwrap_or(0);
        self.frames.push(Sample { duration: ticks, composition_offset, sync, data });
        if self.frames.len() == self.gop as usize { self.close() } else { Ok(()) }
    }

    /// Writes what is left at the end of the source.
    ///
    /// # Errors
    /// The disk's.
    pub fn finish(&mut self) -> Result<(), Refusal> {
        if self.frames.is_empty() { Ok(()) } else { self.close() }
    }

    /// Index of the first frame of the segment that is being made.
    fn first_frame(&self) -> u64 {
        u64::from(self.number - 1) * u64::from(self.gop)
    }

    /// Where on the grid a frame is shown.
    fn frame_of(&self, sample: &gst::Sample, buffer: &gst::Buffer) -> Result<u64, Refusal> {
        // x264enc adds a thousand hours to timestamps and to the segment; running time has neither.
        let segment = sample.segment().and_then(|s| s.downcast_ref::<gst::ClockTime>());
        let running = segment.zip(buffer.pts()).and_then(|(segment, pts)| segment.to_running_time(pts));
        let running = running.ok_or_else(|| Refusal::internal("an encoded frame without a time"))?;
        Ok(self.rate.frame_at(running.nseconds()))
    }

    fn begin(&mut self, sample: &gst::Sample) -> Result<(), Refusal> {
        let caps = sample.caps().and_then(|caps| caps.structure(0));
        let avcc = caps.and_then(|s| s.get::<gst::Buffer>("codec_data").ok());
        let avcc = avcc.and_then(|buffer| buffer.map_readable().ok().map(|map| map.to_vec()));
        let avcc = avcc.ok_or_else(|| Refusal::internal("the encoder gave no decoder configuration"))?;
        let sps = Sps::of_avcc(&avcc).ok_or_else(|| Refusal::internal("the encoder gave a damaged parameter set"))?;
        let small = |side: u32| u16::try_from(side).unwrap_or(u16::MAX);
        let (width, height) = (small(sps.width), small(sps.height));
        let reorder_ticks = REORDER * self.rate.frame_ticks();
        let init = video_init(&VideoTrack { timescale: self.rate.timescale(), width, height, avcc, reorder_ticks });
        let init_file = format!("{}/init.mp4", self.rung.name);
        let init_size_bytes = self.output.store(&init_file, &init).map_err(|e| Refusal::of_io("write the init segment", &e))?;
        self.begun = true;
        let report = Report::Rendition {
            name: self.rung.name.clone(),
            media: Media::Video { width: sps.width, height: sps.height, frame_rate: self.rate },
            codecs: sps.codecs(),
            timescale: self.rate.timescale(),
            init_file,
            init_size_bytes,
        };
        self.output.say(&report).map_err(|e| Refusal::of_io("report", &e))
    }

    fn close(&mut self) -> Result<(), Refusal> {
        let name = &self.rung.name;
        self.output.wait_for_room(name).map_err(|e| Refusal::of_io("look at the output folder", &e))?;
        let ticks = u64::from(self.rate.frame_ticks());
        let start = self.first_frame() * ticks;
        let duration = self.frames.len() as u64 * ticks;
        let bytes = media_segment(self.number, start, &self.frames);
        let file = format!("{name}/{:05}.m4s", self.number);
        let size_bytes = self.output.store(&file, &bytes).map_err(|e| Refusal::of_io("write a segment", &e))?;
        let report = Report::Segment { rendition: name.clone(), number: self.number, start, duration, file, size_bytes };
        self.output.say(&report).map_err(|e| Refusal::of_io("report", &e))?;
        self.made_ms.store((start + duration) * 1000 / u64::from(self.rate.timescale()), Ordering::Relaxed);
        self.frames.clear();
        self.number += 1;
        Ok(())
    }
}
