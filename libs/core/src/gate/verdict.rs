//! Three-valued answers (Kleene's strong logic): what is not known never opens anything.

use streamgate_proto::streamgate::gate::v1 as pb;

use super::{Leaf, Rule};

/// The answer of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It holds.
    Granted,
    /// It does not hold.
    Denied,
    /// It could not be checked. Neither yes nor no, and `not` of it is the same.
    Unknown,
}

impl Verdict {
    /// The answer of `all`.
    pub fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        let answers: Vec<Self> = answers.into_iter().collect();
        Self::at_least(answers.len(), answers)
    }

    /// The answer of `any`.
    pub fn any(answers: impl IntoIterator<Item = Self>) -> Self {
        Self::at_least(1, answers)
    }

    /// The answer of `at_least`: known as soon as enough hold, or enough can't.
    pub fn at_least(k: usize, answers: impl IntoIterator<Item = Self>) -> Self {
        let (mut granted, mut unknown) = (0, 0);
        for answer in answers {
            match answer {
                Self::Granted => granted += 1,
                Self::Unknown => unknown += 1,
                Self::Denied => {}
            }
        }
        if granted >= k {
            Self::Granted
        } else if granted + unknown < k {
            Self::Denied
        } else {
            Self::Unknown
        }
    }

    /// The answer of `not`.
    #[must_use]
    pub const fn negate(self) -> Self {
        match self {
            Self::Granted => Self::Denied,
            Self::Denied => Self::Granted,
            Self::Unknown => Self::Unknown,
        }
    }

    /// The value on the wire.
    #[must_use]
    pub const fn to_wire(self) -> pb::Verdict {
        match self {
            Self::Granted => pb::Verdict::Granted,
            Self::Denied => pb::Verdict::Denied,
            Self::Unknown => pb::Verdict::Unknown,
        }
    }

    /// From the wire; anything that is not clearly yes or no is unknown.
    #[must_use]
    pub const fn from_wire(value: pb::Verdict) -> Self {
        match value {
            pb::Verdict::Granted => Self::Granted,
            pb::Verdict::Denied => Self::Denied,
            pb::Verdict::Unknown | pb::Verdict::Unspecified => Self::Unknown,
        }
    }
}

impl Rule {
    /// The answer of this node, with `check` answering the leaves.
    pub fn evaluate(&self, check: &mut impl FnMut(&Leaf) -> Verdict) -> Verdict {
        match self {
            Self::All(rules) => Verdict::all(rules.iter().map(|rule| rule.evaluate(check)).collect::<Vec<_>>()),
            Self::Any(rules) => Verdict::any(rules.iter().map(|rule| rule.evaluate(check)).collect::<Vec<_>>()),
            Self::AtLeast { k, rules } => {
                Verdict::at_least(*k, rules.iter().map(|rule| rule.evaluate(check)).collect::<Vec<_>>())
            }
            Self::Not(rule) => rule.evaluate(check).negate(),
            Self::Leaf(leaf) => check(leaf),
        }
    }
}
