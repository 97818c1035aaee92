//! What the demo prints: each step with its time.
#![allow(clippy::print_stdout, reason = "the demo speaks to people")]

use std::time::Instant;

/// Prints steps as they are done.
#[derive(Debug)]
pub(crate) struct Report {
    begin: Instant,
    last: Instant,
}

impl Report {
    pub(crate) fn begin(what: &str) -> Self {
        println!("{what}\n");
        println!("   total     step");
        let now = Instant::now();
        Self { begin: now, last: now }
    }

    /// A step is done.
    pub(crate) fn done(&mut self, what: impl AsRef<str>) {
        let now = Instant::now();
        let (total, step) = ((now - self.begin).as_secs_f64(), (now - self.last).as_secs_f64());
        println!("{total:7.2} s {step:7.2} s  {}", what.as_ref());
        self.last = now;
    }

    /// The last word.
    pub(crate) fn end(&self, what: impl AsRef<str>) {
        println!("\n{}", what.as_ref());
    }
}
