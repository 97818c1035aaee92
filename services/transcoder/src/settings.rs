//! With which settings a job is made: named profiles, and a ladder of its own.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use streamgate_core::{Failure, FieldViolation};
use streamgate_media::ladder::Step;

use crate::Config;

/// Name of the profile that is used when none is named.
pub const DEFAULT_PROFILE: &str = "default";
/// Most steps of a ladder.
pub const MAX_STEPS: usize = 8;

/// What the encoder is told. It is kept with the job, so that every attempt makes the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// x264 speed preset.
    pub preset: String,
    /// Constant rate factor.
    pub quality: u32,
    /// Rungs that may be made.
    pub steps: Vec<Step>,
    /// Bits in a second of the sound, in thousands.
    pub audio_kbps: u32,
}

/// A named set of settings. What is absent is as in the configuration itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Rungs that may be made.
    pub steps: Option<Vec<Step>>,
    /// x264 speed preset.
    pub preset: Option<String>,
    /// Constant rate factor.
    pub quality: Option<u32>,
    /// Bits in a second of the sound, in thousands.
    pub audio_kbps: Option<u32>,
}

/// All profiles, complete.
#[derive(Debug, Clone)]
pub struct Profiles(BTreeMap<String, Settings>);

impl Profiles {
    /// The configured profiles, and the default one.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let default = config.settings();
        let mut all: BTreeMap<String, Settings> =
            config.profiles.iter().map(|(name, profile)| (name.clone(), profile.over(&default))).collect();
        all.insert(DEFAULT_PROFILE.to_owned(), default);
        Self(all)
    }

    /// The settings of a profile with a ladder in place of its own, if one is given.
    ///
    /// # Errors
    /// Fields that are wrong.
    pub fn settings(&self, profile: &str, ladder: &[Step]) -> Result<Settings, Failure> {
        let Some(settings) = self.0.get(profile) else {
            let names: Vec<&str> = self.0.keys().map(String::as_str).collect();
            return Err(Failure::invalid_field("profile", format!("must be one of {}", names.join(", "))));
        };
        let wrong = wrong_steps("ladder", ladder);
        if !wrong.is_empty() {
            return Err(Failure::invalid(wrong));
        }
        let steps = if ladder.is_empty() { settings.steps.clone() } else { ladder.to_vec() };
        Ok(Settings { steps, ..settings.clone() })
    }

    /// The settings of a job: those it was queued with, or the default for jobs of old.
    #[must_use]
    pub fn kept(&self, text: &str) -> Option<Settings> {
        if text.is_empty() { self.0.get(DEFAULT_PROFILE).cloned() } else { serde_json::from_str(text).ok() }
    }
}

impl Profile {
    fn over(&self, default: &Settings) -> Settings {
        Settings {
            preset: self.preset.clone().unwrap_or_else(|| default.preset.clone()),
            quality: self.quality.unwrap_or(default.quality),
            steps: self.steps.clone().unwrap_or_else(|| default.steps.clone()),
            audio_kbps: self.audio_kbps.unwrap_or(default.audio_kbps),
        }
    }
}

/// What is wrong with the steps of a ladder that is called `field`.
pub fn wrong_steps(field: &str, steps: &[Step]) -> Vec<FieldViolation> {
    let mut wrong = Vec::new();
    if steps.len() > MAX_STEPS {
        wrong.push(FieldViolation::new(field, format!("must have at most {MAX_STEPS} steps")));
    }
    for (index, step) in steps.iter().enumerate().take(MAX_STEPS) {
        if !(64..=4320).contains(&step.short_side) {
            wrong.push(FieldViolation::new(format!("{field}[{index}].short_side_px"), "must be 64 to 4320"));
        }
        if !(50..=100_000).contains(&step.max_kbps) {
            wrong.push(FieldViolation::new(format!("{field}[{index}].max_kbps"), "must be 50 to 100000"));
        }
        if steps[..index].iter().any(|before| before.short_side == step.short_side) {
            wrong.push(FieldViolation::new(format!("{field}[{index}].short_side_px"), "is there already"));
        }
    }
    wrong
}

/// Steps as they are kept, such as `720:2500 480:1000`.
#[must_use]
pub fn steps_text(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("{}:{}", step.short_side, step.max_kbps)).collect::<Vec<_>>().join(" ")
}

/// Steps from the text that is kept.
#[must_use]
pub fn steps_of(text: &str) -> Vec<Step> {
    let step = |word: &str| {
        let (side, rate) = word.split_once(':')?;
        Some(Step { short_side: side.parse().ok()?, max_kbps: rate.parse().ok()? })
    };
    text.split_ascii_whitespace().filter_map(step).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn step(short_side: u32, max_kbps: u32) -> Step {
        Step { short_side, max_kbps }
    }

    #[test]
    fn a_profile_changes_what_it_names_and_a_ladder_its_steps_only() {
        let profiles = Profiles::of(&Config::default());
        let default = profiles.settings(DEFAULT_PROFILE, &[]).unwrap();
        let small = profiles.settings("small", &[]).unwrap();
        assert_eq!((small.preset.clone(), small.steps.len()), (default.preset, 2));
        let own = profiles.settings("small", &[step(240, 300)]).unwrap();
        assert_eq!(own, Settings { steps: vec![step(240, 300)], ..small });
    }

    #[test]
    fn a_wrong_ladder_is_told_field_by_field() {
        let profiles = Profiles::of(&Config::default());
        let refused = profiles.settings(DEFAULT_PROFILE, &[step(720, 2500), step(63, 49), step(720, 10)]).unwrap_err();
        let fields: Vec<&str> = refused.fields.iter().map(|field| field.field.as_str()).collect();
        let expected = ["ladder[1].short_side_px", "ladder[1].max_kbps", "ladder[2].max_kbps", "ladder[2].short_side_px"];
        assert_eq!(fields, expected);
        let long: Vec<Step> = (0..9).map(|index| step(100 + index, 100)).collect();
        assert!(profiles.settings(DEFAULT_PROFILE, &long).is_err());
        assert!(profiles.settings("nope", &[]).unwrap_err().message.contains("default, fast, small"));
    }

    #[test]
    fn what_is_kept_reads_back() {
        let steps = vec![step(720, 2500), step(480, 1000)];
        assert_eq!(steps_of(&steps_text(&steps)), steps);
        let profiles = Profiles::of(&Config::default());
        let settings = profiles.settings("fast", &steps).unwrap();
        assert_eq!(profiles.kept(&serde_json::to_string(&settings).unwrap()), Some(settings));
        assert_eq!(profiles.kept(""), profiles.settings(DEFAULT_PROFILE, &[]).ok());
        assert_eq!(profiles.kept("{"), None);
    }
}
