//! Settings of the section `streaming`.

use serde::Deserialize;

/// Longest session: half a day, so that a stolen token ends on its own.
const MAX_SESSION_SECONDS: u32 = 12 * 3600;
/// A moved token must end playback within half a minute.
const MAX_RECHECK_SECONDS: u32 = 30;
/// Without an answer of the chain, playback may go on for so long at the most.
const MAX_KEEP_UNKNOWN_SECONDS: u32 = 300;

/// How sessions live and how often gates are checked.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Length of a session and of its token. A title plays to its end without asking for a new one.
    pub session_seconds: u32,
    /// A positive gate check counts for so long.
    pub recheck_seconds: u32,
    /// While a gate can't be checked, playback goes on for so long after the last positive check.
    pub keep_unknown_seconds: u32,
    /// Pause between attempts to check a gate that could not be checked.
    pub unknown_retry_ms: u32,
    /// How often all sessions in use are checked together.
    pub upkeep_seconds: u32,
    /// A session counts as in use for so long after a request.
    pub in_use_seconds: u32,
    /// How old the list of segments of a growing title may be.
    pub growing_fresh_ms: u32,
    /// How old the list of segments of a whole title may be.
    pub whole_fresh_seconds: u32,
    /// Sessions that one account may have at once. With one more, the one that was unused for longest ends.
    pub sessions_per_account: u32,
    /// A viewer who asked for nothing for so long counts as gone.
    pub stopped_after_seconds: u32,
    /// Rows of sessions are kept for so long after their end.
    pub keep_ended_hours: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            session_seconds: 4 * 3600,
            recheck_seconds: 10,
            keep_unknown_seconds: 60,
            unknown_retry_ms: 1_000,
            upkeep_seconds: 5,
            in_use_seconds: 60,
            growing_fresh_ms: 500,
            whole_fresh_seconds: 60,
            sessions_per_account: 50,
            stopped_after_seconds: 120,
            keep_ended_hours: 24 * 7,
        }
    }
}

impl Config {
    /// Says in one sentence which setting is wrong.
    ///
    /// # Errors
    /// That sentence.
    pub fn check(&self) -> Result<(), String> {
        let rules = [
            ("session_seconds", self.session_seconds, 60, MAX_SESSION_SECONDS),
            ("recheck_seconds", self.recheck_seconds, 1, MAX_RECHECK_SECONDS),
            ("keep_unknown_seconds", self.keep_unknown_seconds, 0, MAX_KEEP_UNKNOWN_SECONDS),
            ("unknown_retry_ms", self.unknown_retry_ms, 100, 60_000),
            ("upkeep_seconds", self.upkeep_seconds, 1, MAX_RECHECK_SECONDS),
            ("in_use_seconds", self.in_use_seconds, 10, 3_600),
            ("growing_fresh_ms", self.growing_fresh_ms, 50, 10_000),
            ("whole_fresh_seconds", self.whole_fresh_seconds, 1, 3_600),
            ("sessions_per_account", self.sessions_per_account, 1, 10_000),
            ("stopped_after_seconds", self.stopped_after_seconds, 60, 3_600),
            ("keep_ended_hours", self.keep_ended_hours, 1, 24 * 365),
        ];
        for (name, value, least, most) in rules {
            if !(least..=most).contains(&value) {
                return Err(format!("streaming.{name} is {value}, and must be {least} to {most}"));
            }
        }
        Ok(())
    }
}

impl streamgate_runtime::ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        self.check()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_a_long_recheck_is_refused() {
        assert_eq!(Config::default().check(), Ok(()));
        let slow = Config { recheck_seconds: 31, ..Config::default() };
        assert_eq!(slow.check(), Err("streaming.recheck_seconds is 31, and must be 1 to 30".to_owned()));
    }
}
