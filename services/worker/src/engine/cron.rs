//! Cron expressions on the clock of a time zone, and what becomes of times that were missed.
//!
//! A change of the clock neither skips nor repeats a job of a fixed time: a time that the clock leaps
//! over counts at the first moment after the gap, and one that comes twice counts once.

use std::str::FromStr as _;

use jiff::{Timestamp, Zoned, tz::TimeZone};
use streamgate_core::time::UnixMillis;

/// Longest expression that is read.
const MAX_EXPRESSION: usize = 200;
/// Jobs made at once for times that were missed.
pub const MAX_CATCH_UP: usize = 100;
/// A time that is so late is not missed: clocks and workers need a moment.
const ON_TIME_MS: i64 = 60_000;

/// What is wrong with an expression or its zone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCron {
    /// The expression.
    #[error("must be five fields such as \"30 3 * * *\": minute, hour, day, month, weekday")]
    Expression,
    /// It matches no time.
    #[error("matches no time")]
    Never,
    /// The zone.
    #[error("must be a time zone such as \"Europe/Berlin\"")]
    Zone,
}

/// What a schedule does about missed times. The numbers are those of the contract's `CatchUp`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CatchUp {
    /// Nothing.
    Skip = 1,
    /// One job for all of them.
    #[default]
    Once = 2,
    /// One for each, the newest [`MAX_CATCH_UP`] at the most.
    All = 3,
}

impl CatchUp {
    /// The policy with this number; nought is the usual one.
    #[must_use]
    pub const fn of_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Skip),
            0 | 2 => Some(Self::Once),
            3 => Some(Self::All),
            _ => None,
        }
    }
}

/// An expression and its zone.
#[derive(Debug, Clone)]
pub struct Cron {
    pattern: croner::Cron,
    zone: TimeZone,
}

impl Cron {
    /// Reads both. An empty zone is UTC.
    ///
    /// # Errors
    /// Which of them is wrong.
    pub fn parse(expression: &str, zone: &str) -> Result<Self, BadCron> {
        let has_five_fields = expression.split_whitespace().count() == 5 && expression.len() <= MAX_EXPRESSION;
        if !has_five_fields || !expression.is_ascii() {
            return Err(BadCron::Expression);
        }
        let pattern = croner::Cron::from_str(expression).map_err(|_| BadCron::Expression)?;
        let zone = if zone.is_empty() { TimeZone::UTC } else { TimeZone::get(zone).map_err(|_| BadCron::Zone)? };
        Ok(Self { pattern, zone })
    }

    fn at(&self, ms: UnixMillis) -> Option<Zoned> {
        Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(self.zone.clone()))
    }

    /// The first time after `ms`.
    ///
    /// # Errors
    /// When there is none.
    pub fn after(&self, ms: UnixMillis) -> Result<UnixMillis, BadCron> {
        let from = self.at(ms).ok_or(BadCron::Never)?;
        let next = self.pattern.find_next_occurrence(&from, false).map_err(|_| BadCron::Never)?;
        Ok(next.timestamp().as_millisecond())
    }

    /// The times from `first` to `now`, the newest last, and only the newest `most`.
    fn between(&self, first: UnixMillis, now: UnixMillis, most: usize) -> Vec<UnixMillis> {
        let mut found = Vec::new();
        let mut inclusive = true;
        let mut from = self.at(now);
        while let Some(start) = from.take().filter(|_| found.len() < most) {
            let Ok(time) = self.pattern.find_previous_occurrence(&start, inclusive) else { break };
            let ms = time.timestamp().as_millisecond();
            if ms < first {
                break;
            }
            found.push(ms);
            (from, inclusive) = (Some(time), false);
        }
        found.reverse();
        found
    }

    /// The times for which a job is queued now, when `next` was the next one to come.
    #[must_use]
    pub fn due(&self, policy: CatchUp, next: UnixMillis, now: UnixMillis) -> Vec<UnixMillis> {
        if next > now {
            return Vec::new();
        }
        match policy {
            CatchUp::Skip => self.between(next.max(now - ON_TIME_MS), now, 1),
            CatchUp::Once => self.between(next, now, 1),
            CatchUp::All => self.between(next, now, MAX_CATCH_UP),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_millisecond()
    }

    fn shown(times: &[i64]) -> Vec<String> {
        times.iter().map(|ms| Timestamp::from_millisecond(*ms).unwrap().to_string()).collect()
    }

    #[test]
    fn an_expression_follows_the_clock_of_its_zone() {
        let berlin = Cron::parse("30 3 * * *", "Europe/Berlin").unwrap();
        assert_eq!(berlin.after(ms("2026-01-10T00:00:00Z")), Ok(ms("2026-01-10T02:30:00Z")), "winter");
        assert_eq!(berlin.after(ms("2026-07-10T00:00:00Z")), Ok(ms("2026-07-10T01:30:00Z")), "summer");
        let plain = Cron::parse("30 3 * * *", "").unwrap();
        assert_eq!(plain.after(ms("2026-07-10T03:30:00Z")), Ok(ms("2026-07-11T03:30:00Z")), "never the same time again");
    }

    #[test]
    fn a_change_of_the_clock_neither_skips_nor_repeats() {
        let berlin = Cron::parse("30 2 * * *", "Europe/Berlin").unwrap();
        // 2026-03-29, 02:00 becomes 03:00; 2026-10-25, 03:00 becomes 02:00.
        let spring = berlin.due(CatchUp::All, ms("2026-03-28T01:30:00Z"), ms("2026-03-30T12:00:00Z"));
        assert_eq!(spring.len(), 3, "{:?}", shown(&spring));
        let autumn = berlin.due(CatchUp::All, ms("2026-10-24T00:30:00Z"), ms("2026-10-26T12:00:00Z"));
        assert_eq!(autumn.len(), 3, "{:?}", shown(&autumn));
    }

    #[test]
    fn missed_times_are_skipped_made_good_once_or_all_with_a_bound() {
        let cron = Cron::parse("*/10 * * * *", "").unwrap();
        let (next, now) = (ms("2026-05-01T00:00:00Z"), ms("2026-05-01T01:05:00Z"));
        assert_eq!(cron.due(CatchUp::Skip, next, now), Vec::<i64>::new());
        assert_eq!(shown(&cron.due(CatchUp::Once, next, now)), ["2026-05-01T01:00:00Z"]);
        assert_eq!(cron.due(CatchUp::All, next, now).len(), 7);
        let late = cron.due(CatchUp::All, next, ms("2027-05-01T00:00:00Z"));
        assert_eq!((late.len(), late.last()), (MAX_CATCH_UP, Some(&ms("2027-05-01T00:00:00Z"))));
        for policy in [CatchUp::Skip, CatchUp::Once, CatchUp::All] {
            assert_eq!(shown(&cron.due(policy, next, next + 900)), ["2026-05-01T00:00:00Z"], "in time: {policy:?}");
            assert_eq!(cron.due(policy, next, next - 1), Vec::<i64>::new(), "too early");
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in ["", "* * * *", "* * * * * *", "60 * * * *", "a b c d e", "@daily", "* * * * é", "*/0 * * * *"] {
            assert_eq!(Cron::parse(bad, "").unwrap_err(), BadCron::Expression, "{bad:?}");
        }
        assert_eq!(Cron::parse("* * * * *", "Mars/Base").unwrap_err(), BadCron::Zone);
        let never = Cron::parse("0 0 30 2 *", "").map(|cron| cron.after(0));
        assert!(matches!(never, Ok(Err(BadCron::Never)) | Err(BadCron::Expression)), "{never:?}");
    }
}
