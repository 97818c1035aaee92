//! `/openapi.json`, made from the same descriptors that the REST routes are made from.

mod answers;
mod comments;
mod operation;
mod schema;
mod written;

use prost_reflect::DescriptorPool;
use serde_json::{Map, Value, json};

use crate::{
    openapi::{comments::Comments, schema::Schemas},
    rest::table::Table,
};

/// The OpenAPI document of the edge.
#[must_use]
pub fn document(pool: &DescriptorPool, table: &Table, public_url: &str) -> Value {
    let comments = Comments::of(pool);
    let mut schemas = Schemas::new(&comments);
    let mut paths: Map<String, Value> = Map::new();
    for binding in table.bindings() {
        let operation = operation::of(binding, &comments, &mut schemas);
        put(&mut paths, binding.template.openapi(), binding.method.as_str(), operation);
    }
    for (path, method, operation) in written::operations() {
        put(&mut paths, path.to_owned(), method, operation);
    }
    // What is written by hand refers to these.
    for name in ["streamgate.errors.v1.Problem", "streamgate.upload.v1.WriteChunkResponse"] {
        if let Some(message) = pool.get_message_by_name(name) {
            schemas.reference(&message);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": info(public_url),
        "servers": [{"url": public_url.trim_end_matches('/'), "description": "This platform."}],
        "tags": tags(pool, table, &comments),
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.finish(),
            "responses": {"Problem": {
                "description": "An error (RFC 9457). `reason` is stable and may be relied on.",
                "headers": {"Retry-After": {"description": "Seconds to wait, when trying again helps.", "schema": {"type": "integer"}}},
                "content": {"application/problem+json": {"schema": {"$ref": "#/components/schemas/errors.v1.Problem"}}},
            }},
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An access token of a signed-in wallet, or an API key."},
                "playback_token": {"type": "apiKey", "in": "query", "name": "token", "description": "The playback token of a session."},
                "playback_cookie": {"type": "apiKey", "in": "cookie", "name": "sg_play", "description": "The same token as a cookie."},
            },
        },
    })
}

fn info(public_url: &str) -> Value {
    json!({
        "title": "StreamGate",
        "version": env!("CARGO_PKG_VERSION"),
        "summary": "A self-hosted, token-gated video platform.",
        "description": "Upload a video, gate it by what a wallet holds, play it as HLS and DASH. Every call here is also a gRPC call on \
            the same port. 64-bit numbers are texts, times are RFC 3339, and fields may be written in snake_case or lowerCamelCase.",
        "contact": {"name": "The operator of this platform", "url": public_url},
        "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
    })
}

fn put(paths: &mut Map<String, Value>, path: String, method: &str, operation: Value) {
    let item = paths.entry(path).or_insert_with(|| json!({}));
    let known = &mut item[method.to_ascii_lowercase()];
    if known.is_null() { *known = operation } else { merge(known, operation) }
}

/// One path takes bodies of several kinds: what is written by hand joins what comes from the contracts.
fn merge(known: &mut Value, more: Value) {
    match (known, more) {
        (Value::Object(known), Value::Object(more)) => {
            for (name, value) in more {
                match known.get_mut(&name) {
                    Some(there) if name == "schema" && *there != value => *there = json!({"anyOf": [there.take(), value]}),
                    Some(there) => merge(there, value),
                    None => {
                        known.insert(name, value);
                    }
                }
            }
        }
        (Value::Array(known), Value::Array(more)) => {
            let fresh: Vec<Value> = more.into_iter().filter(|value| !known.iter().any(|there| same(there, value))).collect();
            known.extend(fresh);
        }
        // The contract's own words stay.
        _ => {}
    }
}

/// Whether two items of a list say the same thing, such as a parameter of one name.
fn same(one: &Value, other: &Value) -> bool {
    one == other || (one["name"].is_string() && (&one["name"], &one["in"]) == (&other["name"], &other["in"]))
}

fn tags(pool: &DescriptorPool, table: &Table, comments: &Comments) -> Vec<Value> {
    let mut names: Vec<&str> = table.bindings().iter().map(|binding| binding.service.as_str()).collect();
    names.dedup();
    let services = names.into_iter().map(|name| {
        let service = table.bindings().iter().find(|binding| binding.service.as_str() == name);
        let service = service.and_then(|binding| pool.get_service_by_name(binding.service.grpc_service()));
        let text = service.map(|service| comments.prose(service.parent_file().name(), service.path())).unwrap_or_default();
        json!({"name": name, "description": text})
    });
    services
        .chain([
            json!({"name": "play", "description": "Playlists, manifests, segments and side assets, all under the title's gate."}),
        ])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written() -> Value {
        let pool = DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).unwrap();
        document(&pool, &Table::of(&pool).unwrap(), "http://localhost:9090/")
    }

    #[test]
    fn each_operation_is_described_and_named_once() {
        let document = written();
        let mut seen = std::collections::HashSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let id = operation["operationId"].as_str().unwrap();
                assert!(seen.insert(id.to_owned()), "{id} is there twice");
                assert!(!operation["description"].as_str().unwrap().is_empty(), "{method} {path}");
                assert!(operation["responses"]["503"].is_object(), "{method} {path}");
                assert!(operation["responses"]["default"].is_null(), "any answer would do: {method} {path}");
            }
        }
        assert!(seen.len() > 45);
    }

    #[test]
    fn each_reference_leads_somewhere_and_each_schema_is_used() {
        let document = written();
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#/").skip(1).filter_map(|rest| rest.split('"').next()) {
            assert!(document.pointer(&format!("/{reference}")).is_some(), "{reference}");
        }
        for name in document["components"]["schemas"].as_object().unwrap().keys() {
            assert!(text.contains(&format!("#/components/schemas/{name}\"")), "{name}");
        }
    }

    #[test]
    fn wide_numbers_and_times_are_texts() {
        let content = &written()["components"]["schemas"]["metadata.v1.Content"]["properties"];
        assert_eq!(
            (content["revision"]["type"].as_str(), content["revision"]["format"].as_str()),
            (Some("string"), Some("uint64"))
        );
        assert_eq!(content["create_time"]["format"], "date-time");
        assert_eq!(content["width"]["type"], "integer");
        assert_eq!(content["playback_ids"]["type"], "array");
    }
}
