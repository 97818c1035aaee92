//! The poster: one frame of the smallest rung as JPEG.

use std::sync::Arc;

use gstreamer as gst;
use streamgate_media::encoder_protocol::Report;

use crate::{output::Output, refusal::Refusal};

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
