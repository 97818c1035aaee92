//! Reads a REST request into the message of its RPC.
//!
//! Query, body and path become one JSON object, which is then read by the proto3 JSON mapping. What
//! stands in the path wins over the body, and the body over the query.

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};
use streamgate_core::FieldViolation;

use crate::{
    error::{Error, Result},
    rest::{
        headers::{Wishes, takes},
        json,
        table::{Binding, BodyRule},
    },
};

/// The request's message.
///
/// # Errors
/// `Malformed` for a body that is no JSON, `Fields` for fields that are unknown or wrong.
pub fn message(
    binding: &Binding,
    variables: &[String],
    query: Option<&str>,
    body: &[u8],
    wishes: &Wishes<'_>,
) -> Result<DynamicMessage> {
    let input = binding.rpc.input();
    let mut object = query_object(&input, query.unwrap_or_default())?;
    add_body(binding, &mut object, body)?;
    for (path, text) in binding.template.variables().zip(variables) {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        put(&mut object, &input, &path, text).map_err(|violation| Error::Fields(vec![violation]))?;
    }
    fill(&mut object, &input, "request_id", wishes.request_id)?;
    fill(&mut object, &input, "etag", wishes.etag.as_deref())?;
    json::read(&input, &Value::Object(object))
}

/// Puts what a header says into its field. The same thing may be said twice, two things may not.
fn fill(object: &mut Map<String, Value>, input: &MessageDescriptor, field: &str, said: Option<&str>) -> Result<()> {
    let Some(said) = said.filter(|_| takes(input, field)) else { return Ok(()) };
    let given = object.get(field).and_then(Value::as_str).filter(|given| !given.is_empty());
    if given.is_some_and(|given| given != said) {
        return Err(Error::field(field, "is given in a header too, and differs"));
    }
    object.insert(field.to_owned(), Value::String(said.to_owned()));
    Ok(())
}

fn add_body(binding: &Binding, object: &mut Map<String, Value>, body: &[u8]) -> Result<()> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(());
    }
    match &binding.body {
        BodyRule::None => {}
        BodyRule::Field(field) => {
            object.insert(field.name().to_owned(), json::parse(body)?);
        }
        BodyRule::Whole => {
            let Value::Object(fields) = json::parse(body)? else {
                return Err(Error::Malformed("the body must be a JSON object".into()));
            };
            for (name, value) in fields {
                object.insert(proto_name(&binding.rpc.input(), name), value);
            }
        }
    }
    Ok(())
}

/// One spelling for a field, so that query, body and path meet.
fn proto_name(message: &MessageDescriptor, name: String) -> String {
    message.get_field_by_json_name(&name).map_or(name, |field| field.name().to_owned())
}

fn query_object(input: &MessageDescriptor, query: &str) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    let mut wrong = Vec::new();
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        let path: Vec<&str> = name.split('.').collect();
        if let Err(violation) = put(&mut object, input, &path, &text) {
            wrong.push(violation);
        }
    }
    if wrong.is_empty() { Ok(object) } else { Err(Error::Fields(wrong)) }
}

/// Puts `text` at the field that `path` names; a list grows by it.
fn put(
    object: &mut Map<String, Value>,
    message: &MessageDescriptor,
    path: &[&str],
    text: &str,
) -> std::result::Result<(), FieldViolation> {
    let whole = path.join(".");
    let Some((first, rest)) = path.split_first() else { return Err(FieldViolation::new(whole, "is empty")) };
    let field = message.get_field_by_name(first).or_else(|| message.get_field_by_json_name(first));
    let field = field.ok_or_else(|| FieldViolation::new(&whole, "is not a parameter of this call"))?;
    if !rest.is_empty() {
        let Some(inner) = nested(&field) else { return Err(FieldViolation::new(whole, format!("{first} has no fields"))) };
        let below = object.entry(field.name()).or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(below) = below else { return Err(FieldViolation::new(whole, "is given twice")) };
        return put(below, &inner, rest, text).map_err(|v| FieldViolation::new(whole, v.description));
    }
    if nested(&field).is_some() || field.is_map() {
        return Err(FieldViolation::new(whole, "is an object; name its fields"));
    }
    let value = scalar(&field, text);
    if field.is_list() {
        match object.entry(field.name()).or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(list) => list.push(value),
            _ => return Err(FieldViolation::new(whole, "is given twice")),
        }
    } else {
        object.insert(field.name().to_owned(), value);
    }
    Ok(())
}

/// The message behind a field, unless it is a well-known type that is written as a text.
fn nested(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    match field.kind() {
        Kind::Message(inner) if !field.is_map() && !inner.full_name().starts_with("google.protobuf.") => Some(inner),
        _ => None,
    }
}

/// A parameter's text as the JSON that the mapping takes for its type. Numbers may be texts there.
fn scalar(field: &FieldDescriptor, text: &str) -> Value {
    match field.kind() {
        Kind::Bool => match text {
            "true" => Value::Bool(true),
            "false" => Value::Bool(false),
            other => Value::String(other.to_owned()),
        },
        Kind::Enum(_) => text.parse::<i32>().map_or_else(|_| Value::String(text.to_owned()), Value::from),
        _ => Value::String(text.to_owned()),
    }
}
