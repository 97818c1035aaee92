//! `streamgate gate`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    CliError,
    api::{Api, gate_argument},
    cli::{ExplainGate, SetGate},
};

/// Sets the gate of a title.
pub(crate) async fn set(arguments: SetGate) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    let path = format!("/api/v1/contents/{}/gate", arguments.content_id);
    let answer = api.json(Method::PUT, &path, Some(&gate_argument(&arguments.gate)?)).await?;
    println!("gated {} {}", arguments.content_id, text(&answer["gate_hash"]));
    Ok(())
}

/// Prints what a gate says of some accounts, rule by rule.
pub(crate) async fn explain(arguments: ExplainGate) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    let gate = match (&arguments.gate, &arguments.content_id) {
        (Some(gate), _) => gate_argument(gate)?,
        (None, Some(content_id)) => gate_of(&api, content_id).await?,
        (None, None) => return Err(CliError::Usage("give a content id or --gate".into())),
    };
    let question = json!({"gate": gate, "accounts": arguments.accounts});
    let answer = api.json(Method::POST, "/api/v1/auth/explain-gate", Some(&question)).await?;
    let decision = &answer["decision"];
    print_rule(&decision["result"], 0);
    for block in decision["blocks"].as_array().into_iter().flatten() {
        println!("read at block {} of {}", text(&block["number"]), text(&block["chain"]));
    }
    let verdict = word(&decision["verdict"]);
    println!("{verdict}");
    match verdict {
        "granted" => Ok(()),
        "denied" => Err(CliError::Refused("the gate does not open for this account".into())),
        _ => Err(CliError::Unavailable("a chain could not be read, so there is no answer".into())),
    }
}

async fn gate_of(api: &Api, content_id: &str) -> Result<Value, CliError> {
    let mut answer = api.json(Method::GET, &format!("/api/v1/contents/{content_id}/gate"), None).await?;
    match answer["gate"].take() {
        Value::Null => Err(CliError::Failed("the title has no gate: only its owner and operators may play it".into())),
        gate => Ok(gate),
    }
}

fn print_rule(rule: &Value, depth: usize) {
    let detail = text(&rule["detail"]);
    let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
    println!("{}{:8} {}{detail}", "  ".repeat(depth), word(&rule["verdict"]), text(&rule["description"]));
    for inner in rule["rules"].as_array().into_iter().flatten() {
        print_rule(inner, depth + 1);
    }
}

fn word(verdict: &Value) -> &'static str {
    match verdict.as_str() {
        Some("VERDICT_GRANTED") => "granted",
        Some("VERDICT_DENIED") => "denied",
        _ => "unknown",
    }
}

/// A value as plain text, without the quotes of JSON.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}
