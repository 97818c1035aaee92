//! Keys whose values no message may show.

use serde_json::{Map, Value};

use super::ConfigError;

/// How the names of such keys end. A URL may hold a password.
const ENDINGS: [&str; 6] = ["secret", "password", "access_key", "secret_key", "token", "url"];

pub(super) fn is_secret(key: &str) -> bool {
    ENDINGS.iter().any(|ending| key.ends_with(ending))
}

/// Refuses a secret that YAML did not read as text. What uses the value later would refuse it too, and print
/// it; and a number has lost its leading zeros.
pub(super) fn check(tree: &Map<String, Value>) -> Result<(), ConfigError> {
    tree.iter().try_for_each(|(key, value)| check_one(key, key, value))
}

fn check_one(place: &str, key: &str, value: &Value) -> Result<(), ConfigError> {
    match value {
        Value::Number(_) | Value::Bool(_) if is_secret(key) => {
            Err(ConfigError(format!("{place} must be text: put its value in quotes")))
        }
        Value::Object(map) => map.iter().try_for_each(|(key, value)| check_one(&format!("{place}.{key}"), key, value)),
        Value::Array(items) => items.iter().try_for_each(|item| check_one(place, key, item)),
        _ => Ok(()),
    }
}
