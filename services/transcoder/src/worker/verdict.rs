//! What the end of a child means for its job.

use super::child::Ended;

/// Longest sentence that is kept of a failure.
const MAX_DETAIL_CHARS: usize = 400;

/// Reasons that lie in the source: trying again would end the same way.
const FINAL: [&str; 9] = [
    "empty_file",
    "not_media",
    "no_media_streams",
    "damaged",
    "truncated",
    "hdr_not_supported",
    "too_large_dimensions",
    "too_long",
    "unsupported_codec",
];

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All is made.
    Done {
        /// Duration made.
        duration_ms: u64,
        /// Whether that is less than the source claims.
        partial: bool,
    },
    /// Nothing can be made of this source.
    Refused {
        /// Stable reason.
        reason: &'static str,
        /// A sentence about it.
        detail: String,
    },
    /// It may go better another time.
    Crashed(String),
    /// This machine is in trouble; the job is not.
    PutOff(String),
    /// Somebody wanted it stopped.
    Cancelled,
    /// This process stops.
    Stopped,
    /// Somebody else has the job.
    Lost,
}

impl Verdict {
    /// A refusal by its own words.
    pub(super) fn refused(reason: &'static str, detail: impl Into<String>) -> Self {
        Self::Refused { reason, detail: detail.into() }
    }

    /// What an error line means.
    pub(super) fn of_error(reason: &str, detail: &str) -> Self {
        let detail: String = detail.chars().filter(|letter| !letter.is_control()).take(MAX_DETAIL_CHARS).collect();
        if let Some(reason) = FINAL.into_iter().find(|known| *known == reason) {
            return Self::Refused { reason, detail };
        }
        match reason {
            "storage_full" | "sandbox_unavailable" => Self::PutOff(detail),
            _ => Self::Crashed(detail),
        }
    }

    /// What an end without a last word means.
    pub(super) fn of_silence(ended: &Ended) -> Self {
        const SIGXCPU: i32 = 24;
        const SIGXFSZ: i32 = 25;
        let starved = ["failed to allocate", "out of memory", "cannot allocate", "memory allocation"];
        let complaint = ended.complaint.to_ascii_lowercase();
        if starved.iter().any(|words| complaint.contains(words)) {
            return Self::refused(
                "out_of_memory",
                "the file needs more memory than an encoder is given; export it at a smaller size",
            );
        }
        match ended.signal {
            Some(SIGXCPU) => Self::refused("timed_out", "encoding took more time than is given to one file"),
            Some(SIGXFSZ) => Self::refused("damaged", "a segment of the file grew beyond all measure"),
            Some(signal) => Self::Crashed(format!("the encoder was ended by signal {signal}")),
            None => Self::Crashed(format!("the encoder ended with code {} and no result", ended.code.unwrap_or(-1))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(signal: Option<i32>, complaint: &str) -> Ended {
        Ended { signal, code: None, complaint: complaint.to_owned() }
    }

    #[test]
    fn a_named_refusal_is_final_and_an_unknown_one_is_a_crash() {
        assert_eq!(Verdict::of_error("damaged", "the file\nis"), Verdict::refused("damaged", "the fileis"));
        assert!(matches!(Verdict::of_error("encoder_failed", "x"), Verdict::Crashed(_)));
        assert!(matches!(Verdict::of_error("storage_full", "x"), Verdict::PutOff(_)));
    }

    #[test]
    fn a_starved_child_is_told_from_a_crashed_one() {
        let starved = Verdict::of_silence(&ended(Some(5), "GLib-ERROR: gmem.c: failed to allocate 3110400 bytes"));
        assert!(matches!(starved, Verdict::Refused { reason: "out_of_memory", .. }));
        assert!(matches!(Verdict::of_silence(&ended(Some(11), "")), Verdict::Crashed(_)));
        assert!(matches!(Verdict::of_silence(&ended(Some(24), "")), Verdict::Refused { reason: "timed_out", .. }));
    }
}
