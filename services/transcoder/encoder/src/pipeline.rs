//! One decode feeds every rung: the larger rung is scaled into the next smaller one.

mod branches;

use std::{
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use gstreamer::{self as gst, prelude::*};
use streamgate_media::encoder_protocol::{EncodeSpec, Report};

use crate::{
    Places,
    output::Output,
    probe::{self, Plan},
    refusal::Refusal,
};

/// How often progress is looked at, and told if there was any.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// How long the encoders have to hand out what they hold after a source broke off.
const DRAIN: Duration = Duration::from_secs(20);

/// What all branches share.
#[derive(Debug)]
struct Run {
    spec: EncodeSpec,
    plan: Plan,
    output: Arc<Output>,
    /// Milliseconds made, a counter for each track.
    made: Mutex<Vec<Arc<AtomicU64>>>,
    /// Frames that came out of the decoder: life, before anything is made.
    decoded: AtomicU64,
    /// The first thing that went wrong in a branch.
    failure: Mutex<Option<Refusal>>,
    /// Where each branch begins; a broken source is ended here.
    entries: Mutex<Vec<gst::Pad>>,
}

impl Run {
    fn counter(&self) -> Arc<AtomicU64> {
        let counter = Arc::new(AtomicU64::new(0));
        self.made.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&counter));
        counter
    }

    /// Milliseconds made of the slowest and of the longest track.
    fn made_ms(&self) -> (u64, u64) {
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let all = || made.iter().map(|counter| counter.load(Ordering::Relaxed));
        (all().min().unwrap_or(0), all().max().unwrap_or(0))
    }

    /// Keeps the first failure; the caller then stops its branch.
    fn fail(&self, refusal: Refusal) {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(refusal);
    }

    fn failure(&self) -> Option<Refusal> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Makes everything, from probing to the last line.
///
/// # Errors
/// The reason why nothing was made.
pub fn run(places: &Places, spec: &EncodeSpec) -> Result<(), Refusal> {
    gst::init().map_err(|error| Refusal::internal(format!("start GStreamer: {error}")))?;
    let plan = probe::plan(&places.input, spec)?;
    let output = Arc::new(Output::new(places.output.clone(), spec.max_waiting_segments));
    output.say(&plan.report()).map_err(|error| Refusal::of_io("report", &error))?;
    let run = Arc::new(Run {
        spec: spec.clone(),
        plan,
        output,
        made: Mutex::default(),
        decoded: AtomicU64::new(0),
        failure: Mutex::default(),
        entries: Mutex::default(),
    });
    let pipeline = build(&places.input, &run)?;
    if let Err(refusal) = follow(&pipeline, &run) {
        // A source that broke may hold its threads for ever; the end of the process takes them along.
        std::mem::forget(pipeline);
        return Err(refusal);
    }
    let reported = report_done(&run);
    std::mem::forget(pipeline);
    reported
}

fn report_done(run: &Run) -> Result<(), Refusal> {
    let (_, made_ms) = run.made_ms();
    let already_ms = u64::from(run.spec.resume_from - 1) * u64::from(run.spec.segment_seconds) * 1000;
    if made_ms == 0 && already_ms == 0 {
        return Err(Refusal::damaged("not one frame could be decoded"));
    }
    let duration_ms = made_ms.max(already_ms.min(run.plan.claimed_ms));
    let partial = duration_ms + u64::from(run.spec.segment_seconds) * 1000 < run.plan.claimed_ms;
    run.output.say(&Report::Done { duration_ms, partial }).map_err(|error| Refusal::of_io("report", &error))
}

fn build(input: &Path, run: &Arc<Run>) -> Result<gst::Pipeline, Refusal> {
    let pipeline = gst::Pipeline::new();
    let source = branches::element("filesrc")?;
    source.set_property("location", input);
    let decoder = branches::element("decodebin3")?;
    pipeline.add_many([&source, &decoder]).map_err(|e| Refusal::internal(e.to_string()))?;
    source.link(&decoder).map_err(|e| Refusal::internal(e.to_string()))?;
    branches::choose_streams(&decoder, &run.plan);
    let (weak, shared) = (pipeline.downgrade(), Arc::clone(run));
    decoder.connect_pad_added(move |_, pad| {
        let Some(pipeline) = weak.upgrade() else { return };
        if let Err(refusal) = branches::attach(&pipeline, pad, &shared) {
            shared.fail(refusal);
            gst::element_error!(pipeline, gst::CoreError::Failed, ("a branch could not be built"));
        }
    });
    Ok(pipeline)
}

/// Plays until the end, or until what was there is made.
fn follow(pipeline: &gst::Pipeline, run: &Arc<Run>) -> Result<(), Refusal> {
    let bus = pipeline.bus().ok_or_else(|| Refusal::internal("the pipeline has no bus"))?;
    let begun = Instant::now();
    let patience = Duration::from_millis(run.spec.limits.probe_timeout_ms);
    let mut told = (0, 0);
    let mut last_look = Instant::now();
    let mut draining: Option<(Instant, Refusal)> = None;
    if pipeline.set_state(gst::State::Playing).is_err() {
        return Err(Refusal::told_on(&bus).unwrap_or_else(|| Refusal::damaged("it can't be opened")));
    }
    loop {
        let message = bus.timed_pop_filtered(
            gst::ClockTime::from_mseconds(PROGRESS_EVERY.as_millis() as u64),
            &[gst::MessageType::Eos, gst::MessageType::Error],
        );
        if last_look.elapsed() >= PROGRESS_EVERY {
            last_look = Instant::now();
            tell_progress(run, &mut told)?;
        }
        match message.as_ref().map(|message| message.view()) {
            Some(gst::MessageView::Eos(_)) => return Ok(()),
            Some(gst::MessageView::Error(error)) => {
                if let Some(refusal) = run.failure() {
                    return Err(refusal);
                }
                // The first error names the cause; those after it are its echoes.
                if draining.is_none() {
                    draining = Some((Instant::now(), Refusal::of_gst(&error.error())));
                    end_branches(run);
                }
            }
            _ => {}
        }
        let nothing_decoded = run.decoded.load(Ordering::Relaxed) == 0;
        if nothing_decoded && begun.elapsed() > patience {
            return Err(Refusal::damaged("not one frame could be decoded in time"));
        }
        if let Some((since, refusal)) = &draining {
            if nothing_decoded {
                return Err(refusal.clone());
            }
            if since.elapsed() > DRAIN {
                return if run.made_ms().1 > 0 { Ok(()) } else { Err(refusal.clone()) };
            }
        }
    }
}

/// Ends every branch, so that the encoders hand out what they hold.
fn end_branches(run: &Run) {
    let entries: Vec<gst::Pad> = run.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for pad in entries {
        pad.send_event(gst::event::Eos::new());
    }
}

fn tell_progress(run: &Run, told: &mut (u64, u64)) -> Result<(), Refusal> {
    let (made_ms, _) = run.made_ms();
    let now = (made_ms, run.decoded.load(Ordering::Relaxed));
    if now == *told {
        return Ok(());
    }
    *told = now;
    run.output.say(&Report::Progress { made_ms }).map_err(|error| Refusal::of_io("report", &error))
}
