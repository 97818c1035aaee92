//! One REST route as an operation.

use http::Method;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Value, json};
use streamgate_core::Access;

use crate::{
    openapi::{answers, comments::Comments, schema::Schemas},
    rest::{
        headers::takes,
        table::{Binding, BodyRule, field_at},
    },
};

/// Most levels of a message that query parameters are listed for.
const QUERY_DEPTH: usize = 3;

/// The operation of a route.
pub fn of(binding: &Binding, comments: &Comments, schemas: &mut Schemas<'_>) -> Value {
    let rpc = &binding.rpc;
    let text = comments.prose(rpc.parent_service().parent_file().name(), rpc.path());
    let summary = text.split(['.', ';', ':']).next().unwrap_or_default().to_owned();
    let mut operation = json!({
        "operationId": operation_id(binding),
        "tags": [binding.service.as_str()],
        "summary": summary,
        "description": format!("{text} {}", who(binding.access)),
        "responses": answers::of(binding, &answer(binding, schemas)),
    });
    if binding.access == Access::Public {
        operation["security"] = json!([{}, {"bearer": []}]);
    }
    let parameters = parameters(binding, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
    if let Some(body) = body(binding, schemas) {
        operation["requestBody"] = body;
    }
    operation
}

fn operation_id(binding: &Binding) -> String {
    let main = format!("{}.{}", binding.service, binding.rpc.name());
    if binding.place == 0 { main } else { format!("{main}.{}", binding.place + 1) }
}

const fn who(access: Access) -> &'static str {
    match access {
        Access::Public => "Anybody may call this.",
        Access::Viewer => "Needs a signed-in account.",
        Access::Creator => "Needs the role creator.",
        Access::Operator => "Needs the role operator.",
        Access::Internal => "Only for services of the mesh.",
    }
}

fn answer(binding: &Binding, schemas: &mut Schemas<'_>) -> Value {
    match binding.response_field.as_ref().map(FieldDescriptor::kind) {
        Some(Kind::Message(inner)) => schemas.reference(&inner),
        _ => schemas.reference(&binding.rpc.output()),
    }
}

fn body(binding: &Binding, schemas: &mut Schemas<'_>) -> Option<Value> {
    let schema = match &binding.body {
        BodyRule::None => return None,
        BodyRule::Whole => schemas.reference(&binding.rpc.input()),
        BodyRule::Field(field) => schemas.field(field),
    };
    Some(json!({"required": true, "content": {"application/json": {"schema": schema}}}))
}

fn parameters(binding: &Binding, schemas: &mut Schemas<'_>) -> Vec<Value> {
    let input = binding.rpc.input();
    let in_path: Vec<String> = binding.template.variables().map(|path| path.join(".")).collect();
    let mut found = Vec::new();
    for (path, name) in binding.template.variables().zip(&in_path) {
        if let Some(field) = field_at(&input, path) {
            found.push(json!({"name": name, "in": "path", "required": true, "schema": schemas.field(&field)}));
        }
    }
    match &binding.body {
        BodyRule::Whole => {}
        BodyRule::None => query(&input, "", QUERY_DEPTH, &in_path, schemas, &mut found),
        BodyRule::Field(field) => {
            let mut taken = in_path;
            taken.push(field.name().to_owned());
            query(&input, "", QUERY_DEPTH, &taken, schemas, &mut found);
        }
    }
    found.extend(headers(binding, &input));
    found
}

/// The headers that the call heeds.
fn headers(binding: &Binding, input: &MessageDescriptor) -> Vec<Value> {
    let header =
        |name: &str, schema: Value, text: &str| json!({"name": name, "in": "header", "schema": schema, "description": text});
    let mut found = Vec::new();
    if takes(input, "request_id") {
        let key = json!({"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]+$"});
        let text = "Fills request_id: repeating a call with the same key returns the first answer, and another body is refused.";
        found.push(header("Idempotency-Key", key, text));
    }
    if takes(input, "etag") {
        let tag = json!({"type": "string", "pattern": "^(\\*|(W/)?\"[^\"]*\")$"});
        found.push(header("If-Match", tag, "Fills etag: the change is made only to this version of the object."));
    }
    if matches!(binding.method, Method::PUT | Method::PATCH | Method::DELETE) {
        found.push(header("Prefer", json!({"type": "string"}), "`return=minimal`: answer 204, without a body."));
    }
    if answers::has_weak_tag(binding) {
        found.push(header("If-None-Match", json!({"type": "string"}), "The ETag of an answer that the caller has already."));
    }
    found
}

/// Lists the fields of `message` that are not `taken` as query parameters.
fn query(
    message: &MessageDescriptor,
    prefix: &str,
    depth: usize,
    taken: &[String],
    schemas: &mut Schemas<'_>,
    found: &mut Vec<Value>,
) {
    for field in message.fields() {
        let name = format!("{prefix}{}", field.name());
        if taken.contains(&name) || field.is_map() {
            continue;
        }
        match field.kind() {
            Kind::Message(inner) if !inner.full_name().starts_with("google.protobuf.") => {
                if depth > 1 && !field.is_list() {
                    query(&inner, &format!("{name}."), depth - 1, taken, schemas, found);
                }
            }
            _ => found.push(json!({"name": name, "in": "query", "schema": schemas.field(&field)})),
        }
    }
}
