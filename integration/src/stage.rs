//! What most system tests begin with: a chain with an NFT, the real platform, a creator, a holder and a stranger.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use streamgate_testkit::{Anvil, DemoPass, Platform, PlatformBuilder, Wallet, eventually};

use crate::rest::Rest;

/// Bound of a transcode of a short clip, with a debug build on a busy machine.
pub const TRANSCODE_BOUND: Duration = Duration::from_secs(240);

/// A running platform with a local chain.
#[derive(Debug)]
pub struct Stage {
    /// The platform.
    pub platform: Platform,
    /// The chain.
    pub anvil: Anvil,
    /// The NFT that gates ask for.
    pub pass: DemoPass,
    /// Client with a creator's API key.
    pub creator: Rest,
    /// Wallet that gets a pass when one is minted.
    pub holder: Wallet,
    /// Wallet without a pass.
    pub stranger: Wallet,
}

/// A title that was sent.
#[derive(Debug, Clone)]
pub struct Published {
    /// Private id.
    pub content_id: String,
    /// Public id.
    pub playback_id: String,
}

impl Stage {
    /// Starts a chain and a platform, deploys the contract and makes a creator's key.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn start() -> Result<Self> {
        Self::start_with(Platform::builder()).await
    }

    /// The same with settings of one's own.
    ///
    /// # Errors
    /// When something does not come up.
    pub async fn start_with(builder: PlatformBuilder) -> Result<Self> {
        let anvil = Anvil::start().await?;
        let pass = anvil.node().deploy_demo_pass(Wallet::dev(0)?.address()).await?;
        let platform = builder.chain(anvil.chain_id(), anvil.url()).start().await?;
        let creator = Rest::new(&platform.url())?.with_bearer(platform.api_key("creator")?);
        Ok(Self { platform, anvil, pass, creator, holder: Wallet::dev(1)?, stranger: Wallet::dev(2)? })
    }

    /// Sends a clip and gates it with the NFT.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn publish(&self, clip: &Path) -> Result<Published> {
        let sent = self.creator.upload(clip, "a clip").await?;
        let content_id = sent["content_id"].as_str().context("the upload's content_id")?.to_owned();
        self.creator.set_gate(&content_id, &self.pass.gate(self.anvil.chain_id())).await?;
        let content = self.creator.content(&content_id).await?;
        let playback_id = content["playback_ids"][0].as_str().context("a playback id")?.to_owned();
        Ok(Published { content_id, playback_id })
    }

    /// Sends a clip, gates it, mints a pass to the holder and waits until the title is ready.
    ///
    /// # Errors
    /// When one of these fails.
    pub async fn publish_ready(&self, clip: &Path) -> Result<Published> {
        let published = self.publish(clip).await?;
        self.pass.mint(self.holder.address()).await?;
        ready(&self.creator, &published.content_id).await?;
        Ok(published)
    }

    /// An anonymous client.
    #[must_use]
    pub fn anonymous(&self) -> Rest {
        self.creator.anonymous()
    }

    /// The client of the holder, signed in.
    ///
    /// # Errors
    /// When it is not let in.
    pub async fn viewer(&self) -> Result<Rest> {
        self.anonymous().sign_in(&self.holder).await
    }
}

/// Waits until a title is ready; fails when it ends otherwise.
///
/// # Errors
/// When it errored, or is not ready in time.
pub async fn ready(creator: &Rest, content_id: &str) -> Result<Value> {
    let ended = settled(creator, content_id).await?;
    if ended["status"] != "ready" {
        bail!("the title ended as {}: {}", ended["status"], ended["error"]);
    }
    Ok(ended)
}

/// Waits until a title is ready or errored.
///
/// # Errors
/// When neither comes in time.
pub async fn settled(creator: &Rest, content_id: &str) -> Result<Value> {
    eventually("the title is ready or errored", TRANSCODE_BOUND, || async {
        let content = creator.content(content_id).await?;
        let status = content["status"].as_str().unwrap_or_default().to_owned();
        Ok(matches!(status.as_str(), "ready" | "errored").then_some(content))
    })
    .await
}

/// Waits until a title is playable; fails when it errored before.
///
/// # Errors
/// When it errored, or is not playable in time.
pub async fn playable(creator: &Rest, content_id: &str) -> Result<Value> {
    eventually("the title is playable", TRANSCODE_BOUND, || async {
        let content = creator.content(content_id).await?;
        if content["status"] == "errored" {
            bail!("the title errored: {}", content["error"]);
        }
        Ok((content["playable"] == true).then_some(content))
    })
    .await
}
