//! Metrics of the process itself, read when somebody asks for them.

use std::fs;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

/// Ticks of a second on every Linux that Rust supports by default. Sizes in pages are not read: a page has
/// 4 KiB on one machine and 64 on another.
const TICKS_PER_SECOND: f64 = 100.0;

/// Reads `/proc/self`. Services of one process all tell the same numbers.
#[derive(Debug)]
pub(crate) struct ProcessMetrics;

/// What the system says of this process.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: u64,
    threads: u64,
    open_files: u64,
}

impl Usage {
    fn now() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let resident_bytes = resident_bytes(&status).unwrap_or_default();
        let open_files = fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64);
        Self { resident_bytes, open_files, ..Self::of_stat(&stat).unwrap_or_default() }
    }

    fn of_stat(stat: &str) -> Option<Self> {
        // The name in parentheses may hold anything, spaces and parentheses too.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // Counted from 1 in proc(5), and the first two are gone.
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<u64>().ok());
        #[allow(clippy::cast_precision_loss, reason = "exact for a hundred thousand years of CPU time")]
        let cpu_seconds = (number(14)? + number(15)?) as f64 / TICKS_PER_SECOND;
        Some(Self { cpu_seconds, threads: number(20)?, ..Self::default() })
    }
}

/// `VmRSS` of `/proc/self/status`, whose "kB" are KiB.
fn resident_bytes(status: &str) -> Option<u64> {
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(size.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()? * 1024)
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let usage = Usage::now();
        let cpu = ConstCounter::new(usage.cpu_seconds);
        let help = "CPU time of the process, in seconds";
        cpu.encode(encoder.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?)?;
        let gauges = [
            ("process_resident_memory_bytes", "Memory of the process that is in RAM", usage.resident_bytes),
            ("process_threads", "Threads of the process", usage.threads),
            ("process_open_files", "File descriptors that the process holds", usage.open_files),
        ];
        for (name, help, value) in gauges {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_no_field() {
        let stat = "7 (a) b) R 1 7 7 0 -1 0 0 0 0 0 150 50 0 0 20 0 9 0 12345 999 3 18446744073709551615";
        let usage = Usage::of_stat(stat).unwrap();
        assert_eq!(usage, Usage { cpu_seconds: 2.0, threads: 9, ..Usage::default() });
        assert_eq!(Usage::of_stat("7 (a"), None);
    }

    #[test]
    fn memory_is_counted_in_a_unit_that_every_machine_shares() {
        let status = "Name:\tstreamgate\nVmHWM:\t     900 kB\nVmRSS:\t     192 kB\nRssAnon:\t      64 kB\n";
        assert_eq!(resident_bytes(status), Some(192 * 1024));
        assert_eq!(resident_bytes("Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_has_memory_threads_and_files() {
        let usage = Usage::now();
        assert!(usage.resident_bytes > 0 && usage.threads > 0 && usage.open_files > 0, "{usage:?}");
    }
}
