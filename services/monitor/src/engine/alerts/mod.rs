//! Alerts: rules, what they look at, the states of an alert, and where it is kept.

mod evaluator;
mod facts;
mod rules;
mod state;
mod store;

pub use evaluator::{Evaluator, RuleStatus};
pub use facts::{Facts, GasPrices, Observation};
pub use rules::{Kind, Rule, Severity, defaults};
pub use state::{AlertState, Open, Step, next};
pub use store::{Alert, AlertStore};
