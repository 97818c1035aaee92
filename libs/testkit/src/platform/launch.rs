//! Which program is started, and with what of this process's environment.

use std::{env, ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result};

/// A binary of this workspace, beside the one that runs now.
pub(super) fn binary(name: &str) -> Result<PathBuf> {
    #[allow(clippy::disallowed_methods, reason = "a test says which build it wants through the environment")]
    if let Some(folder) = env::var_os("STREAMGATE_BIN_DIR") {
        return Ok(PathBuf::from(folder).join(name));
    }
    let here = env::current_exe().context("find this program")?;
    // Tests lie in target/PROFILE/deps, programs in target/PROFILE.
    let beside = here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    beside.with_context(|| format!("{name} is not built: run `cargo build --workspace --bins`"))
}

/// Names of the platform's settings in this process's own environment.
pub(super) fn inherited_settings() -> Vec<OsString> {
    const OURS: [&str; 9] = ["STREAMGATE_", "CHAIN_", "SERVER_", "LOG_", "OPERATOR_WALLETS", "DB_", "REDIS_", "NATS_", "S3_"];
    #[allow(clippy::disallowed_methods, reason = "a child must not inherit settings by accident")]
    let names = env::vars_os().map(|(name, _)| name);
    names.filter(|name| OURS.iter().any(|prefix| name.to_string_lossy().starts_with(prefix))).collect()
}
