//! The answer of one leaf.

use streamgate_core::gate::Verdict;

use crate::rpc::BlockRef;

/// What one leaf answered.
#[derive(Debug, Clone)]
pub(super) struct LeafAnswer {
    pub verdict: Verdict,
    pub detail: String,
    pub blocks: Vec<BlockRef>,
}

impl LeafAnswer {
    pub(super) fn new(verdict: Verdict, detail: impl Into<String>) -> Self {
        Self { verdict, detail: detail.into(), blocks: Vec::new() }
    }

    /// For a leaf about wallets and a viewer who has shown none. What such a wallet would be or hold is not known, and so
    /// neither is the opposite: else whoever is refused would be let in by signing out.
    pub(super) fn without_wallet() -> Self {
        Self::new(Verdict::Unknown, "no wallet is signed in")
    }

    /// For a leaf that nobody answered, which would be a fault here: it opens nothing.
    pub(super) fn lost() -> Self {
        Self::new(Verdict::Unknown, "this rule was not checked")
    }
}
