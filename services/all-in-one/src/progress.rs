//! Bars that show how far something is.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar over bytes, at `done` of `total`.
pub(crate) fn bytes(total: u64, done: u64) -> ProgressBar {
    let bar = ProgressBar::new(total).with_position(done);
    bar.set_style(style("Uploading  {wide_bar} {bytes}/{total_bytes}  {bytes_per_sec}  {eta}"));
    bar.reset_eta();
    bar
}

/// A bar over a thousandth parts.
pub(crate) fn parts(what: &'static str) -> ProgressBar {
    let bar = ProgressBar::new(1000);
    bar.set_style(style("{prefix} {wide_bar} {percent} %  {elapsed}"));
    bar.set_prefix(what);
    bar
}

fn style(template: &str) -> ProgressStyle {
    // A template that does not parse would only cost the looks.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
