//! From the wire to a strict tree. The faults are found, not only the first one.

use streamgate_proto::streamgate::gate::v1::{self as pb, rule::Kind};

use super::{Leaf, MAX_DEPTH, MAX_LEAVES, MAX_WALLETS, Rule};
use crate::{
    error::FieldViolation,
    evm::{Address, BadWord, ChainId, Uint256, Wallet},
    time::{self, UnixMillis},
};

/// Faults that are collected at the most: a small message can hold very many.
const MAX_FAULTS: usize = 512;

pub(super) fn parse(rule: pb::Rule) -> Result<Rule, Vec<FieldViolation>> {
    let mut reader = Reader { faults: Vec::new(), leaves: 0 };
    let root = reader.rule(rule, "gate", 1);
    if reader.leaves > MAX_LEAVES {
        reader.fault("gate", format!("has {} leaves; at most {MAX_LEAVES} are taken", reader.leaves));
    }
    match root {
        Some(root) if reader.faults.is_empty() => Ok(root),
        _ => Err(reader.faults),
    }
}

struct Reader {
    faults: Vec<FieldViolation>,
    leaves: usize,
}

impl Reader {
    fn fault(&mut self, field: impl Into<String>, what: impl Into<String>) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(FieldViolation::new(field, what));
        }
    }

    fn rule(&mut self, rule: pb::Rule, path: &str, level: usize) -> Option<Rule> {
        if level > MAX_DEPTH {
            self.fault(path, format!("is nested too deep; at most {MAX_DEPTH} levels are taken"));
            return None;
        }
        let Some(kind) = rule.kind else {
            self.fault(path, "must be a rule: all, any, at_least, not, erc721, erc1155, erc20, native, wallets, time_window, signed_in or everyone");
            return None;
        };
        match kind {
            Kind::All(group) => self.rules(group.rules, &format!("{path}.all"), level).map(Rule::All),
            Kind::Any(group) => self.rules(group.rules, &format!("{path}.any"), level).map(Rule::Any),
            Kind::AtLeast(group) => self.at_least(group, &format!("{path}.at_least"), level),
            Kind::Not(rule) => self.rule(*rule, &format!("{path}.not"), level + 1).map(|rule| Rule::Not(Box::new(rule))),
            leaf => {
                self.leaves += 1;
                self.leaf(leaf, path).map(Rule::Leaf)
            }
        }
    }

    fn rules(&mut self, rules: Vec<pb::Rule>, path: &str, level: usize) -> Option<Vec<Rule>> {
        if rules.is_empty() {
            self.fault(format!("{path}.rules"), "must hold at least one rule");
            return None;
        }
        if rules.len() > MAX_LEAVES {
            self.fault(format!("{path}.rules"), format!("must hold at most {MAX_LEAVES} rules"));
            return None;
        }
        let read =
            rules.into_iter().enumerate().map(|(place, rule)| self.rule(rule, &format!("{path}.rules[{place}]"), level + 1));
        // Collected before it is judged, so that the faults of every rule are found.
        read.collect::<Vec<_>>().into_iter().collect()
    }

    fn at_least(&mut self, group: pb::AtLeast, path: &str, level: usize) -> Option<Rule> {
        let count = group.rules.len();
        let rules = self.rules(group.rules, path, level);
        let k = usize::try_from(group.k).unwrap_or(usize::MAX);
        if k == 0 || k > count {
            self.fault(format!("{path}.k"), format!("must be 1 to the number of rules, which is {count}"));
            return None;
        }
        rules.map(|rules| Rule::AtLeast { k, rules })
    }

    fn leaf(&mut self, kind: Kind, path: &str) -> Option<Leaf> {
        match kind {
            Kind::Erc721(leaf) => self.erc721(&leaf, &format!("{path}.erc721")),
            Kind::Erc1155(leaf) => self.erc1155(&leaf, &format!("{path}.erc1155")),
            Kind::Erc20(leaf) => {
                let path = format!("{path}.erc20");
                let chain = self.chain(&leaf.chain, &path);
                let contract = self.contract(&leaf.contract, &path);
                let min = self.minimum(&leaf.min_balance, &path, None);
                Some(Leaf::Erc20 { chain: chain?, contract: contract?, min: min? })
            }
            Kind::Native(leaf) => {
                let path = format!("{path}.native");
                let chain = self.chain(&leaf.chain, &path);
                let min = self.minimum(&leaf.min_balance, &path, None);
                Some(Leaf::Native { chain: chain?, min: min? })
            }
            Kind::Wallets(leaf) => self.wallets(&leaf.accounts, &format!("{path}.wallets.accounts")),
            Kind::TimeWindow(leaf) => self.time_window(leaf, &format!("{path}.time_window")),
            Kind::SignedIn(pb::SignedIn {}) => Some(Leaf::SignedIn),
            Kind::Everyone(pb::Everyone {}) => Some(Leaf::Everyone),
            // Groups are read by `rule`; one here would be a fault of this reader.
            Kind::All(_) | Kind::Any(_) | Kind::AtLeast(_) | Kind::Not(_) => {
                self.fault(path, "must be a leaf");
                None
            }
        }
    }

    fn erc721(&mut self, leaf: &pb::Erc721, path: &str) -> Option<Leaf> {
        let chain = self.chain(&leaf.chain, path);
        let contract = self.contract(&leaf.contract, path);
        let min = self.minimum(&leaf.min_balance, path, Some(Uint256::ONE));
        if leaf.token_id.is_empty() {
            return Some(Leaf::Erc721Balance { chain: chain?, contract: contract?, min: min? });
        }
        let token = self.word::<Uint256>(&leaf.token_id, format!("{path}.token_id"));
        if min.is_some_and(|min| min != Uint256::ONE) {
            self.fault(format!("{path}.min_balance"), "must be empty or 1 beside a token_id: one token has one owner");
            return None;
        }
        Some(Leaf::Erc721Token { chain: chain?, contract: contract?, token: token? })
    }

    fn erc1155(&mut self, leaf: &pb::Erc1155, path: &str) -> Option<Leaf> {
        let chain = self.chain(&leaf.chain, path);
        let contract = self.contract(&leaf.contract, path);
        let token = self.word(&leaf.token_id, format!("{path}.token_id"));
        let min = self.minimum(&leaf.min_balance, path, Some(Uint256::ONE));
        Some(Leaf::Erc1155 { chain: chain?, contract: contract?, token: token?, min: min? })
    }

    fn wallets(&mut self, accounts: &[String], path: &str) -> Option<Leaf> {
        if accounts.is_empty() || accounts.len() > MAX_WALLETS {
            self.fault(path, format!("must hold 1 to {MAX_WALLETS} accounts"));
            return None;
        }
        let faults = self.faults.len();
        let mut wallets = Vec::with_capacity(accounts.len());
        for (place, account) in accounts.iter().enumerate() {
            let field = format!("{path}[{place}]");
            let Some(wallet) = self.word::<Wallet>(account, field.clone()) else { continue };
            if wallet.address == Address::ZERO {
                self.fault(field, "must not be the zero address");
            }
            wallets.push(wallet);
        }
        (faults == self.faults.len()).then_some(Leaf::Wallets(wallets))
    }

    fn time_window(&mut self, window: pb::TimeWindow, path: &str) -> Option<Leaf> {
        let faults = self.faults.len();
        let from = window.from.and_then(|time| self.moment(time, format!("{path}.from")));
        let until = window.until.and_then(|time| self.moment(time, format!("{path}.until")));
        if window.from.is_none() && window.until.is_none() {
            self.fault(path, "must have from, until or both");
        }
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            self.fault(format!("{path}.until"), "must be after from");
        }
        (faults == self.faults.len()).then_some(Leaf::TimeWindow { from, until })
    }

    fn moment(&mut self, timestamp: prost_types::Timestamp, field: String) -> Option<UnixMillis> {
        let moment = time::exactly(&timestamp);
        if moment.is_none() {
            self.fault(field, "must be a time in the years 1 to 9999");
        }
        moment
    }

    fn chain(&mut self, text: &str, path: &str) -> Option<ChainId> {
        self.word(text, format!("{path}.chain"))
    }

    fn contract(&mut self, text: &str, path: &str) -> Option<Address> {
        let field = format!("{path}.contract");
        let address = self.word(text, field.clone())?;
        if address == Address::ZERO {
            self.fault(field, "must not be the zero address");
            return None;
        }
        Some(address)
    }

    fn minimum(&mut self, text: &str, path: &str, default: Option<Uint256>) -> Option<Uint256> {
        let field = format!("{path}.min_balance");
        if let (true, Some(default)) = (text.is_empty(), default) {
            return Some(default);
        }
        let min = self.word(text, field.clone())?;
        if min == Uint256::ZERO {
            self.fault(field, "must be at least 1: everybody holds 0");
            return None;
        }
        Some(min)
    }

    fn word<T: std::str::FromStr<Err = BadWord>>(&mut self, text: &str, field: String) -> Option<T> {
        match text.parse() {
            Ok(word) => Some(word),
            Err(what) => {
                self.fault(field, what.to_string());
                None
            }
        }
    }
}
