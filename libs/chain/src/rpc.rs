//! Reading a chain: several endpoints, one block for all reads of an evaluation.

mod chains;
mod endpoint;
mod health;
mod pool;
mod read;
mod tip;
mod wire;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use streamgate_core::evm::{Address, ChainId};

pub use chains::{BadEndpoint, ChainStatus, Chains};
pub use pool::Pool;

/// Limits of reads. The defaults suit public and paid endpoints alike.
#[derive(Debug, Clone)]
pub struct Limits {
    /// One endpoint's whole try: the head, then the calls.
    pub per_try: Duration,
    /// All tries of one read together.
    pub total: Duration,
    /// Bytes of one answer at the most: a hostile endpoint must not fill the memory.
    pub answer_bytes: usize,
    /// Calls of one request at the most; public endpoints refuse larger batches.
    pub calls_per_request: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_try: Duration::from_secs(2),
            total: Duration::from_secs(5),
            answer_bytes: 4 * 1024 * 1024,
            calls_per_request: 100,
        }
    }
}

/// One thing to read. Each gives one 32-byte word.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Call {
    /// A view function of a contract.
    View {
        /// The contract.
        to: Address,
        /// Selector and arguments.
        input: Vec<u8>,
    },
    /// Balance of the chain's own coin.
    CoinBalance(Address),
}

/// What one call gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// A word.
    Word([u8; 32]),
    /// The contract refused: a final answer.
    Reverted,
    /// Nothing at all: there is no contract at the address, or it has no such function.
    Empty,
    /// The contract answered nothing that can be understood; the endpoint did its part.
    Unusable(String),
    /// The endpoint failed at it, in words that are safe to show.
    Failed(String),
}

impl Answer {
    /// Whether another endpoint might know better.
    #[must_use]
    pub const fn is_doubtful(&self) -> bool {
        matches!(self, Self::Empty | Self::Unusable(_) | Self::Failed(_))
    }
}

/// The block that a chain was read at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlockRef {
    /// The chain.
    pub chain: ChainId,
    /// Its height.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl fmt::Display for BlockRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} block {}", self.chain, self.number)
    }
}

/// Answers that were all read at one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// That block.
    pub block: BlockRef,
    /// One answer for each call, in order.
    pub answers: Vec<Answer>,
}

/// No endpoint of a chain could be read. Neither yes nor no.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub String);

/// Reads one chain. What stands behind it may change; gates do not notice.
#[async_trait]
pub trait ChainReader: fmt::Debug + Send + Sync {
    /// Reads all calls at one block, the newest that the chosen endpoint has.
    async fn read(&self, calls: &[Call]) -> Result<Reading, Unreadable>;
    /// What a unit of gas costs now, in wei.
    async fn gas_price(&self) -> Result<u64, Unreadable>;
}
