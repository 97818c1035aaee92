//! A local EVM node.

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use crate::{EvmNode, eventually, free_port, paths, process::Process};

/// Chain id of every node started here.
const CHAIN_ID: u64 = 31_337;

/// A running anvil node, ended when dropped.
///
/// Its unlocked accounts are those of the well-known test mnemonic, so [`crate::Wallet::dev`] owns them.
#[derive(Debug)]
pub struct Anvil {
    process: Process,
    port: u16,
    // Kept so that the log lives as long as the node.
    _folder: TempDir,
}

impl Anvil {
    /// Starts a node on a free port and waits until it answers.
    ///
    /// # Errors
    /// When anvil is not installed or does not come up within 20 s.
    pub async fn start() -> Result<Self> {
        Self::start_on(free_port()?).await
    }

    /// Starts a node on a given port, for tests that take a node away and bring it back.
    ///
    /// # Errors
    /// When anvil is not installed or does not come up within 20 s.
    pub async fn start_on(port: u16) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(paths::anvil()?);
        command.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--chain-id", &CHAIN_ID.to_string()]);
        let mut anvil = Self { process: Process::start(command, &folder.path().join("anvil.log"))?, port, _folder: folder };
        anvil.wait_until_up().await.with_context(|| format!("start anvil: {}", anvil.process.output().trim()))?;
        Ok(anvil)
    }

    async fn wait_until_up(&mut self) -> Result<()> {
        let node = self.node();
        let process = &mut self.process;
        eventually("anvil answers", Duration::from_secs(20), || {
            let ended = process.ended();
            let node = node.clone();
            async move {
                if let Some(status) = ended? {
                    bail!("anvil ended with {status}");
                }
                Ok(node.block_number().await.ok())
            }
        })
        .await?;
        Ok(())
    }

    /// JSON-RPC address.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// EIP-155 number of its chain.
    #[must_use]
    pub const fn chain_id(&self) -> u64 {
        CHAIN_ID
    }

    /// A client of the node.
    #[must_use]
    pub fn node(&self) -> EvmNode {
        EvmNode::new(self.url())
    }
}
