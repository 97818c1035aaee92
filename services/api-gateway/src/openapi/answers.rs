//! What an operation may answer.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Map, Value, json};
use streamgate_core::ServiceName;

use crate::rest::{headers::takes, table::Binding};

/// The answers of a route, of which `schema` is the good one.
pub fn of(binding: &Binding, schema: &Value) -> Value {
    let mut answers = Map::new();
    answers.insert("200".into(), done(binding, schema));
    if has_weak_tag(binding) {
        answers.insert("304".into(), json!({"description": "The caller has this answer already.", "headers": limits()}));
    }
    if matches!(binding.method, Method::PUT | Method::PATCH | Method::DELETE) {
        answers.insert("204".into(), json!({"description": "Done, and no body was preferred.", "headers": limits()}));
    }
    answers.extend(problems(&statuses(binding)));
    Value::Object(answers)
}

/// Statuses of problems that any call may meet.
const ANYWHERE: [u16; 11] = [400, 401, 403, 404, 405, 408, 409, 429, 500, 503, 504];
/// Those of calls with a body.
pub const WITH_BODY: [u16; 3] = [413, 415, 507];

/// The problems that any call may meet, and these. There are no others: an answer that is not listed is a mistake.
pub fn problems(more: &[u16]) -> Map<String, Value> {
    let statuses: BTreeSet<u16> = ANYWHERE.iter().chain(more).copied().collect();
    statuses.into_iter().map(|status| (status.to_string(), json!({"$ref": "#/components/responses/Problem"}))).collect()
}

/// Whether the answer of a read carries a tag that it can be asked for again by.
pub fn has_weak_tag(binding: &Binding) -> bool {
    binding.method == Method::GET && binding.service != ServiceName::Auth
}

/// Headers that tell how much a caller may still ask.
pub fn limits() -> Value {
    json!({
        "RateLimit-Policy": {"description": "The limit that ends first: calls (q) in a window of seconds (w).", "schema": {"type": "string"}},
        "RateLimit": {"description": "What is left of it (r), and the seconds until all of it is back (t).", "schema": {"type": "string"}},
        "X-Request-Id": {"description": "Names the call in every log.", "schema": {"type": "string"}},
    })
}

fn done(binding: &Binding, schema: &Value) -> Value {
    let mut headers = limits();
    if binding.service != ServiceName::Auth {
        headers["ETag"] = json!({"description": "Names this version of the answer.", "schema": {"type": "string"}});
    }
    json!({"description": "Done.", "headers": headers, "content": {"application/json": {"schema": schema}}})
}

/// What else a caller should be ready for.
fn statuses(binding: &Binding) -> Vec<u16> {
    let mut statuses = Vec::new();
    if takes(&binding.rpc.input(), "etag") {
        statuses.push(412);
    }
    if binding.method != Method::GET {
        // Any change may find the disk full.
        statuses.extend(WITH_BODY);
    }
    statuses
}
