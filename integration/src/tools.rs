//! ffmpeg and ffprobe, as an independent judge of what the platform made.

use std::{
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// Runs ffmpeg with `arguments`; warnings on its error output count as failure.
///
/// # Errors
/// When it fails or complains.
pub fn ffmpeg(arguments: &[&str]) -> Result<Output> {
    let output =
        Command::new("ffmpeg").args(["-v", "error", "-nostdin", "-y"]).args(arguments).output().context("start ffmpeg")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() || !said.trim().is_empty() {
        bail!("ffmpeg {}: {}", arguments.join(" "), said.trim());
    }
    Ok(output)
}

/// What ffprobe says of a file, as JSON.
///
/// # Errors
/// When it fails.
pub fn ffprobe(file: &Path, arguments: &[&str]) -> Result<Value> {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-of", "json"])
        .args(arguments)
        .arg(file)
        .output()
        .context("start ffprobe")?;
    if !output.status.success() {
        bail!("ffprobe {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
