//! The answer of a gate, with the tree behind it.

use std::collections::BTreeSet;

use streamgate_core::{
    gate::{Gate, Rule, Verdict},
    time::{UnixMillis, now_ms, to_timestamp},
};
use streamgate_proto::streamgate::gate::v1 as pb;

use super::answer::LeafAnswer;
use crate::rpc::BlockRef;

/// The answer of a whole gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Granted, denied or unknown.
    pub verdict: Verdict,
    /// Requirements that were not met, or could not be checked, in plain words; empty when granted.
    pub unmet: Vec<String>,
    /// The blocks that were read.
    pub blocks: Vec<BlockRef>,
    /// The whole tree.
    pub result: RuleResult,
    /// When.
    pub checked_at: UnixMillis,
}

/// What one rule answered, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleResult {
    /// Its answer.
    pub verdict: Verdict,
    /// The rule in plain words.
    pub description: String,
    /// What was found.
    pub detail: String,
    /// Results of a group's rules, in order.
    pub rules: Vec<Self>,
}

impl Decision {
    /// The answer where there is no gate that can be read. Such a gate opens nothing, and nobody is told that it is not met.
    #[must_use]
    pub fn unreadable(why: String) -> Self {
        let description = "a gate that can be read".to_owned();
        let result = RuleResult { verdict: Verdict::Unknown, description: description.clone(), detail: why, rules: Vec::new() };
        Self { verdict: Verdict::Unknown, unmet: vec![description], blocks: Vec::new(), result, checked_at: now_ms() }
    }

    /// Puts the leaves' answers, in the order of the tree, together.
    pub(super) fn of(gate: &Gate, leaves: Vec<LeafAnswer>, has_wallet: bool, checked_at: UnixMillis) -> Self {
        let blocks: BTreeSet<BlockRef> = leaves.iter().flat_map(|leaf| leaf.blocks.iter().copied()).collect();
        let mut result = RuleResult::of(gate.root(), &mut leaves.into_iter());
        if !has_wallet {
            result.deny_what_is_unknown();
        }
        let unmet = match (result.verdict, gate.root()) {
            (Verdict::Granted, _) => Vec::new(),
            // A denial is explained by what failed; what could not be read would only confuse.
            (verdict, Rule::All(_)) => {
                result.rules.iter().filter(|rule| rule.verdict == verdict).map(|rule| rule.description.clone()).collect()
            }
            _ => vec![result.description.clone()],
        };
        Self { verdict: result.verdict, unmet, blocks: blocks.into_iter().collect(), result, checked_at }
    }
}

impl RuleResult {
    fn of(rule: &Rule, leaves: &mut impl Iterator<Item = LeafAnswer>) -> Self {
        let description = rule.to_string();
        let (rules, detail, verdict) = match rule {
            Rule::Leaf(_) => {
                let answer = leaves.next().unwrap_or_else(LeafAnswer::lost);
                (Vec::new(), answer.detail, answer.verdict)
            }
            Rule::Not(rule) => {
                let inner = Self::of(rule, leaves);
                let verdict = inner.verdict.negate();
                (vec![inner], String::new(), verdict)
            }
            Rule::All(rules) => Self::group(rules, rules.len(), leaves),
            Rule::Any(rules) => Self::group(rules, 1, leaves),
            Rule::AtLeast { k, rules } => Self::group(rules, *k, leaves),
        };
        Self { verdict, description, detail, rules }
    }

    /// Without a wallet no chain is asked, so asking again would not help: whoever wants in has to sign in.
    fn deny_what_is_unknown(&mut self) {
        if self.verdict == Verdict::Unknown {
            self.verdict = Verdict::Denied;
        }
        self.rules.iter_mut().for_each(Self::deny_what_is_unknown);
    }

    fn group(rules: &[Rule], needed: usize, leaves: &mut impl Iterator<Item = LeafAnswer>) -> (Vec<Self>, String, Verdict) {
        let results: Vec<Self> = rules.iter().map(|rule| Self::of(rule, leaves)).collect();
        let granted = results.iter().filter(|result| result.verdict == Verdict::Granted).count();
        let verdict = Verdict::at_least(needed, results.iter().map(|result| result.verdict));
        (results, format!("{granted} of {} hold, {needed} needed", rules.len()), verdict)
    }
}

impl From<RuleResult> for pb::RuleResult {
    fn from(result: RuleResult) -> Self {
        Self {
            verdict: result.verdict.to_wire().into(),
            description: result.description,
            detail: result.detail,
            rules: result.rules.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<Decision> for pb::Decision {
    fn from(decision: Decision) -> Self {
        let blocks = decision.blocks.iter().map(|block| pb::BlockRef {
            chain: block.chain.to_string(),
            number: block.number,
            hash: format!("0x{}", hex::encode(block.hash)),
        });
        Self {
            verdict: decision.verdict.to_wire().into(),
            unmet: decision.unmet,
            blocks: blocks.collect(),
            result: Some(decision.result.into()),
            checked_at: Some(to_timestamp(decision.checked_at)),
        }
    }
}
