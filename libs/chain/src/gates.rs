//! Answers of gates: facts are read from chains together, once, and verdicts follow from them.

mod answer;
mod decision;
mod evaluator;
mod fact;
mod facts;

pub use decision::{Decision, RuleResult};
pub use evaluator::{Evaluator, Query};
pub use fact::{Fact, FactKind, Known, Value};
