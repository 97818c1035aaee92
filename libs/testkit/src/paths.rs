//! Where things lie in the repository.

use std::{
    env,
    path::{Path, PathBuf},
};

use anyhow::{Result, bail};

/// Root of the repository.
#[must_use]
pub fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The clip that the demo and most tests play.
#[must_use]
pub fn default_clip() -> PathBuf {
    repository().join("integration/fixtures/bbb-720p25-51.mp4")
}

/// Folder of further test media beside the repository, where there is one.
#[must_use]
pub fn shared_media() -> Option<PathBuf> {
    let folder = repository().parent()?.join("shared/media");
    folder.is_dir().then_some(folder)
}

/// The native anvil, not its launcher script: a killed launcher leaves the node running.
///
/// # Errors
/// When it is not there; the message says how to install it.
pub(crate) fn anvil() -> Result<PathBuf> {
    let machine = if env::consts::ARCH == "aarch64" { "arm64" } else { "amd64" };
    let native = format!("../@foundry-rs/anvil-{}-{machine}/bin/anvil", env::consts::OS);
    tool(&native, "STREAMGATE_ANVIL")
}

/// A test tool that `npm ci` installs, or the file that `variable` names.
///
/// # Errors
/// When the tool is not there; the message says how to install it.
pub fn tool(name: &str, variable: &str) -> Result<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "a test tool is found through the environment, like a compiler")]
    let named = env::var_os(variable);
    let path = named.map_or_else(|| repository().join("node_modules/.bin").join(name), PathBuf::from);
    if !path.exists() {
        bail!("{} is not there: run `npm ci` in the repository, or name the tool in ${variable}", path.display());
    }
    Ok(path)
}
