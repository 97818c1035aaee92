//! Ids as types: a prefix that says what it is, then 32 hex digits.

use std::{fmt, str::FromStr};

/// A string that is not an id of the expected kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {prefix}_ followed by 32 lower-case hex digits")]
pub struct BadId {
    /// The prefix that was expected.
    pub prefix: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $new:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// What every id of this kind begins with.
            pub const PREFIX: &'static str = $prefix;

            /// A new id, different from every other.
            #[must_use]
            #[allow(clippy::new_without_default, reason = "an id is made, not defaulted")]
            pub fn new() -> Self {
                Self(format!(concat!($prefix, "_{}"), uuid::Uuid::$new().simple()))
            }

            /// The id as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                match text.strip_prefix(concat!($prefix, "_")) {
                    Some(digits) if is_hex32(digits) => Ok(Self(text.to_owned())),
                    _ => Err(BadId { prefix: $prefix }),
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

fn is_hex32(digits: &str) -> bool {
    digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

id!(
    /// One upload of one file. Ordered by time.
    UploadId, "upl", now_v7
);
id!(
    /// A title; private to its owner. Ordered by time.
    ContentId, "cnt", now_v7
);
id!(
    /// A public name under which a title is played. Random: it can't be guessed.
    PlaybackId, "pbk", new_v4
);
id!(
    /// One playback by one viewer. Random: it can't be guessed.
    SessionId, "ses", new_v4
);
id!(
    /// A job of the transcoder or the worker. Ordered by time.
    JobId, "job", now_v7
);
id!(
    /// An account: a wallet or an API key that acts. Ordered by time.
    AccountId, "acc", now_v7
);
id!(
    /// A sign-in challenge. Random: it can't be guessed.
    ChallengeId, "chl", new_v4
);
id!(
    /// The public part of an API key. Ordered by time.
    ApiKeyId, "key", now_v7
);
id!(
    /// An event; a consumer that has seen it does nothing. Ordered by time.
    EventId, "evt", now_v7
);
id!(
    /// An endpoint that events are sent to. Ordered by time.
    WebhookId, "whk", now_v7
);
id!(
    /// One event on its way to one endpoint. Ordered by time.
    DeliveryId, "dlv", now_v7
);
id!(
    /// An alert. Ordered by time.
    AlertId, "alr", now_v7
);
id!(
    /// A line of the log. Ordered by time.
    LogLineId, "log", now_v7
);
id!(
    /// An entry of the audit log. Ordered by time.
    AuditEntryId, "aud", now_v7
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_from_its_text() {
        let id = ContentId::new();
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn an_id_of_another_kind_is_refused() {
        let other = UploadId::new().to_string();
        assert_eq!(other.parse::<ContentId>(), Err(BadId { prefix: "cnt" }));
        for bad in ["", "cnt_", "cnt_XYZ", "cnt_0123456789abcdef0123456789abcdeF", "cnt_0123456789abcdef0123456789abcdef0"] {
            assert!(bad.parse::<ContentId>().is_err(), "{bad}");
        }
    }
}
