//! Configuration from environment variables.

use serde_json::{Map, Value};
use streamgate_core::ServiceName;

use super::{ConfigError, secrets, section_of};

const PREFIX: &str = "STREAMGATE_";
/// Read elsewhere: which files there are, and what the command-line client uses.
const READ_ELSEWHERE: [&str; 6] =
    ["STREAMGATE_ENV", "STREAMGATE_CONFIG", "STREAMGATE_URL", "STREAMGATE_TOKEN", "STREAMGATE_API_KEY", "STREAMGATE_LOG"];
const SECTIONS: [&str; 10] = ["server", "log", "mesh", "telemetry", "chains", "redis", "database", "s3", "nats", "events"];

/// Applies one variable. Those that are not ours are left alone.
pub(super) fn apply(tree: &mut Map<String, Value>, name: &str, value: &str) -> Result<(), ConfigError> {
    match name {
        "STREAMGATE_DATA_DIR" => set_text(tree, &["data_dir"], value),
        "STREAMGATE_PUBLIC_URL" => set_text(tree, &["public_url"], value),
        "SERVER_HOST" => set_text(tree, &["server", "host"], value),
        "DB_HOST" => set_text(tree, &["database", "host"], value),
        "DB_USER" => set_text(tree, &["database", "user"], value),
        "DB_PASSWORD" => set_text(tree, &["database", "password"], value),
        "DB_DATABASE" => set_text(tree, &["database", "name"], value),
        "DB_PORT" => set_port(tree, "database", name, value)?,
        "NATS_URL" => set_text(tree, &["nats", "url"], value),
        "S3_ENDPOINT" => set_text(tree, &["s3", "endpoint"], value),
        "S3_REGION" => set_text(tree, &["s3", "region"], value),
        "S3_BUCKET" => set_text(tree, &["s3", "bucket"], value),
        "S3_ACCESS_KEY" => set_text(tree, &["s3", "access_key"], value),
        "S3_SECRET_KEY" => set_text(tree, &["s3", "secret_key"], value),
        "REDIS_HOST" => set_text(tree, &["redis", "host"], value),
        "REDIS_PASSWORD" => set_text(tree, &["redis", "password"], value),
        "REDIS_PORT" => set_port(tree, "redis", name, value)?,
        "LOG_LEVEL" => set_text(tree, &["log", "level"], value),
        "LOG_FORMAT" => set_text(tree, &["log", "format"], value),
        "OPERATOR_WALLETS" if !value.is_empty() => set(tree, &["operator_wallets"], list(value)),
        "SERVER_PORT" => set_port(tree, "server", name, value)?,
        _ if READ_ELSEWHERE.contains(&name) || is_service_link(name, value) => {}
        _ => {
            if let Some(chain) = name.strip_prefix("CHAIN_").and_then(|rest| rest.strip_suffix("_RPC")) {
                return apply_chain(tree, name, chain, value);
            }
            if let Some(path) = name.strip_prefix(PREFIX) {
                return apply_generic(tree, name, path, value);
            }
        }
    }
    Ok(())
}

fn apply_chain(tree: &mut Map<String, Value>, name: &str, chain: &str, value: &str) -> Result<(), ConfigError> {
    if chain.parse::<u64>().is_err() {
        return Err(ConfigError(format!("{name}: {chain:?} must be the number of a chain, as in CHAIN_1_RPC")));
    }
    if !value.is_empty() {
        set(tree, &["chains", chain], list(value));
    }
    Ok(())
}

/// `STREAMGATE_<SECTION>__<KEY>`, deeper keys with more double underscores.
fn apply_generic(tree: &mut Map<String, Value>, name: &str, path: &str, value: &str) -> Result<(), ConfigError> {
    let lower = path.to_ascii_lowercase();
    let keys: Vec<&str> = lower.split("__").collect();
    let is_section = SECTIONS.contains(&keys[0]) || ServiceName::ALL.iter().any(|service| section_of(*service) == keys[0]);
    if keys.len() < 2 || !is_section || keys.iter().any(|key| key.is_empty()) {
        return Err(ConfigError(format!(
            "the environment variable {name} is not known; write STREAMGATE_<SECTION>__<KEY>, such as STREAMGATE_LOG__LEVEL"
        )));
    }
    let is_secret = keys.last().is_some_and(|key| secrets::is_secret(key));
    set(tree, &keys, if is_secret { Value::from(value) } else { typed_or_text(value) });
    Ok(())
}

/// What Kubernetes and Docker set for a service called `streamgate…`, such as
/// `STREAMGATE_AUTH_SERVICE_HOST` or `STREAMGATE_AUTH_PORT=tcp://…`.
fn is_service_link(name: &str, value: &str) -> bool {
    let by_name = name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || name.contains("_PORT_");
    by_name && !name.contains("__") || name.ends_with("_PORT") && value.contains("://")
}

/// A YAML number, boolean, list, map or quoted text as such; everything else is text as it came: YAML would cut
/// `a #b` short.
fn typed_or_text(value: &str) -> Value {
    let is_quoted = value.trim_start().starts_with(['"', '\'']);
    match serde_saphyr::from_str::<Value>(value) {
        Ok(parsed @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_))) => parsed,
        Ok(parsed @ Value::String(_)) if is_quoted => parsed,
        _ => Value::from(value),
    }
}

fn list(value: &str) -> Value {
    value.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
}

fn set_text(tree: &mut Map<String, Value>, path: &[&str], value: &str) {
    if !value.is_empty() {
        set(tree, path, Value::from(value));
    }
}

/// Sets the port of a section. Platforms set links such as `DB_PORT=tcp://…` by themselves: they are no ports.
fn set_port(tree: &mut Map<String, Value>, section: &str, name: &str, value: &str) -> Result<(), ConfigError> {
    if value.is_empty() || value.contains("://") {
        return Ok(());
    }
    let port: u16 = value.parse().map_err(|_| ConfigError(format!("{name} must be a port number, not {value:?}")))?;
    set(tree, &[section, "port"], Value::from(port));
    Ok(())
}

/// Sets the value at a path, making what is missing on the way.
pub(super) fn set(tree: &mut Map<String, Value>, path: &[&str], value: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut at = tree;
    for key in parents {
        let next = at.entry(*key).or_insert_with(|| Value::Object(Map::new()));
        if !next.is_object() {
            *next = Value::Object(Map::new());
        }
        let Value::Object(map) = next else { return };
        at = map;
    }
    at.insert((*last).to_owned(), value);
}
