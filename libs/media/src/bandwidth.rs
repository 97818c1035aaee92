//! Bit rates of a track, measured from its segments.

use streamgate_proto::streamgate::media::v1::Track;

/// What a track needs of the line, in bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bandwidth {
    /// The largest rate of any run of segments that lasts 0.5 to 1.5 target durations (RFC 8216, 4.3.4.2).
    pub peak: u64,
    /// All bits over the whole duration.
    pub average: u64,
}

impl Bandwidth {
    /// Measures `track`. All zero without segments.
    #[must_use]
    pub fn of(track: &Track) -> Self {
        let (bytes, ticks) = track.segments.iter().fold((0, 0), |(bytes, ticks), s| (bytes + s.size_bytes, ticks + s.duration));
        let average = rate(bytes, ticks, track.timescale);
        // A title shorter than every window has its average as its peak.
        Self { peak: peak(track).max(average), average }
    }

    /// Both tracks played together.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self { peak: self.peak + other.peak, average: self.average + other.average }
    }
}

/// A last segment of a few frames says little about the line, so runs of segments are measured, not each segment alone.
fn peak(track: &Track) -> u64 {
    let target = track.segments.iter().map(|s| s.duration).max().unwrap_or(0);
    let mut highest = 0;
    for first in 0..track.segments.len() {
        let (mut bytes, mut ticks) = (0, 0);
        for segment in &track.segments[first..] {
            bytes += segment.size_bytes;
            ticks += segment.duration;
            if ticks * 2 > target * 3 {
                break;
            }
            if ticks * 2 >= target {
                highest = highest.max(rate(bytes, ticks, track.timescale));
            }
        }
    }
    highest
}

/// Bits a second, rounded up.
fn rate(bytes: u64, ticks: u64, timescale: u32) -> u64 {
    if ticks == 0 {
        return 0;
    }
    let bits = u128::from(bytes) * 8 * u128::from(timescale);
    u64::try_from(bits.div_ceil(u128::from(ticks))).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::track;

    #[test]
    fn the_peak_is_the_largest_rate_and_the_average_is_over_all() {
        let mut measured = track("v", 1000, 0, &[2000, 2000], 1000);
        measured.segments[1].size_bytes = 3000;
        assert_eq!(Bandwidth::of(&measured), Bandwidth { peak: 12_000, average: 8_000 });
    }

    #[test]
    fn a_short_last_segment_does_not_set_the_peak_alone() {
        let mut measured = track("v", 1000, 0, &[2000, 40], 1000);
        measured.segments[1].size_bytes = 1000;
        // 2000 bytes over 2.04 s, rather than 1000 bytes over 0.04 s.
        assert_eq!(Bandwidth::of(&measured).peak, 7_844);
    }

    #[test]
    fn a_track_without_segments_needs_nothing() {
        assert_eq!(Bandwidth::of(&Track::default()), Bandwidth::default());
    }
}
