//! Milliseconds since 1970 on the inside, `google.protobuf.Timestamp` on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// Milliseconds since 1970, UTC.
pub type UnixMillis = i64;

/// The first and the last second that a `google.protobuf.Timestamp` can say, and JSON can show: the years 1 to 9999.
const WIRE_SECONDS: (i64, i64) = (-62_135_596_800, 253_402_300_799);
/// The same to the millisecond.
const WIRE_MS: (UnixMillis, UnixMillis) = (WIRE_SECONDS.0 * 1000, WIRE_SECONDS.1 * 1000 + 999);

/// The time now.
#[must_use]
pub fn now_ms() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// To the wire; a time that it can't say becomes the nearest that it can.
#[must_use]
pub fn to_timestamp(ms: UnixMillis) -> Timestamp {
    let ms = ms.clamp(WIRE_MS.0, WIRE_MS.1);
    Timestamp { seconds: ms.div_euclid(1000), nanos: i32::try_from(ms.rem_euclid(1000)).unwrap_or(0) * 1_000_000 }
}

/// From the wire, cut to milliseconds; seconds that no calendar has become the nearest that one has.
#[must_use]
pub fn from_timestamp(timestamp: &Timestamp) -> UnixMillis {
    let ms = timestamp.seconds.saturating_mul(1000).saturating_add(i64::from(timestamp.nanos / 1_000_000));
    ms.clamp(WIRE_MS.0, WIRE_MS.1)
}

/// From the wire, cut to milliseconds; absent when it says no time of the years 1 to 9999.
#[must_use]
pub fn exactly(timestamp: &Timestamp) -> Option<UnixMillis> {
    let is_a_time =
        (WIRE_SECONDS.0..=WIRE_SECONDS.1).contains(&timestamp.seconds) && (0..1_000_000_000).contains(&timestamp.nanos);
    is_a_time.then(|| from_timestamp(timestamp))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_beyond_the_calendar_becomes_its_end_both_ways() {
        let beyond = Timestamp { seconds: i64::MIN, nanos: i32::MIN };
        assert_eq!(from_timestamp(&beyond), WIRE_MS.0);
        assert_eq!(to_timestamp(i64::MAX), Timestamp { seconds: 253_402_300_799, nanos: 999_000_000 });
        assert_eq!(from_timestamp(&to_timestamp(-1)), -1);
        assert_eq!(exactly(&beyond), None);
        assert_eq!(exactly(&to_timestamp(i64::MAX)), Some(WIRE_MS.1));
        assert_eq!(exactly(&Timestamp { seconds: 0, nanos: -1 }), None);
    }
}
