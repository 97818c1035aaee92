//! What a round does, and when.

use std::{fmt, time::Duration};

use super::dice::Dice;

/// The services that are killed.
pub const SERVICES: [&str; 9] =
    ["gateway", "upload", "transcoder", "streaming", "metadata", "cache", "auth", "worker", "monitor"];

/// A part of a title's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Its bytes are sent.
    Upload,
    /// Its segments are made.
    Transcode,
    /// It is named, gated and shown.
    Publish,
    /// It is played.
    Play,
}

impl Phase {
    /// All of them, in the order of a title's life.
    pub const ALL: [Self; 4] = [Self::Upload, Self::Transcode, Self::Publish, Self::Play];

    /// Milliseconds after its begin within which the kill falls: about as long as the part takes.
    const fn span_ms(self) -> u64 {
        match self {
            Self::Upload => 400,
            Self::Transcode => 2_000,
            Self::Publish => 80,
            Self::Play => 400,
        }
    }
}

/// When which service is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The service that dies.
    pub service: &'static str,
    /// Decides everything else.
    pub seed: u64,
    /// The part of the title's life in which it dies.
    pub phase: Phase,
    /// How long after the begin of that part.
    pub delay: Duration,
}

impl Plan {
    /// What a seed means for a service. Four seeds in a row cover the four parts.
    #[must_use]
    pub fn of(service: &'static str, seed: u64) -> Self {
        let mut dice = Dice::of(seed, service);
        let phase = Phase::ALL[usize::try_from(seed % 4).unwrap_or_default()];
        Self { service, seed, phase, delay: Duration::from_millis(dice.below(phase.span_ms())) }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, seed, phase, delay } = self;
        write!(f, "{service}, seed {seed}: killed {} ms into {phase:?}", delay.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_means_the_same_and_four_in_a_row_cover_a_life() {
        assert_eq!(Plan::of("upload", 7), Plan::of("upload", 7));
        assert_ne!(Plan::of("upload", 7).delay, Plan::of("worker", 7).delay);
        let phases: Vec<Phase> = (8..12).map(|seed| Plan::of("auth", seed).phase).collect();
        assert_eq!(phases, Phase::ALL);
    }
}
