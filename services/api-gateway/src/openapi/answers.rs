//! What an operation may answer.

use http::Method;
use serde_json::{Map, Value, json};
use streamgate_core::{Access, ServiceName};

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

/// Problems with these statuses, and any other.
pub fn problems(statuses: &[u16]) -> Map<String, Value> {
    let names = statuses.iter().map(u16::to_string).chain(["default".to_owned()]);
    names.map(|name| (name, json!({"$ref": "#/components/responses/Problem"}))).collect()
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

/// The statuses that a caller should be ready for.
fn statuses(binding: &Binding) -> Vec<u16> {
    let input = binding.rpc.input();
    let mut statuses = vec![400, 404, 405, 409, 429, 500, 503, 504];
    if binding.access != Access::Public {
        statuses.extend([401, 403]);
    }
    if takes(&input, "etag") {
        statuses.push(412);
    }
    if binding.method != Method::GET && binding.method != Method::DELETE {
        statuses.extend([413, 415]);
    }
    statuses.sort_unstable();
    statuses
}
