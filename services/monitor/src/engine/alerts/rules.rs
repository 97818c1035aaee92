//! Rules that raise alerts, and what they look at.

use serde::Deserialize;

/// How grave an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Somebody must act now.
    Critical,
    /// Somebody must act soon.
    Warning,
}

impl Severity {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// What a rule compares with its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// 1 while a service does not serve, else 0.
    ServiceDown,
    /// Part of a service's answers that were errors of ours, 0 to 1.
    ErrorRate,
    /// Seconds within which 95 of 100 RPCs were answered.
    Latency,
    /// Seconds that the oldest job waits which could run.
    QueueAge,
    /// Part of the data folder's disk that is used, 0 to 1.
    Disk,
    /// Files of a service's audit entries that can't be read.
    AuditFiles,
    /// Gas price of a chain in gwei.
    GasPrice,
}

impl Kind {
    /// The word in configuration and on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceDown => "service_down",
            Self::ErrorRate => "error_rate",
            Self::Latency => "latency",
            Self::QueueAge => "queue_age",
            Self::Disk => "disk",
            Self::AuditFiles => "audit_files",
            Self::GasPrice => "gas_price",
        }
    }
}

/// A rule: its alert fires when the value is above the threshold for long enough.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, unique among the rules.
    pub name: String,
    /// What it looks at.
    pub kind: Kind,
    /// How grave its alerts are.
    pub severity: Severity,
    /// Its alert is due while the value is above this.
    pub threshold: f64,
    /// How long the value must be above before it fires.
    pub for_ms: u64,
    /// How long it must not be above before it resolves.
    pub clear_ms: u64,
    /// EIP-155 number of the chain, for a gas price.
    #[serde(default)]
    pub chain: Option<u64>,
}

impl Rule {
    fn new(kind: Kind, severity: Severity, threshold: f64, for_ms: u64, clear_ms: u64) -> Self {
        Self { name: kind.as_str().to_owned(), kind, severity, threshold, for_ms, clear_ms, chain: None }
    }

    /// Checks what types can't say.
    ///
    /// # Errors
    /// What is wrong, in words.
    pub fn validate(&self) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > 64 || !self.name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err("name must be 1 to 64 letters, digits and underscores".to_owned());
        }
        if !self.threshold.is_finite() || self.threshold < 0.0 {
            return Err(format!("{}: threshold must be a number, 0 or more", self.name));
        }
        if (self.kind == Kind::GasPrice) != self.chain.is_some() {
            return Err(format!("{}: chain belongs to a rule of the kind gas_price, and only to that", self.name));
        }
        Ok(())
    }
}

/// The rules that hold unless others are configured.
#[must_use]
pub fn defaults() -> Vec<Rule> {
    const MINUTE: u64 = 60_000;
    vec![
        Rule::new(Kind::ServiceDown, Severity::Critical, 0.0, 5_000, 15_000),
        Rule::new(Kind::ErrorRate, Severity::Critical, 0.05, MINUTE, 2 * MINUTE),
        Rule::new(Kind::Latency, Severity::Warning, 1.0, 2 * MINUTE, 2 * MINUTE),
        Rule::new(Kind::QueueAge, Severity::Warning, 600.0, MINUTE, MINUTE),
        Rule::new(Kind::Disk, Severity::Critical, 0.9, MINUTE, MINUTE),
        // Such a file is tried again each minute.
        Rule::new(Kind::AuditFiles, Severity::Warning, 0.0, 2 * MINUTE, MINUTE),
        Rule { chain: Some(1), ..Rule::new(Kind::GasPrice, Severity::Warning, 100.0, 5 * MINUTE, 5 * MINUTE) },
    ]
}
