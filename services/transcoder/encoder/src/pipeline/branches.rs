//! The branches behind the decoder, as GStreamer describes them.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use gstreamer::{self as gst, prelude::*};
use gstreamer_app as gst_app;
use streamgate_media::{
    encoder_protocol::EncodeSpec,
    ladder::{FrameRate, Rung},
};

use super::Run;
use crate::{
    audio::{AudioTrackWriter, CHANNELS, Grid, SAMPLE_RATE},
    poster::{self, JPEG},
    probe::{self, Picture, Plan},
    refusal::Refusal,
    video::VideoTrackWriter,
};

/// A queue of raw pictures: enough to keep both sides busy, few enough for memory.
const RAW_QUEUE: &str = "queue max-size-buffers=3 max-size-bytes=0 max-size-time=0";
/// Multi-tap bilinear: the same sharpness and size as other tools' bilinear. The two-tap
/// `bilinear` costs a third more bytes at 360p.
const SCALE: &str = "videoscale method=bilinear2 add-borders=false";
/// Times become running times in one segment from zero, edit lists and start offsets included.
/// What then fills rates and gaps fills from zero too, so both tracks begin there, in step.
const REBASE: &str = "identity single-segment=true";
/// Milliseconds of the cap that a rung may spend at once.
const VBV_MS: u32 = 2000;

/// An element by its factory's name.
pub(super) fn element(factory: &str) -> Result<gst::Element, Refusal> {
    gst::ElementFactory::make(factory).build().map_err(|_| Refusal::internal(format!("the element {factory} is missing")))
}

/// Takes the first picture and the first sound of the source, and nothing else.
pub(super) fn choose_streams(decoder: &gst::Element, plan: &Plan) {
    let chosen: Mutex<[Option<String>; 2]> = Mutex::default();
    let wanted = [plan.picture.is_some(), plan.has_audio];
    decoder.connect("select-stream", false, move |values| {
        let stream = values.get(2).and_then(|value| value.get::<gst::Stream>().ok())?;
        let kind = stream.stream_type();
        let place = if kind.contains(gst::StreamType::VIDEO) { 0 } else { 1 };
        if !kind.intersects(gst::StreamType::VIDEO | gst::StreamType::AUDIO) || !wanted[place] {
            return Some(0_i32.to_value());
        }
        let id = stream.stream_id().map(String::from);
        let mut chosen = chosen.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = chosen[place].get_or_insert_with(|| id.clone().unwrap_or_default());
        Some(i32::from(Some(&*mine) == id.as_ref()).to_value())
    });
}

/// Builds the branch for a new stream and links it.
pub(super) fn attach(pipeline: &gst::Pipeline, pad: &gst::Pad, run: &Arc<Run>) -> Result<(), Refusal> {
    let kind = pad.stream().map_or_else(gst::StreamType::empty, |stream| stream.stream_type());
    let bin = match &run.plan.picture {
        Some(picture) if kind.contains(gst::StreamType::VIDEO) => {
            refuse_hdr(pad, run);
            video_branch(picture, run)?
        }
        _ if kind.contains(gst::StreamType::AUDIO) && run.plan.has_audio => audio_branch(run)?,
        _ => described("fakesink sync=false async=false")?,
    };
    let entry = bin.static_pad("sink").ok_or_else(|| Refusal::internal("a branch without an entry"))?;
    pipeline.add(&bin).map_err(|e| Refusal::internal(e.to_string()))?;
    bin.sync_state_with_parent().map_err(|e| Refusal::internal(e.to_string()))?;
    pad.link(&entry).map_err(|e| Refusal::internal(format!("link a decoded stream: {e}")))?;
    run.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    Ok(())
}

/// The container may not say that a stream is HDR; the decoded frames do.
fn refuse_hdr(pad: &gst::Pad, run: &Arc<Run>) {
    let run = Arc::clone(run);
    pad.add_probe(gst::PadProbeType::EVENT_DOWNSTREAM, move |pad, info| {
        let hdr = match info.event().map(|event| event.view()) {
            Some(gst::EventView::Caps(caps)) => probe::is_hdr(caps.caps()),
            _ => false,
        };
        if hdr {
            run.fail(probe::hdr());
            if let Some(element) = pad.parent_element() {
                gst::element_error!(element, gst::StreamError::Format, ("HDR"));
            }
        }
        gst::PadProbeReturn::Ok
    });
}

fn described(description: &str) -> Result<gst::Bin, Refusal> {
    gst::parse::bin_from_description(description, true).map_err(|e| Refusal::internal(format!("build a branch: {}", e.message())))
}

fn video_branch(picture: &Picture, run: &Arc<Run>) -> Result<gst::Bin, Refusal> {
    let gop = picture.rate.frames_in(run.spec.segment_seconds);
    let skipped = u64::from(run.spec.resume_from - 1) * u64::from(gop);
    let bin = described(&video_description(picture, &run.spec, gop))?;
    open_gate(&bin, "gate", skipped, u64::MAX, Some(Arc::clone(run)))?;
    if run.spec.poster {
        let shown = if skipped > 0 { 0 } else { poster_frame(picture.rate, run.plan.claimed_ms) };
        open_gate(&bin, "poster-gate", shown, 1, None)?;
        let output = Arc::clone(&run.output);
        collect(&bin, "poster", run, move |sample| sample.map_or(Ok(()), |sample| poster::store(&output, sample)))?;
    }
    for rung in &picture.rungs {
        let (output, counter) = (Arc::clone(&run.output), run.counter());
        let mut writer = VideoTrackWriter::new(output, rung.clone(), picture.rate, gop, run.spec.resume_from, counter);
        collect(&bin, &rung.name, run, move |sample| match sample {
            Some(sample) => writer.take(sample),
            None => writer.finish(),
        })?;
    }
    Ok(bin)
}

/// A second in, or half-way through a source that is shorter.
fn poster_frame(rate: FrameRate, claimed_ms: u64) -> u64 {
    let at_ms = if claimed_ms == 0 { 0 } else { (claimed_ms / 2).min(1000) };
    rate.frame_at(at_ms * 1_000_000)
}

/// The whole picture branch. `videoconvert` can't scale, so the first scaler sees the source's
/// own size: a converter that may scale would let a small rung decide the size of all.
fn video_description(picture: &Picture, spec: &EncodeSpec, gop: u32) -> String {
    let FrameRate { num, den } = picture.rate;
    let mut text = format!(
        "queue max-size-buffers=4 max-size-bytes=0 max-size-time=0 ! {REBASE} ! videoconvert ! video/x-raw,format=I420 \
         ! deinterlace mode=auto fields=top ! videoflip video-direction=auto \
         ! videorate ! video/x-raw,framerate={num}/{den} \
         ! valve name=gate drop=true drop-mode=forward-sticky-events"
    );
    let last = picture.rungs.len() - 1;
    for (index, rung) in picture.rungs.iter().enumerate() {
        let Rung { width, height, .. } = rung;
        if index > 0 {
            let _ = write!(text, " t{}. ! {RAW_QUEUE}", index - 1);
        }
        let _ = write!(
            text,
            " ! {SCALE} ! video/x-raw,width={width},height={height},pixel-aspect-ratio=1/1 ! tee name=t{index} \
             t{index}. ! {RAW_QUEUE} ! {}",
            encoder(rung, spec, gop)
        );
    }
    if spec.poster {
        let _ = write!(
            text,
            " t{last}. ! valve name=poster-gate drop=true drop-mode=forward-sticky-events ! {JPEG} \
             ! appsink name=poster sync=false async=false"
        );
    }
    text
}

fn encoder(rung: &Rung, spec: &EncodeSpec, gop: u32) -> String {
    let EncodeSpec { preset, quality, threads, .. } = spec;
    let Rung { name, max_kbps, .. } = rung;
    format!(
        "x264enc pass=qual quantizer={quality} bitrate={max_kbps} vbv-buf-capacity={VBV_MS} speed-preset={preset} threads={threads} \
         key-int-max={gop} option-string=\"min-keyint={gop}:scenecut=0:open-gop=0\" \
         ! video/x-h264,stream-format=avc,alignment=au ! appsink name={name} sync=false async=false max-buffers=60"
    )
}

fn audio_branch(run: &Arc<Run>) -> Result<gst::Bin, Refusal> {
    // Gaps become silence, so that counting frames is telling time.
    let bin = described(&format!(
        "queue ! {REBASE} ! audioconvert ! audioresample ! audio/x-raw,format=F32LE,rate={SAMPLE_RATE},channels={CHANNELS},layout=interleaved \
         ! audiorate ! audiobuffersplit output-buffer-duration=1024/{SAMPLE_RATE} \
         ! valve name=gate drop=true drop-mode=forward-sticky-events ! audioconvert ! avenc_aac bitrate={} \
         ! audio/mpeg,mpegversion=4,stream-format=raw ! appsink name=sound sync=false async=false max-buffers=200",
        run.spec.audio_kbps * 1000
    ))?;
    let grid = Grid { segment_nanos: segment_nanos(&run.plan, run.spec.segment_seconds) };
    let first = run.spec.resume_from;
    let counted = run.plan.picture.is_none().then(|| Arc::clone(run));
    open_gate(&bin, "gate", grid.first_heard(first), u64::MAX, counted)?;
    let (output, counter) = (Arc::clone(&run.output), run.counter());
    let mut writer = AudioTrackWriter::new(output, grid, run.spec.audio_kbps, run.plan.language.clone(), first, counter);
    collect(&bin, "sound", run, move |sample| match sample {
        Some(sample) => writer.take(sample),
        None => writer.finish(),
    })?;
    Ok(bin)
}

/// Length of a picture segment, which sound follows.
fn segment_nanos(plan: &Plan, seconds: u32) -> u64 {
    let Some(picture) = &plan.picture else { return u64::from(seconds) * 1_000_000_000 };
    let frames = u128::from(picture.rate.frames_in(seconds));
    let nanos = frames * u128::from(picture.rate.den) * 1_000_000_000 / u128::from(picture.rate.num);
    u64::try_from(nanos).unwrap_or(u64::MAX)
}

/// Lets through `count` buffers from number `first` on, and drops the others. It counts
/// buffers as life when `run` is given.
fn open_gate(bin: &gst::Bin, name: &str, first: u64, count: u64, run: Option<Arc<Run>>) -> Result<(), Refusal> {
    let valve = bin.by_name(name).ok_or_else(|| Refusal::internal("a gate is missing"))?;
    let pad = valve.static_pad("sink").ok_or_else(|| Refusal::internal("a gate has no entry"))?;
    let (weak, seen) = (valve.downgrade(), AtomicU64::new(0));
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        let number = seen.fetch_add(1, Ordering::Relaxed);
        if let Some(run) = &run {
            run.decoded.fetch_add(1, Ordering::Relaxed);
        }
        let last = first.saturating_add(count);
        if (number == first || number == last)
            && let Some(valve) = weak.upgrade()
        {
            valve.set_property("drop", number == last);
        }
        gst::PadProbeReturn::Ok
    });
    Ok(())
}

/// Gives each sample of a sink to `take`, and `None` at its end.
fn collect<F>(bin: &gst::Bin, name: &str, run: &Arc<Run>, take: F) -> Result<(), Refusal>
where
    F: FnMut(Option<&gst::Sample>) -> Result<(), Refusal> + Send + 'static,
{
    let sink = bin.by_name(name).and_then(|element| element.downcast::<gst_app::AppSink>().ok());
    let sink = sink.ok_or_else(|| Refusal::internal("a sink is missing"))?;
    let take = Arc::new(Mutex::new(take));
    let (on_end, run_end) = (Arc::clone(&take), Arc::clone(run));
    let run = Arc::clone(run);
    let callbacks = gst_app::AppSinkCallbacks::builder()
        .new_sample(move |sink| {
            let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
            let mut take = take.lock().unwrap_or_else(PoisonError::into_inner);
            take(Some(&sample)).map(|()| gst::FlowSuccess::Ok).map_err(|refusal| {
                run.fail(refusal);
                gst::FlowError::Error
            })
        })
        .eos(move |sink| {
            let mut take = on_end.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(refusal) = take(None) {
                run_end.fail(refusal);
                gst::element_error!(sink, gst::CoreError::Failed, ("the last segment could not be written"));
            }
        })
        .build();
    sink.set_callbacks(callbacks);
    Ok(())
}
