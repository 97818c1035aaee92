//! One thing that a chain can be asked for a gate, and what it answered.

use streamgate_core::evm::{Address, ChainId, Uint256};

use crate::{
    abi,
    rpc::{Answer, BlockRef, Call},
};

/// One thing that a chain can be asked. Equal facts are read once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Fact {
    /// The chain.
    pub chain: ChainId,
    /// What of it.
    pub kind: FactKind,
}

/// What a chain can be asked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FactKind {
    /// `balanceOf` of an ERC-721 or ERC-20 contract.
    Balance {
        /// The contract.
        contract: Address,
        /// Whose.
        holder: Address,
    },
    /// `ownerOf` of an ERC-721 contract.
    Owner {
        /// The contract.
        contract: Address,
        /// Which token.
        token: Uint256,
    },
    /// `balanceOf` of an ERC-1155 contract.
    IdBalance {
        /// The contract.
        contract: Address,
        /// Whose.
        holder: Address,
        /// Which id.
        token: Uint256,
    },
    /// The chain's own coin.
    Coins(Address),
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An amount.
    Amount(Uint256),
    /// An owner; absent when the contract knows of none.
    Owner(Option<Address>),
}

/// A fact with the block it was read at, or why it is not known, in words that are safe to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// What was found.
    pub value: Result<Value, String>,
    /// Where; absent when the chain was not reached.
    pub block: Option<BlockRef>,
}

impl Known {
    /// Not known.
    #[must_use]
    pub fn unknown(why: impl Into<String>) -> Self {
        Self { value: Err(why.into()), block: None }
    }
}

impl Fact {
    /// How to ask for it.
    #[must_use]
    pub fn call(&self) -> Call {
        match &self.kind {
            FactKind::Balance { contract, holder } => Call::View { to: *contract, input: abi::balance_of(*holder) },
            FactKind::Owner { contract, token } => Call::View { to: *contract, input: abi::owner_of(*token) },
            FactKind::IdBalance { contract, holder, token } => {
                Call::View { to: *contract, input: abi::balance_of_id(*holder, *token) }
            }
            FactKind::Coins(holder) => Call::CoinBalance(*holder),
        }
    }

    /// What an answer means. Only `ownerOf` may revert: that is its way to say that nobody owns the token.
    ///
    /// # Errors
    /// Why the answer means nothing.
    pub fn read(&self, answer: &Answer) -> Result<Value, String> {
        match (&self.kind, answer) {
            (FactKind::Owner { .. }, Answer::Word(word)) => {
                let owner = abi::as_address(word).ok_or("the contract gave an owner that is no address")?;
                Ok(Value::Owner(Some(owner).filter(|owner| *owner != Address::ZERO)))
            }
            (FactKind::Owner { .. }, Answer::Reverted) => Ok(Value::Owner(None)),
            (_, Answer::Word(word)) => Ok(Value::Amount(Uint256::from_be_bytes(*word))),
            (_, Answer::Reverted) => Err("the contract refused to tell a balance".to_owned()),
            (_, Answer::Empty) => Err("there is no such contract on this chain, or it lacks the function".to_owned()),
            (_, Answer::Unusable(why) | Answer::Failed(why)) => Err(why.clone()),
        }
    }
}
