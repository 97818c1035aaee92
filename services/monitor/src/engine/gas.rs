//! Where gas prices come from.

use async_trait::async_trait;
use streamgate_chain::Chains;
use streamgate_core::evm::ChainId;

const WEI_PER_GWEI: f64 = 1e9;

/// Reads gas prices.
#[async_trait]
pub trait GasSource: Send + Sync + 'static {
    /// The price of a chain in gwei; absent when it can't be known now.
    async fn gwei(&self, chain: u64) -> Option<f64>;
}

/// Asks the configured endpoints.
#[async_trait]
impl GasSource for Chains {
    #[allow(clippy::cast_precision_loss, reason = "a price needs no more than 52 bits")]
    async fn gwei(&self, chain: u64) -> Option<f64> {
        let reader = self.reader(ChainId::new(chain).ok()?)?;
        match reader.gas_price().await {
            Ok(wei) => Some(wei as f64 / WEI_PER_GWEI),
            Err(error) => {
                tracing::debug!(%error, "a gas price is not known");
                None
            }
        }
    }
}
