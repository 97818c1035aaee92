//! What can be configured.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use streamgate_media::{
    encoder_protocol::{EncodeSpec, Limits},
    ladder::{DEFAULT_STEPS, Step},
};
use streamgate_runtime::ServiceConfig;

use crate::settings::{DEFAULT_PROFILE, Profile, Settings, wrong_steps};

/// Presets of x264, fastest first.
const PRESETS: [&str; 9] = ["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"];

/// Section `transcoder` of the configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Jobs at once. Each keeps about two cores busy.
    pub concurrency: u32,
    /// The encoder program; beside this program, then in `PATH`, when empty.
    pub encoder_path: PathBuf,
    /// x264 speed preset.
    pub preset: String,
    /// Constant rate factor, 0 to 51; smaller is better and larger in bytes.
    pub quality: u32,
    /// Threads of one rung's encoder; 0 lets x264 choose.
    pub encoder_threads: u32,
    /// Rungs that may be made, by the shorter side.
    pub steps: Vec<Step>,
    /// Named settings beside these, which are called `default`.
    pub profiles: BTreeMap<String, Profile>,
    /// Jobs that may wait before further submissions are refused.
    pub max_queued: u32,
    /// How long the media of a title is kept once it was made anew: at least as long as a playback session.
    pub keep_superseded_hours: u32,
    /// Bits in a second of the sound, in thousands.
    pub audio_kbps: u32,
    /// Address space of one encoder, in MiB.
    pub memory_mib: u64,
    /// CPU time of one attempt at the most, in seconds.
    pub cpu_seconds: u64,
    /// Time of one attempt at the most, in seconds.
    pub wall_seconds: u64,
    /// How long an encoder may show no sign of life, in seconds.
    pub stall_seconds: u64,
    /// Longest source that is taken, in hours.
    pub max_source_hours: u64,
    /// Longest side of a source that is taken, in pixels.
    pub max_source_side: u32,
    /// How long a lease lasts without a heartbeat, in milliseconds.
    pub lease_ms: u64,
    /// How often a lease is renewed, in milliseconds.
    pub heartbeat_ms: u64,
    /// Attempts that may crash before the job fails.
    pub max_crashes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            concurrency: 1,
            encoder_path: PathBuf::new(),
            preset: "veryfast".to_owned(),
            quality: 23,
            encoder_threads: 2,
            steps: DEFAULT_STEPS.to_vec(),
            profiles: default_profiles(),
            max_queued: 1_000,
            keep_superseded_hours: 24,
            audio_kbps: 128,
            memory_mib: 4096,
            cpu_seconds: 24 * 3600,
            wall_seconds: 24 * 3600,
            stall_seconds: 60,
            max_source_hours: 12,
            max_source_side: 8192,
            lease_ms: 8_000,
            heartbeat_ms: 2_000,
            max_crashes: 3,
        }
    }
}

impl Config {
    /// The settings that are called `default`.
    #[must_use]
    pub fn settings(&self) -> Settings {
        let Self { preset, quality, steps, audio_kbps, .. } = self;
        Settings { preset: preset.clone(), quality: *quality, steps: steps.clone(), audio_kbps: *audio_kbps }
    }

    /// What the child is told.
    #[must_use]
    pub fn spec(&self, settings: Settings, resume_from: u32, poster: bool) -> EncodeSpec {
        EncodeSpec {
            preset: settings.preset,
            quality: settings.quality,
            threads: self.encoder_threads,
            steps: settings.steps,
            audio_kbps: settings.audio_kbps,
            resume_from,
            poster,
            limits: Limits {
                memory_bytes: self.memory_mib << 20,
                cpu_seconds: self.cpu_seconds,
                max_duration_ms: self.max_source_hours * 3_600_000,
                max_side: self.max_source_side,
                ..Limits::default()
            },
            ..EncodeSpec::default()
        }
    }

    /// How long a lease lasts.
    #[must_use]
    pub const fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
    }
}

impl ServiceConfig for Config {
    fn validate(&self) -> Result<(), String> {
        let rules = [
            ((1..=64).contains(&self.concurrency), "transcoder.concurrency must be 1 to 64"),
            (PRESETS.contains(&self.preset.as_str()), "transcoder.preset must be a preset of x264, from ultrafast to veryslow"),
            (self.quality <= 51, "transcoder.quality must be 0 to 51"),
            (self.encoder_threads <= 64, "transcoder.encoder_threads must be 0 to 64"),
            (
                !self.steps.is_empty() && wrong_steps("steps", &self.steps).is_empty(),
                "transcoder.steps must be 1 to 8 different rungs with short_side 64 to 4320 and max_kbps 50 to 100000",
            ),
            (
                self.profiles.iter().all(|(name, profile)| is_name(name) && is_valid(profile)),
                "transcoder.profiles: a name is 1 to 32 of a-z, 0-9, - and _, not default; the values are as in transcoder itself",
            ),
            ((1..=1_000_000).contains(&self.max_queued), "transcoder.max_queued must be 1 to 1000000"),
            ((13..=24 * 365).contains(&self.keep_superseded_hours), "transcoder.keep_superseded_hours must be 13 to 8760"),
            ((32..=512).contains(&self.audio_kbps), "transcoder.audio_kbps must be 32 to 512"),
            ((512..=1 << 20).contains(&self.memory_mib), "transcoder.memory_mib must be 512 to 1048576"),
            ((10..=30 * 24 * 3600).contains(&self.cpu_seconds), "transcoder.cpu_seconds must be 10 to 2592000"),
            ((10..=30 * 24 * 3600).contains(&self.wall_seconds), "transcoder.wall_seconds must be 10 to 2592000"),
            ((1..=3600).contains(&self.stall_seconds), "transcoder.stall_seconds must be 1 to 3600"),
            ((1..=100).contains(&self.max_source_hours), "transcoder.max_source_hours must be 1 to 100"),
            ((64..=16_384).contains(&self.max_source_side), "transcoder.max_source_side must be 64 to 16384"),
            ((50..=60_000).contains(&self.heartbeat_ms), "transcoder.heartbeat_ms must be 50 to 60000"),
            (self.lease_ms >= 2 * self.heartbeat_ms, "transcoder.lease_ms must be at least twice heartbeat_ms"),
            ((1..=20).contains(&self.max_crashes), "transcoder.max_crashes must be 1 to 20"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, sentence)| Err(sentence.to_owned()))
    }
}

fn default_profiles() -> BTreeMap<String, Profile> {
    let [_, _, small, smallest] = DEFAULT_STEPS;
    let few = Profile { steps: Some(vec![small, smallest]), ..Profile::default() };
    let fast = Profile { preset: Some("superfast".to_owned()), ..Profile::default() };
    BTreeMap::from([("small".to_owned(), few), ("fast".to_owned(), fast)])
}

fn is_name(name: &str) -> bool {
    let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'));
    plain && (1..=32).contains(&name.len()) && name != DEFAULT_PROFILE
}

fn is_valid(profile: &Profile) -> bool {
    profile.preset.as_deref().is_none_or(|preset| PRESETS.contains(&preset))
        && profile.quality.is_none_or(|quality| quality <= 51)
        && profile.audio_kbps.is_none_or(|rate| (32..=512).contains(&rate))
        && profile.steps.as_ref().is_none_or(|steps| !steps.is_empty() && wrong_steps("steps", steps).is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_bad_values_are_named() {
        assert_eq!(Config::default().validate(), Ok(()));
        let bad = Config { preset: "fastest".into(), ..Config::default() };
        assert!(bad.validate().is_err_and(|sentence| sentence.starts_with("transcoder.preset")));
        for (name, profile) in [
            ("default", Profile::default()),
            ("Big", Profile::default()),
            ("empty", Profile { steps: Some(Vec::new()), ..Profile::default() }),
            ("slow", Profile { preset: Some("slowest".to_owned()), ..Profile::default() }),
        ] {
            let bad = Config { profiles: BTreeMap::from([(name.to_owned(), profile)]), ..Config::default() };
            assert!(bad.validate().is_err_and(|sentence| sentence.starts_with("transcoder.profiles")), "{name}");
        }
        let bad = Config { lease_ms: 100, ..Config::default() };
        assert!(bad.validate().is_err_and(|sentence| sentence.starts_with("transcoder.lease_ms")));
    }
}
