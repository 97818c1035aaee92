//! A presentation for the wire in few bytes.
//!
//! Nearly all of a long title's presentation can be told from the rest: where a segment begins and how long it is from the one
//! before it, its path from its number. A title of 12 hours in eight sizes would be a message of 14 MB, which no caller takes;
//! without that it is one of 1.2 MB.

use streamgate_proto::streamgate::media::v1::{Presentation, Segment, Track};

/// Leaves out of the segments what [`restore`] finds again: each number, start and duration that follows from the segment
/// before is 0, and each path that follows from the number is empty. None of these values is one that a segment has; but for
/// the start of a track, which is restored as 0.
pub fn shorten(presentation: &mut Presentation) {
    for_each_track(presentation, |track, folder| {
        let mut before = Segment::default();
        for segment in &mut track.segments {
            let whole = std::mem::take(segment);
            let told = follower(&before, folder, whole.number);
            *segment = Segment {
                number: if whole.number == told.number { 0 } else { whole.number },
                start: if whole.start == told.start { 0 } else { whole.start },
                duration: if whole.duration == told.duration { 0 } else { whole.duration },
                size_bytes: whole.size_bytes,
                path: if whole.path == told.path { String::new() } else { whole.path.clone() },
            };
            before = whole;
        }
    });
}

/// Fills in what [`shorten`] left out. A presentation that is whole stays as it is.
pub fn restore(presentation: &mut Presentation) {
    for_each_track(presentation, |track, folder| {
        let mut before = Segment::default();
        for segment in &mut track.segments {
            let told = follower(&before, folder, segment.number);
            if segment.number == 0 {
                segment.number = told.number;
            }
            if segment.start == 0 {
                segment.start = told.start;
            }
            if segment.duration == 0 {
                segment.duration = told.duration;
            }
            if segment.path.is_empty() {
                segment.path = told.path;
            }
            before = Segment { path: String::new(), ..segment.clone() };
        }
    });
}

/// What can be told of the segment after `before`; its path by `number`, when that is given.
fn follower(before: &Segment, folder: &str, number: u32) -> Segment {
    let next = before.number.saturating_add(1);
    let named = if number == 0 { next } else { number };
    Segment {
        number: next,
        start: before.start.saturating_add(before.duration),
        duration: before.duration,
        size_bytes: 0,
        path: format!("{folder}/{named:05}.m4s"),
    }
}

/// Calls `change` with each track and the folder of its files.
fn for_each_track(presentation: &mut Presentation, mut change: impl FnMut(&mut Track, &str)) {
    let Presentation { job_id, video, audio, .. } = presentation;
    let pictures = video.iter_mut().map(|video| (&video.name, &mut video.track));
    let sound = audio.iter_mut().map(|audio| (&audio.name, &mut audio.track));
    for (name, track) in pictures.chain(sound) {
        if let Some(track) = track {
            change(track, &format!("{job_id}/{name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::samples;

    fn segments(presentation: &mut Presentation) -> &mut Vec<Segment> {
        &mut presentation.video[0].track.as_mut().unwrap().segments
    }

    #[test]
    fn what_follows_from_the_rest_is_left_out() {
        let whole = samples::title();
        let mut short = whole.clone();
        shorten(&mut short);
        assert_eq!(
            segments(&mut short)[1],
            Segment { size_bytes: segments(&mut whole.clone())[1].size_bytes, ..Default::default() }
        );
        restore(&mut short);
        assert_eq!(short, whole);
        restore(&mut short);
        assert_eq!(short, whole, "a whole one stays as it is");
    }

    proptest! {
        #[test]
        fn whatever_is_shortened_is_found_again(
            first in 0_u32..3,
            rows in prop::collection::vec((1_u64..4, 1_u64..1000, prop::option::of("[a-z]{1,9}")), 0..30),
        ) {
            let mut whole = samples::title();
            let (mut start, mut number, job) = (0, first, whole.job_id.clone());
            *segments(&mut whole) = rows.into_iter().map(|(duration, size_bytes, path)| {
                number += 1;
                let path = path.unwrap_or_else(|| format!("{job}/v720/{number:05}.m4s"));
                start += duration;
                Segment { number, start: start - duration, duration, size_bytes, path }
            }).collect();
            let mut short = whole.clone();
            shorten(&mut short);
            restore(&mut short);
            prop_assert_eq!(short, whole);
        }
    }
}
