//! The machine that the monitor runs on: processors, memory, and the disk under the data folder.

use std::{
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::Metrics;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(5);

/// What was seen at the last look. What can't be read is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct System {
    /// Part of all cores that was busy since the look before, 0 to 1.
    pub cpu_ratio: f64,
    /// Memory there is.
    pub memory_total_bytes: u64,
    /// Memory that programs could still get.
    pub memory_available_bytes: u64,
    /// Size of the data folder's disk.
    pub disk_total_bytes: u64,
    /// Room on it that this user may fill.
    pub disk_free_bytes: u64,
}

impl System {
    /// Part of the disk that is used, 0 to 1; absent when it can't be measured.
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
    pub fn disk_used_ratio(&self) -> Option<f64> {
        (self.disk_total_bytes > 0).then(|| 1.0 - self.disk_free_bytes as f64 / self.disk_total_bytes as f64)
    }
}

/// Looks at the machine, and remembers the latest. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SystemWatch {
    data_dir: PathBuf,
    latest: Arc<Mutex<System>>,
}

impl SystemWatch {
    /// Nothing was looked at yet.
    #[must_use]
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), latest: Arc::default() }
    }

    /// What was seen at the last look.
    #[must_use]
    pub fn latest(&self) -> System {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks each few seconds, until `stop`.
    ///
    /// # Errors
    /// Never: what can't be read is 0.
    pub async fn watch(self, metrics: Metrics, stop: CancellationToken) -> Result<(), Infallible> {
        let mut before = Ticks::default();
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            before = self.look(before);
            metrics.set_system(&self.latest());
        }
        Ok(())
    }

    fn look(&self, before: Ticks) -> Ticks {
        // Files of the kernel's memory: reading them does not wait for a disk.
        let ticks = fs::read_to_string("/proc/stat").ok().and_then(|text| Ticks::parse(&text)).unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let disk = rustix::fs::statvfs(&self.data_dir).ok();
        let seen = System {
            cpu_ratio: ticks.busy_since(before),
            memory_total_bytes: memory_bytes(&memory, "MemTotal:"),
            memory_available_bytes: memory_bytes(&memory, "MemAvailable:"),
            disk_total_bytes: disk.as_ref().map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize)),
            disk_free_bytes: disk.as_ref().map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = seen;
        ticks
    }
}

/// Time of all cores since the machine started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

impl Ticks {
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        // user nice system idle iowait irq softirq steal; guests are counted in user already.
        let values: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
        let idle = values.get(3)?.saturating_add(values.get(4).copied().unwrap_or_default());
        Some(Self { all: values.iter().sum(), idle })
    }

    #[allow(clippy::cast_precision_loss, reason = "a ratio needs no more than 52 bits")]
    fn busy_since(self, before: Self) -> f64 {
        let all = self.all.saturating_sub(before.all);
        let idle = self.idle.saturating_sub(before.idle).min(all);
        if all == 0 || before.all == 0 { 0.0 } else { (all - idle) as f64 / all as f64 }
    }
}

fn memory_bytes(meminfo: &str, key: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes: Option<u64> = line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    kilobytes.unwrap_or_default().saturating_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_what_is_not_idle_between_two_looks() {
        let before = Ticks::parse("cpu  100 0 100 800 0 0 0 0 0 0\ncpu0 1 2 3 4\n").unwrap();
        let after = Ticks::parse("cpu  150 0 125 825 0 0 0 0 0 0\n").unwrap();
        assert!((after.busy_since(before) - 0.75).abs() < 1e-9);
        assert!(after.busy_since(Ticks::default()).abs() < 1e-9, "the first look says nothing");
        assert_eq!(Ticks::parse("intr 1 2"), None);
    }

    #[test]
    fn memory_is_told_in_bytes() {
        let text = "MemTotal:        2048 kB\nMemAvailable:    1024 kB\n";
        assert_eq!((memory_bytes(text, "MemTotal:"), memory_bytes(text, "MemAvailable:")), (2_097_152, 1_048_576));
        assert_eq!(memory_bytes("", "MemTotal:"), 0);
    }

    #[test]
    fn the_disk_of_a_real_folder_is_measured() {
        let folder = tempfile::tempdir().unwrap();
        let watch = SystemWatch::new(folder.path());
        watch.look(Ticks::default());
        let used = watch.latest().disk_used_ratio().unwrap();
        assert!((0.0..=1.0).contains(&used), "{used}");
        assert!(watch.latest().memory_total_bytes > 0);
    }
}
