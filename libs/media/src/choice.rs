//! What a viewer wants of the renditions of a title.

use streamgate_proto::streamgate::media::v1::{Presentation, VideoRendition};

use crate::bandwidth::Bandwidth;

/// Largest side that anybody asks for.
const MAX_SIDE: u32 = 16_384;

/// Which renditions are wanted. The default is all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    /// Largest picture.
    pub largest: Option<Frame>,
    /// Most bits in a second, picture and sound together.
    pub bandwidth: Option<u64>,
}

/// A size that a picture must fit, lying or standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    short: u32,
    /// Absent when only the shorter side matters.
    long: Option<u32>,
}

impl std::fmt::Display for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.long {
            Some(long) => write!(f, "{long}x{}", self.short),
            None => write!(f, "{}", self.short),
        }
    }
}

/// A text that is no size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be the shorter side, such as 720 or 720p, or a size, such as 1280x720")]
pub struct BadFrame;

impl std::str::FromStr for Frame {
    type Err = BadFrame;

    fn from_str(text: &str) -> Result<Self, BadFrame> {
        let Some((width, height)) = text.split_once('x') else {
            return Ok(Self { short: side(text.strip_suffix('p').unwrap_or(text))?, long: None });
        };
        let (width, height) = (side(width)?, side(height)?);
        Ok(Self { short: width.min(height), long: Some(width.max(height)) })
    }
}

fn side(text: &str) -> Result<u32, BadFrame> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|side| plain && (1..=MAX_SIDE).contains(side)).ok_or(BadFrame)
}

impl Frame {
    fn holds(self, video: &VideoRendition) -> bool {
        let (short, long) = (video.width.min(video.height), video.width.max(video.height));
        short <= self.short && self.long.is_none_or(|most| long <= most)
    }
}

impl Choice {
    /// Whether everything is wanted.
    #[must_use]
    pub const fn is_all(&self) -> bool {
        self.largest.is_none() && self.bandwidth.is_none()
    }

    /// The same choice as it stands in a URL, such as `max_resolution=720&bandwidth=3000000`; empty for all.
    #[must_use]
    pub fn query(&self) -> String {
        let largest = self.largest.map(|frame| format!("max_resolution={frame}"));
        let bandwidth = self.bandwidth.map(|most| format!("bandwidth={most}"));
        largest.into_iter().chain(bandwidth).collect::<Vec<_>>().join("&")
    }

    /// The presentation with the pictures that fit. When none does, with the smallest, so that a title always plays.
    #[must_use]
    pub fn narrow(&self, presentation: &Presentation) -> Presentation {
        let sound = presentation.audio.as_ref().and_then(|audio| audio.track.as_ref()).map(Bandwidth::of).unwrap_or_default();
        let needs = |video: &VideoRendition| video.track.as_ref().map(Bandwidth::of).unwrap_or_default().and(sound).peak;
        let fits = |video: &&VideoRendition| {
            self.largest.is_none_or(|frame| frame.holds(video)) && self.bandwidth.is_none_or(|most| needs(video) <= most)
        };
        let mut video: Vec<VideoRendition> = presentation.video.iter().filter(fits).cloned().collect();
        if video.is_empty() {
            video.extend(presentation.video.iter().min_by_key(|video| needs(video)).cloned());
        }
        Presentation { video, audio: presentation.audio.clone(), poster: presentation.poster.clone(), ..scalars(presentation) }
    }
}

/// Everything but the files: cloning them only to throw them away would cost a long title megabytes.
fn scalars(presentation: &Presentation) -> Presentation {
    Presentation {
        content_id: presentation.content_id.clone(),
        job_id: presentation.job_id.clone(),
        complete: presentation.complete,
        revision: presentation.revision,
        source_duration_ms: presentation.source_duration_ms,
        version: presentation.version,
        stopped: presentation.stopped,
        playable_at_ms: presentation.playable_at_ms,
        ..Presentation::default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::samples::title;

    fn names(choice: Choice) -> Vec<String> {
        choice.narrow(&title()).video.into_iter().map(|video| video.name).collect()
    }

    fn up_to(text: &str) -> Vec<String> {
        names(Choice { largest: Some(text.parse().unwrap()), bandwidth: None })
    }

    #[test]
    fn a_size_is_its_shorter_side_or_a_box() {
        assert_eq!(up_to("480"), ["v480", "v360"]);
        assert_eq!(up_to("480p"), ["v480", "v360"]);
        assert_eq!(up_to("1280x720"), ["v720", "v480", "v360"]);
        assert_eq!(up_to("720x1280"), ["v720", "v480", "v360"], "a phone held upright");
        assert_eq!(up_to("800x720"), ["v360"], "853 is wider than the box");
    }

    #[test]
    fn a_bandwidth_counts_the_sound_too() {
        let title = title();
        let peak = |index: usize| Bandwidth::of(title.video[index].track.as_ref().unwrap()).peak;
        let sound = Bandwidth::of(title.audio.as_ref().unwrap().track.as_ref().unwrap()).peak;
        let of = |most| names(Choice { largest: None, bandwidth: Some(most) });
        assert_eq!(of(peak(1) + sound), ["v480", "v360"]);
        assert_eq!(of(peak(1) + sound - 1), ["v360"]);
    }

    #[test]
    fn the_smallest_is_left_when_nothing_fits() {
        assert_eq!(up_to("100"), ["v360"]);
        assert_eq!(names(Choice { largest: None, bandwidth: Some(1) }), ["v360"]);
        assert_eq!(names(Choice::default()), ["v720", "v480", "v360"]);
    }

    #[test]
    fn a_choice_reads_back_from_its_query() {
        let choice = Choice { largest: Some("720x1280".parse().unwrap()), bandwidth: Some(3_000_000) };
        assert_eq!(choice.query(), "max_resolution=1280x720&bandwidth=3000000");
        assert_eq!("1280x720".parse(), Ok(choice.largest.unwrap()));
        assert_eq!(Choice::default().query(), "");
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for bad in ["", "p", "0", "-1", "+720", "720px", "1280x", "x720", "1280x720x2", "99999999999", "16385", "7 20"] {
            assert_eq!(bad.parse::<Frame>(), Err(BadFrame), "{bad}");
        }
    }
}
