//! How many processes a platform is, and on what they stand.

use std::env;

/// The forms in which the same platform runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `streamgate serve` on embedded engines.
    OneProcess,
    /// The nine binaries on embedded engines in one folder.
    NineProcesses,
    /// The nine binaries on PostgreSQL, Redis, NATS and S3.
    NineOnEngines,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OneProcess, Self::NineProcesses, Self::NineOnEngines];

    /// The form that whoever runs the tests asks for with `STREAMGATE_TEST_SHAPE`; one process when nobody does.
    #[must_use]
    pub fn wanted() -> Self {
        #[allow(clippy::disallowed_methods, reason = "whoever runs the tests says on what through the environment")]
        let wanted = env::var("STREAMGATE_TEST_SHAPE");
        match wanted.as_deref() {
            Ok("nine") => Self::NineProcesses,
            Ok("mesh") => Self::NineOnEngines,
            _ => Self::OneProcess,
        }
    }
}
