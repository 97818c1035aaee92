//! The poster: one frame as JPEG, of the smallest rung while a ladder is made, or of one segment afterwards.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use streamgate_media::encoder_protocol::{Limits, Report};

use crate::{Places, output::Output, refusal::Refusal};

/// Makes JPEGs of frames.
pub const JPEG: &str = "jpegenc quality=80";
/// How often is looked whether something went wrong while no frame comes.
const LOOK_EVERY: gst::ClockTime = gst::ClockTime::from_mseconds(100);
/// Times of frames are rounded, and no two frames are so close.
const ROUNDED_NANOS: u64 = 500_000;

/// Stores the poster and says so.
///
/// # Errors
/// The disk's.
pub fn store(output: &Arc<Output>, sample: &gst::Sample) -> Result<(), Refusal> {
    let map = sample.buffer().and_then(|buffer| buffer.map_readable().ok());
    let map = map.ok_or_else(|| Refusal::internal("the poster has no bytes"))?;
    let file = "poster.jpg".to_owned();
    let size_bytes = output.store(&file, &map).map_err(|e| Refusal::of_io("write the poster", &e))?;
    output.say(&Report::Poster { file, size_bytes }).map_err(|e| Refusal::of_io("report", &e))
}

/// Makes the poster of the frame that a segment shows so many milliseconds after its first.
///
/// # Errors
/// The reason why there is none.
pub fn run(places: &Places, at_ms: u64, limits: &Limits) -> Result<(), Refusal> {
    gst::init().map_err(|error| Refusal::internal(format!("start GStreamer: {error}")))?;
    let pipeline = build(places)?;
    let found = frame_at(&pipeline, at_ms, Duration::from_millis(limits.probe_timeout_ms));
    // A source that broke may hold its threads for ever; the end of the process takes them along.
    std::mem::forget(pipeline);
    let output = Arc::new(Output::new(places.output.clone(), 1));
    store(&output, &found?)?;
    output.say(&Report::Done { duration_ms: 0, partial: false }).map_err(|error| Refusal::of_io("report", &error))
}

/// Every frame becomes a JPEG, and the last that is not too late is taken: a segment has a few dozen small ones.
fn build(places: &Places) -> Result<gst::Pipeline, Refusal> {
    let description = format!(
        "filesrc name=source ! qtdemux name=parts parts.video_0 ! h264parse ! avdec_h264 ! videoconvert \
         ! video/x-raw,format=I420 ! {JPEG} ! appsink name=poster sync=false async=false max-buffers=4"
    );
    let built = gst::parse::launch(&description).map_err(|e| Refusal::internal(format!("build a pipeline: {}", e.message())))?;
    let pipeline = built.downcast::<gst::Pipeline>().map_err(|_| Refusal::internal("what was built is no pipeline"))?;
    let source = pipeline.by_name("source").ok_or_else(|| Refusal::internal("the source is missing"))?;
    source.set_property("location", places.input.as_path());
    Ok(pipeline)
}

/// The last JPEG whose frame is shown at or before the time. It is counted from the first frame: a segment's times begin
/// where the one before ended.
fn frame_at(pipeline: &gst::Pipeline, at_ms: u64, patience: Duration) -> Result<gst::Sample, Refusal> {
    let sink = pipeline.by_name("poster").and_then(|element| element.downcast::<gst_app::AppSink>().ok());
    let sink = sink.ok_or_else(|| Refusal::internal("a sink is missing"))?;
    let bus = pipeline.bus().ok_or_else(|| Refusal::internal("the pipeline has no bus"))?;
    let wanted_nanos = at_ms.saturating_mul(1_000_000).saturating_add(ROUNDED_NANOS);
    let begun = Instant::now();
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(Refusal::told_on(&bus).unwrap_or_else(|| Refusal::damaged("it can't be opened")));
    }
    let (mut first_nanos, mut kept) = (None, None);
    while begun.elapsed() < patience {
        let Some(sample) = sink.try_pull_sample(LOOK_EVERY) else {
            if let Some(refusal) = Refusal::told_on(&bus) {
                return Err(refusal);
            }
            if sink.is_eos() {
                return kept.ok_or_else(|| Refusal::damaged("not one frame could be decoded"));
            }
            continue;
        };
        let time = sample.buffer().and_then(|buffer| buffer.pts()).map_or(0, gst::ClockTime::nseconds);
        let first = *first_nanos.get_or_insert(time);
        let is_late = time.saturating_sub(first) > wanted_nanos;
        match kept {
            Some(shown) if is_late => return Ok(shown),
            _ => kept = Some(sample),
        }
    }
    Err(Refusal::damaged("its frame could not be decoded in time"))
}
