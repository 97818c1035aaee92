//! Rules in plain words, as a viewer who was refused reads them.

use std::fmt;

use super::{Leaf, Rule};
use crate::{
    evm::{ChainId, Uint256},
    time::UnixMillis,
};

/// Wei have 18 decimals on every EVM chain.
const COIN_DECIMALS: usize = 18;

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All(rules) => write!(f, "all of: {}", joined(rules, "and")),
            Self::Any(rules) => write!(f, "one of: {}", joined(rules, "or")),
            Self::AtLeast { k, rules } => write!(f, "at least {k} of: {}", joined(rules, "or")),
            Self::Not(rule) => write!(f, "not: ({rule})"),
            Self::Leaf(leaf) => leaf.fmt(f),
        }
    }
}

fn joined(rules: &[Rule], word: &str) -> String {
    let parts: Vec<String> = rules.iter().map(|rule| format!("({rule})")).collect();
    parts.join(&format!(" {word} "))
}

impl fmt::Display for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Erc721Balance { chain, contract, min } if *min == Uint256::ONE => {
                write!(f, "hold an NFT of the collection {contract} on {}", chain.name())
            }
            Self::Erc721Balance { chain, contract, min } => {
                write!(f, "hold at least {min} NFTs of the collection {contract} on {}", chain.name())
            }
            Self::Erc721Token { chain, contract, token } => {
                write!(f, "own the NFT {token} of the collection {contract} on {}", chain.name())
            }
            Self::Erc1155 { chain, contract, token, min } => {
                write!(f, "hold at least {min} of the token {token} of the collection {contract} on {}", chain.name())
            }
            Self::Erc20 { chain, contract, min } => {
                write!(f, "hold at least {min} of the smallest units of the token {contract} on {}", chain.name())
            }
            Self::Native { chain, min } => write!(f, "hold at least {} on {}", coins(*min, *chain), chain.name()),
            Self::Wallets(wallets) if wallets.len() == 1 => f.write_str("be the one wallet that is listed"),
            Self::Wallets(wallets) => write!(f, "be one of the {} wallets that are listed", wallets.len()),
            Self::TimeWindow { from: Some(from), until: None } => write!(f, "play from {} on", moment(*from)),
            Self::TimeWindow { from: None, until: Some(until) } => write!(f, "play before {}", moment(*until)),
            Self::TimeWindow { from, until } => {
                write!(f, "play from {} until {}", moment(from.unwrap_or_default()), moment(until.unwrap_or_default()))
            }
            Self::SignedIn => f.write_str("sign in with a wallet"),
            Self::Everyone => f.write_str("nothing: it is open to everyone"),
        }
    }
}

/// An amount of wei as coins, such as `0.5 ETH`.
#[must_use]
pub fn coins(wei: Uint256, chain: ChainId) -> String {
    let digits = format!("{:0>width$}", wei.to_string(), width = COIN_DECIMALS + 1);
    let (whole, part) = digits.split_at(digits.len() - COIN_DECIMALS);
    let part = part.trim_end_matches('0');
    let point = if part.is_empty() { "" } else { "." };
    format!("{whole}{point}{part} {}", chain.symbol())
}

fn moment(ms: UnixMillis) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| format!("{ms} ms"), |time| time.to_string())
}
