//! Milliseconds since 1970 on the inside, `google.protobuf.Timestamp` on the wire.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

/// Milliseconds since 1970, UTC.
pub type UnixMillis = i64;

/// The time now.
#[must_use]
pub fn now_ms() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// To the wire.
#[must_use]
pub fn to_timestamp(ms: UnixMillis) -> Timestamp {
    Timestamp { seconds: ms.div_euclid(1000), nanos: i32::try_from(ms.rem_euclid(1000)).unwrap_or(0) * 1_000_000 }
}

/// From the wire, cut to milliseconds.
#[must_use]
pub fn from_timestamp(timestamp: &Timestamp) -> UnixMillis {
    timestamp.seconds.saturating_mul(1000).saturating_add(i64::from(timestamp.nanos / 1_000_000))
}
