//! Where gas prices come from.

use async_trait::async_trait;

/// Reads gas prices.
#[async_trait]
pub trait GasSource: Send + Sync + 'static {
    /// The price of a chain in gwei; absent when it can't be known now.
    async fn gwei(&self, chain: u64) -> Option<f64>;
}

/// Knows no price: nothing reads chains in this process.
#[derive(Debug, Clone, Copy)]
pub struct NoGas;

#[async_trait]
impl GasSource for NoGas {
    async fn gwei(&self, _: u64) -> Option<f64> {
        None
    }
}
