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

    /// For a leaf that nobody answered, which would be a fault here: it opens nothing.
    pub(super) fn lost() -> Self {
        Self::new(Verdict::Unknown, "this rule was not checked")
    }
}
