//! The one form of a gate that its hash is taken over, and the way back to the wire.

use sha2::{Digest, Sha256};
use streamgate_proto::streamgate::gate::v1::{self as pb, rule::Kind};

use super::{Leaf, Rule};
use crate::time::to_timestamp;

/// Names the form, so that another one can't give the same hash for another meaning.
const VERSION: &str = "streamgate-gate-1\n";

pub(super) fn hash(rule: &Rule) -> String {
    hex::encode(Sha256::digest(format!("{VERSION}{}", text(rule))))
}

/// Groups are sorted: the order of their rules means nothing.
fn text(rule: &Rule) -> String {
    match rule {
        Rule::All(rules) => format!("all({})", sorted(rules)),
        Rule::Any(rules) => format!("any({})", sorted(rules)),
        Rule::AtLeast { k, rules } => format!("at_least({k};{})", sorted(rules)),
        Rule::Not(rule) => format!("not({})", text(rule)),
        Rule::Leaf(leaf) => leaf_text(leaf),
    }
}

fn sorted(rules: &[Rule]) -> String {
    let mut texts: Vec<String> = rules.iter().map(text).collect();
    texts.sort();
    texts.join(",")
}

fn leaf_text(leaf: &Leaf) -> String {
    match leaf {
        Leaf::Erc721Balance { chain, contract, min } => format!("erc721({chain}/{}>={min})", contract.lower()),
        Leaf::Erc721Token { chain, contract, token } => format!("erc721({chain}/{}#{token})", contract.lower()),
        Leaf::Erc1155 { chain, contract, token, min } => format!("erc1155({chain}/{}#{token}>={min})", contract.lower()),
        Leaf::Erc20 { chain, contract, min } => format!("erc20({chain}/{}>={min})", contract.lower()),
        Leaf::Native { chain, min } => format!("native({chain}>={min})"),
        Leaf::Wallets(wallets) => {
            let mut texts: Vec<String> =
                wallets.iter().map(|wallet| format!("{}:{}", wallet.chain, wallet.address.lower())).collect();
            texts.sort();
            texts.dedup();
            format!("wallets({})", texts.join(","))
        }
        Leaf::TimeWindow { from, until } => format!("time({}..{})", optional(*from), optional(*until)),
        Leaf::SignedIn => "signed_in".to_owned(),
        Leaf::Everyone => "everyone".to_owned(),
    }
}

fn optional(time: Option<i64>) -> String {
    time.map_or_else(String::new, |ms| ms.to_string())
}

pub(super) fn to_wire(rule: &Rule) -> pb::Rule {
    let group = |rules: &[Rule]| rules.iter().map(to_wire).collect();
    let kind = match rule {
        Rule::All(rules) => Kind::All(pb::Group { rules: group(rules) }),
        Rule::Any(rules) => Kind::Any(pb::Group { rules: group(rules) }),
        Rule::AtLeast { k, rules } => {
            Kind::AtLeast(pb::AtLeast { k: u32::try_from(*k).unwrap_or(u32::MAX), rules: group(rules) })
        }
        Rule::Not(rule) => Kind::Not(Box::new(to_wire(rule))),
        Rule::Leaf(leaf) => leaf_to_wire(leaf),
    };
    pb::Rule { kind: Some(kind) }
}

fn leaf_to_wire(leaf: &Leaf) -> Kind {
    match leaf {
        Leaf::Erc721Balance { chain, contract, min } => Kind::Erc721(pb::Erc721 {
            chain: chain.to_string(),
            contract: contract.to_string(),
            min_balance: min.to_string(),
            token_id: String::new(),
        }),
        Leaf::Erc721Token { chain, contract, token } => Kind::Erc721(pb::Erc721 {
            chain: chain.to_string(),
            contract: contract.to_string(),
            min_balance: String::new(),
            token_id: token.to_string(),
        }),
        Leaf::Erc1155 { chain, contract, token, min } => Kind::Erc1155(pb::Erc1155 {
            chain: chain.to_string(),
            contract: contract.to_string(),
            token_id: token.to_string(),
            min_balance: min.to_string(),
        }),
        Leaf::Erc20 { chain, contract, min } => {
            Kind::Erc20(pb::Erc20 { chain: chain.to_string(), contract: contract.to_string(), min_balance: min.to_string() })
        }
        Leaf::Native { chain, min } => Kind::Native(pb::Native { chain: chain.to_string(), min_balance: min.to_string() }),
        Leaf::Wallets(wallets) => Kind::Wallets(pb::Wallets { accounts: wallets.iter().map(ToString::to_string).collect() }),
        Leaf::TimeWindow { from, until } => {
            Kind::TimeWindow(pb::TimeWindow { from: from.map(to_timestamp), until: until.map(to_timestamp) })
        }
        Leaf::SignedIn => Kind::SignedIn(pb::SignedIn {}),
        Leaf::Everyone => Kind::Everyone(pb::Everyone {}),
    }
}
