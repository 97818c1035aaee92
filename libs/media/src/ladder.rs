//! Which sizes and rates are made from a source.

use serde::{Deserialize, Serialize};

/// One step that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Shorter side in pixels.
    pub short_side: u32,
    /// Most bits in a second, in thousands.
    pub max_kbps: u32,
}

/// The steps of the default ladder, largest first.
pub const DEFAULT_STEPS: [Step; 4] = [
    Step { short_side: 1080, max_kbps: 5000 },
    Step { short_side: 720, max_kbps: 2500 },
    Step { short_side: 480, max_kbps: 1000 },
    Step { short_side: 360, max_kbps: 500 },
];

/// One rendition to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rung {
    /// Stable name, such as `v720`.
    pub name: String,
    /// Even width in square pixels.
    pub width: u32,
    /// Even height in square pixels.
    pub height: u32,
    /// Most bits in a second, in thousands.
    pub max_kbps: u32,
}

/// A source that misses a step by less than this part is made at its own size in that step's
/// place: a 1916x1076 recording is a 1080p source to everybody but a ruler.
const NEARLY: f64 = 0.95;

/// The renditions of a source that is shown at `width` by `height` square pixels: each step
/// that needs no enlarging, by the shorter side, largest first. A source below every
/// step gets one rendition at its own size.
#[must_use]
pub fn rungs(width: u32, height: u32, steps: &[Step]) -> Vec<Rung> {
    let short = width.min(height);
    let mut steps = steps.to_vec();
    steps.sort_by_key(|step| std::cmp::Reverse(step.short_side));
    let mut made: Vec<Rung> = Vec::new();
    for step in &steps {
        let nearly = f64::from(short) >= f64::from(step.short_side) * NEARLY;
        if short >= step.short_side || (nearly && made.is_empty()) {
            made.push(rung(width, height, step.short_side.min(short), step.short_side, step.max_kbps));
        }
    }
    if made.is_empty() {
        let max_kbps = steps.last().map_or(500, |step| step.max_kbps);
        made.push(rung(width, height, short, even(short), max_kbps));
    }
    made
}

fn rung(width: u32, height: u32, target: u32, label: u32, max_kbps: u32) -> Rung {
    let short = width.min(height).max(1);
    let scale = |side: u32| even(rounded(u64::from(side) * u64::from(target), u64::from(short)));
    Rung { name: format!("v{label}"), width: scale(width), height: scale(height), max_kbps }
}

/// The nearest even number not above, at least 2: 4:2:0 has no odd sizes.
fn even(side: u32) -> u32 {
    (side & !1).max(2)
}

fn rounded(numerator: u64, denominator: u64) -> u32 {
    u32::try_from((numerator + denominator / 2) / denominator).unwrap_or(u32::MAX)
}

/// A frame rate as a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRate {
    /// Frames.
    pub num: u32,
    /// In so many seconds.
    pub den: u32,
}

const STANDARD_RATES: [FrameRate; 13] = [
    FrameRate { num: 5, den: 1 },
    FrameRate { num: 10, den: 1 },
    FrameRate { num: 12, den: 1 },
    FrameRate { num: 15, den: 1 },
    FrameRate { num: 24_000, den: 1001 },
    FrameRate { num: 24, den: 1 },
    FrameRate { num: 25, den: 1 },
    FrameRate { num: 30_000, den: 1001 },
    FrameRate { num: 30, den: 1 },
    FrameRate { num: 48, den: 1 },
    FrameRate { num: 50, den: 1 },
    FrameRate { num: 60_000, den: 1001 },
    FrameRate { num: 60, den: 1 },
];

impl FrameRate {
    /// What is assumed of a source that does not say its rate.
    pub const UNKNOWN: Self = Self { num: 30, den: 1 };

    /// The standard rate nearest to a source's: kept up to 60, halved above, so that
    /// every frame sits on an exact grid.
    #[must_use]
    pub fn standard(num: u32, den: u32) -> Self {
        if num == 0 || den == 0 {
            return Self::UNKNOWN;
        }
        let mut rate = f64::from(num) / f64::from(den);
        while rate > 61.0 {
            rate /= 2.0;
        }
        let distance = |candidate: &Self| (candidate.as_f64() / rate).ln().abs();
        STANDARD_RATES.into_iter().min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(Self::UNKNOWN)
    }

    /// Frames in a second.
    #[must_use]
    pub fn as_f64(self) -> f64 {
        f64::from(self.num) / f64::from(self.den)
    }

    /// Ticks in a second for a track at this rate; a frame is a whole number of them.
    #[must_use]
    pub const fn timescale(self) -> u32 {
        if self.num >= 1000 { self.num } else { self.num * 1000 }
    }

    /// Ticks of one frame.
    #[must_use]
    pub const fn frame_ticks(self) -> u32 {
        if self.num >= 1000 { self.den } else { self.den * 1000 }
    }

    /// Frames in a segment of about `seconds`.
    #[must_use]
    pub fn frames_in(self, seconds: u32) -> u32 {
        rounded(u64::from(seconds) * u64::from(self.num), u64::from(self.den)).max(1)
    }

    /// The frame nearest to `nanos` after the start.
    #[must_use]
    pub fn frame_at(self, nanos: u64) -> u64 {
        let scaled = u128::from(nanos) * u128::from(self.num);
        let frame = u128::from(self.den) * 1_000_000_000;
        u64::try_from((scaled + frame / 2) / frame).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(width: u32, height: u32) -> Vec<(String, u32, u32)> {
        rungs(width, height, &DEFAULT_STEPS).into_iter().map(|r| (r.name, r.width, r.height)).collect()
    }

    #[test]
    fn a_full_hd_source_gets_four_rungs() {
        let expected = [("v1080", 1920, 1080), ("v720", 1280, 720), ("v480", 852, 480), ("v360", 640, 360)];
        assert_eq!(sizes(1920, 1080), expected.map(|(n, w, h)| (n.to_owned(), w, h)));
        assert_eq!(sizes(3840, 2160)[0], ("v1080".to_owned(), 1920, 1080));
    }

    #[test]
    fn a_portrait_source_is_measured_by_its_short_side() {
        assert_eq!(
            sizes(720, 1280),
            [("v720".to_owned(), 720, 1280), ("v480".to_owned(), 480, 852), ("v360".to_owned(), 360, 640)]
        );
    }

    #[test]
    fn a_small_source_is_made_once_and_never_enlarged() {
        assert_eq!(sizes(640, 272), [("v272".to_owned(), 640, 272)]);
        assert_eq!(sizes(177, 145), [("v144".to_owned(), 176, 144)]);
        assert_eq!(sizes(1, 1), [("v2".to_owned(), 2, 2)]);
    }

    #[test]
    fn a_source_that_just_misses_a_step_keeps_its_size() {
        assert_eq!(sizes(1916, 1076)[0], ("v1080".to_owned(), 1916, 1076));
        assert_eq!(sizes(1916, 1076).len(), 4);
    }

    #[test]
    fn no_rung_is_larger_than_the_source_or_odd() {
        for (width, height) in [(641, 361), (1919, 1079), (999, 2000), (5000, 500)] {
            for rung in rungs(width, height, &DEFAULT_STEPS) {
                assert!(rung.width <= width && rung.height <= height, "{rung:?}");
                assert!(rung.width.is_multiple_of(2) && rung.height.is_multiple_of(2), "{rung:?}");
            }
        }
    }

    #[test]
    fn rates_are_kept_to_60_and_brought_to_a_standard() {
        let cases = [
            ((25, 1), (25, 1)),
            ((30_000, 1001), (30_000, 1001)),
            ((2997, 100), (30_000, 1001)),
            ((27_100, 1000), (25, 1)),
            ((120, 1), (60, 1)),
        ];
        for ((num, den), (want_num, want_den)) in cases {
            assert_eq!(FrameRate::standard(num, den), FrameRate { num: want_num, den: want_den }, "{num}/{den}");
        }
        assert_eq!(FrameRate::standard(0, 1), FrameRate::UNKNOWN);
    }

    #[test]
    fn frames_sit_on_an_exact_grid() {
        let rate = FrameRate { num: 30_000, den: 1001 };
        assert_eq!((rate.timescale(), rate.frame_ticks(), rate.frames_in(2)), (30_000, 1001, 60));
        let film = FrameRate { num: 25, den: 1 };
        assert_eq!((film.timescale(), film.frame_ticks(), film.frames_in(2)), (25_000, 1000, 50));
        for frame in [0_u64, 1, 59, 60, 215_999] {
            assert_eq!(rate.frame_at(frame * 1_001_000_000 / 30), frame);
        }
    }
}
