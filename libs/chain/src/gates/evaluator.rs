//! Many gates at once: their facts are gathered, read a chain at a time, and judged.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::Duration,
};

use streamgate_core::{
    evm::{Address, ChainId, Wallet},
    gate::{Gate, Leaf, Verdict, coins},
    time::{UnixMillis, now_ms},
};

use super::{
    answer::LeafAnswer,
    decision::Decision,
    fact::{Fact, FactKind, Known, Value},
    facts::{DENIAL_BELIEVED_FOR, Facts, REMEMBERED_FOR},
};
use crate::rpc::Chains;

/// Does this wallet, or set of wallets, meet this gate?
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The gate.
    pub gate: Gate,
    /// Wallets that one viewer has proved. Each counts on every EVM chain.
    pub wallets: Vec<Wallet>,
}

/// Answers gates.
#[derive(Debug, Clone)]
pub struct Evaluator {
    facts: Facts,
}

impl Evaluator {
    /// Over these chains.
    #[must_use]
    pub fn new(chains: Chains) -> Self {
        Self { facts: Facts::new(chains) }
    }

    /// The chains it reads.
    #[must_use]
    pub const fn chains(&self) -> &Chains {
        self.facts.chains()
    }

    /// The answer of one gate.
    pub async fn evaluate(&self, query: Query) -> Decision {
        let gate = query.gate.clone();
        let mut decisions = self.evaluate_many(vec![query]).await;
        decisions.pop().unwrap_or_else(|| Decision::of(&gate, Vec::new(), true, now_ms()))
    }

    /// The answers of many gates, in order. A fact that several need is read once.
    pub async fn evaluate_many(&self, queries: Vec<Query>) -> Vec<Decision> {
        let subjects: Vec<Subject> = queries.iter().map(|query| Subject::of(&query.wallets)).collect();
        let mut known: HashMap<Fact, Known> = HashMap::new();
        let mut wanted: HashSet<Fact> = HashSet::new();
        for (query, subject) in queries.iter().zip(&subjects) {
            for leaf in query.gate.leaves() {
                self.gather(leaf, subject, &mut known, &mut wanted).await;
            }
        }
        known.retain(|fact, _| !wanted.contains(fact));
        known.extend(self.facts.read(wanted).await);
        let now = now_ms();
        let pairs = queries.iter().zip(&subjects);
        pairs
            .map(|(query, subject)| {
                let leaves = query.gate.leaves().into_iter().map(|leaf| answer(leaf, subject, &known, now));
                Decision::of(&query.gate, leaves.collect(), subject.has_wallet(), now)
            })
            .collect()
    }

    /// Sorts a leaf's facts into those remembered well enough and those to be read.
    async fn gather(&self, leaf: &Leaf, subject: &Subject, known: &mut HashMap<Fact, Known>, wanted: &mut HashSet<Fact>) {
        for (holder, fact) in facts_of(leaf, subject) {
            if wanted.contains(&fact) {
                continue;
            }
            match self.facts.remembered(&fact).await {
                Some(found) if found.since.elapsed() < believed_for(leaf, holder, &found.known) => {
                    known.insert(fact, found.known);
                }
                _ => {
                    wanted.insert(fact);
                }
            }
        }
    }
}

/// How long a remembered fact is believed depends on what it says.
fn believed_for(leaf: &Leaf, holder: Address, known: &Known) -> Duration {
    match &known.value {
        Ok(value) if meets(leaf, holder, value) => REMEMBERED_FOR,
        Ok(_) => DENIAL_BELIEVED_FOR,
        Err(_) => Duration::ZERO,
    }
}

/// The viewer: different addresses, none of them nobody's.
struct Subject {
    addresses: BTreeSet<Address>,
}

impl Subject {
    fn of(wallets: &[Wallet]) -> Self {
        Self { addresses: wallets.iter().map(|wallet| wallet.address).filter(|address| *address != Address::ZERO).collect() }
    }

    fn has_wallet(&self) -> bool {
        !self.addresses.is_empty()
    }
}

/// The facts that a leaf rests on, each with the address it is about.
fn facts_of(leaf: &Leaf, subject: &Subject) -> Vec<(Address, Fact)> {
    let Some(chain) = leaf.chain() else { return Vec::new() };
    subject.addresses.iter().filter_map(|holder| Some((*holder, Fact { chain, kind: fact_kind(leaf, *holder)? }))).collect()
}

const fn fact_kind(leaf: &Leaf, holder: Address) -> Option<FactKind> {
    match leaf {
        Leaf::Erc721Balance { contract, .. } | Leaf::Erc20 { contract, .. } => {
            Some(FactKind::Balance { contract: *contract, holder })
        }
        Leaf::Erc721Token { contract, token, .. } => Some(FactKind::Owner { contract: *contract, token: *token }),
        Leaf::Erc1155 { contract, token, .. } => Some(FactKind::IdBalance { contract: *contract, holder, token: *token }),
        Leaf::Native { .. } => Some(FactKind::Coins(holder)),
        Leaf::Wallets(_) | Leaf::TimeWindow { .. } | Leaf::SignedIn | Leaf::Everyone => None,
    }
}

fn meets(leaf: &Leaf, holder: Address, value: &Value) -> bool {
    match (leaf, value) {
        (
            Leaf::Erc721Balance { min, .. } | Leaf::Erc20 { min, .. } | Leaf::Erc1155 { min, .. } | Leaf::Native { min, .. },
            Value::Amount(amount),
        ) => amount >= min,
        (Leaf::Erc721Token { .. }, Value::Owner(owner)) => *owner == Some(holder),
        _ => false,
    }
}

fn answer(leaf: &Leaf, subject: &Subject, known: &HashMap<Fact, Known>, now: UnixMillis) -> LeafAnswer {
    let yes_or_no = |holds: bool| if holds { Verdict::Granted } else { Verdict::Denied };
    match leaf {
        Leaf::Everyone => LeafAnswer::new(Verdict::Granted, "anybody may"),
        Leaf::SignedIn if !subject.has_wallet() => LeafAnswer::new(Verdict::Denied, "no wallet is signed in"),
        Leaf::SignedIn => LeafAnswer::new(Verdict::Granted, "a wallet is signed in"),
        Leaf::TimeWindow { from, until } => {
            let inside = from.is_none_or(|from| now >= from) && until.is_none_or(|until| now < until);
            LeafAnswer::new(yes_or_no(inside), if inside { "the time is inside" } else { "the time is outside" })
        }
        Leaf::Wallets(_) if !subject.has_wallet() => LeafAnswer::without_wallet(),
        Leaf::Wallets(listed) => {
            let found = listed.iter().any(|wallet| subject.addresses.contains(&wallet.address));
            LeafAnswer::new(yes_or_no(found), if found { "the wallet is listed" } else { "no signed-in wallet is listed" })
        }
        on_chain => on_chain.chain().map_or_else(LeafAnswer::lost, |chain| from_facts(on_chain, chain, subject, known)),
    }
}

/// One wallet that meets the leaf is enough; amounts of several are not added up.
fn from_facts(leaf: &Leaf, chain: ChainId, subject: &Subject, known: &HashMap<Fact, Known>) -> LeafAnswer {
    let facts = facts_of(leaf, subject);
    if facts.is_empty() {
        return LeafAnswer::without_wallet();
    }
    let (mut verdicts, mut details, mut blocks) = (Vec::new(), Vec::new(), BTreeSet::new());
    for (holder, fact) in facts {
        let found = known.get(&fact).cloned().unwrap_or_else(|| Known::unknown("this fact was not read"));
        blocks.extend(found.block);
        verdicts.push(match &found.value {
            Ok(value) if meets(leaf, holder, value) => Verdict::Granted,
            Ok(_) => Verdict::Denied,
            Err(_) => Verdict::Unknown,
        });
        let detail = describe(leaf, chain, holder, &found.value);
        if !details.contains(&detail) {
            details.push(detail);
        }
    }
    LeafAnswer { verdict: Verdict::any(verdicts), detail: details.join("; "), blocks: blocks.into_iter().collect() }
}

fn describe(leaf: &Leaf, chain: ChainId, holder: Address, value: &Result<Value, String>) -> String {
    match value {
        Ok(Value::Amount(amount)) if matches!(leaf, Leaf::Native { .. }) => format!("{holder} holds {}", coins(*amount, chain)),
        Ok(Value::Amount(amount)) => format!("{holder} holds {amount}"),
        Ok(Value::Owner(Some(owner))) => format!("it is owned by {owner}"),
        Ok(Value::Owner(None)) => "nobody owns it".to_owned(),
        Err(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use streamgate_core::evm::Uint256;

    use super::*;

    #[test]
    fn a_grant_is_believed_for_seconds_a_denial_shorter_and_the_unknown_never() {
        let holder = Address::new([1; 20]);
        let leaf = Leaf::Native { chain: ChainId::ETHEREUM, min: Uint256::from_u64(5) };
        let holding = |amount| Known { value: Ok(Value::Amount(Uint256::from_u64(amount))), block: None };
        assert_eq!(believed_for(&leaf, holder, &holding(5)), Duration::from_secs(5));
        assert_eq!(believed_for(&leaf, holder, &holding(4)), Duration::from_secs(1));
        assert_eq!(believed_for(&leaf, holder, &Known::unknown("x")), Duration::ZERO);
    }

    #[test]
    fn nobodys_address_is_never_a_holder() {
        let wallet = Wallet { chain: ChainId::ETHEREUM, address: Address::ZERO };
        let answer = answer(&Leaf::SignedIn, &Subject::of(&[wallet]), &HashMap::new(), 0);
        assert_eq!(answer.verdict, Verdict::Denied);
    }

    #[test]
    fn a_window_is_open_from_its_first_moment_until_before_its_last() {
        let leaf = Leaf::TimeWindow { from: Some(10), until: Some(20) };
        let at = |now| answer(&leaf, &Subject::of(&[]), &HashMap::new(), now).verdict == Verdict::Granted;
        assert_eq!([9, 10, 19, 20].map(at), [false, true, true, false]);
    }
}
