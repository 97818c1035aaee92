//! Gates: strict trees of rules, read once from the wire.
//!
//! A gate says what a viewer must hold or be. It is read with [`Gate::try_from`], which refuses
//! anything it does not fully understand, and is answered in three values: see [`Verdict`].

mod canonical;
mod parse;
mod verdict;
mod words;

use streamgate_proto::streamgate::gate::v1 as pb;

use crate::{
    error::FieldViolation,
    evm::{Address, ChainId, Uint256, Wallet},
    time::UnixMillis,
};

pub use verdict::Verdict;
pub use words::coins;

/// Levels of a gate at the most, the leaves included.
pub const MAX_DEPTH: usize = 5;
/// Leaves of a gate at the most: each may cost a read of a chain.
pub const MAX_LEAVES: usize = 32;
/// Accounts of one `wallets` rule at the most.
pub const MAX_WALLETS: usize = 256;

/// A whole gate: within the limits, every word checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    root: Rule,
}

/// A node of a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// Every rule must hold.
    All(Vec<Self>),
    /// One rule must hold.
    Any(Vec<Self>),
    /// At least `k` of the rules must hold.
    AtLeast {
        /// 1 to the number of rules.
        k: usize,
        /// The rules.
        rules: Vec<Self>,
    },
    /// The rule must not hold.
    Not(Box<Self>),
    /// Something that is checked.
    Leaf(Leaf),
}

/// Something that is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Leaf {
    /// At least so many tokens of an ERC-721 collection.
    Erc721Balance {
        /// Where.
        chain: ChainId,
        /// The collection.
        contract: Address,
        /// At least 1.
        min: Uint256,
    },
    /// One very token of an ERC-721 collection.
    Erc721Token {
        /// Where.
        chain: ChainId,
        /// The collection.
        contract: Address,
        /// The token.
        token: Uint256,
    },
    /// At least so many of one id of an ERC-1155 collection.
    Erc1155 {
        /// Where.
        chain: ChainId,
        /// The collection.
        contract: Address,
        /// The id.
        token: Uint256,
        /// At least 1.
        min: Uint256,
    },
    /// At least so many smallest units of an ERC-20 token.
    Erc20 {
        /// Where.
        chain: ChainId,
        /// The token.
        contract: Address,
        /// At least 1.
        min: Uint256,
    },
    /// At least so much of the chain's own coin, in wei.
    Native {
        /// Where.
        chain: ChainId,
        /// At least 1.
        min: Uint256,
    },
    /// One of the listed wallets; an address counts on every EVM chain.
    Wallets(Vec<Wallet>),
    /// The time lies in a window.
    TimeWindow {
        /// First moment inside.
        from: Option<UnixMillis>,
        /// First moment outside.
        until: Option<UnixMillis>,
    },
    /// Any signed-in wallet.
    SignedIn,
    /// Anybody.
    Everyone,
}

impl Gate {
    /// Reads an optional wire rule; one without a kind is no gate.
    ///
    /// # Errors
    /// Every field that is wrong, with a path that begins with `gate`.
    pub fn from_wire(rule: Option<pb::Rule>) -> Result<Option<Self>, Vec<FieldViolation>> {
        rule.filter(|rule| rule.kind.is_some()).map(Self::try_from).transpose()
    }

    /// A gate of one leaf. For leaves that were read elsewhere; the limits hold by themselves.
    #[must_use]
    pub const fn of_leaf(leaf: Leaf) -> Self {
        Self { root: Rule::Leaf(leaf) }
    }

    /// The tree.
    #[must_use]
    pub const fn root(&self) -> &Rule {
        &self.root
    }

    /// SHA-256 in hex of the canonical form: equal for gates that differ only in the order of a
    /// group's rules, in the case of addresses, or in spelled-out defaults.
    #[must_use]
    pub fn hash(&self) -> String {
        canonical::hash(&self.root)
    }

    /// What a viewer must meet, in plain words; one entry for each rule of an outer `all`.
    #[must_use]
    pub fn requirements(&self) -> Vec<String> {
        match &self.root {
            Rule::All(rules) => rules.iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        }
    }

    /// Whether anybody meets it at any time, without signing in.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let verdict = self.root.evaluate(&mut |leaf| match leaf {
            Leaf::Everyone => Verdict::Granted,
            _ => Verdict::Unknown,
        });
        verdict == Verdict::Granted
    }

    /// Every leaf, in order.
    #[must_use]
    pub fn leaves(&self) -> Vec<&Leaf> {
        let mut found = Vec::new();
        collect(&self.root, &mut found);
        found
    }
}

fn collect<'a>(rule: &'a Rule, found: &mut Vec<&'a Leaf>) {
    match rule {
        Rule::All(rules) | Rule::Any(rules) | Rule::AtLeast { rules, .. } => {
            for rule in rules {
                collect(rule, found);
            }
        }
        Rule::Not(rule) => collect(rule, found),
        Rule::Leaf(leaf) => found.push(leaf),
    }
}

impl Leaf {
    /// The chain that has to be read for it; absent when none has to.
    #[must_use]
    pub const fn chain(&self) -> Option<ChainId> {
        match self {
            Self::Erc721Balance { chain, .. }
            | Self::Erc721Token { chain, .. }
            | Self::Erc1155 { chain, .. }
            | Self::Erc20 { chain, .. }
            | Self::Native { chain, .. } => Some(*chain),
            Self::Wallets(_) | Self::TimeWindow { .. } | Self::SignedIn | Self::Everyone => None,
        }
    }
}

impl TryFrom<pb::Rule> for Gate {
    type Error = Vec<FieldViolation>;

    fn try_from(rule: pb::Rule) -> Result<Self, Vec<FieldViolation>> {
        parse::parse(rule).map(|root| Self { root })
    }
}

impl From<Gate> for pb::Rule {
    fn from(gate: Gate) -> Self {
        Self::from(&gate)
    }
}

impl From<&Gate> for pb::Rule {
    fn from(gate: &Gate) -> Self {
        canonical::to_wire(&gate.root)
    }
}

#[cfg(test)]
mod tests;
