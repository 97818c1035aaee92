//! The proto3 JSON mapping, with errors that name the field.

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};
use streamgate_core::FieldViolation;

use crate::error::{Error, Result};

/// Reads JSON text.
///
/// # Errors
/// `Malformed`, with the place where it stops being JSON.
pub fn parse(text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|error| Error::Malformed(format!("the body is not JSON: {error}")))
}

/// Reads a message out of JSON. Both spellings of a field's name are taken.
///
/// # Errors
/// `Fields`, with the path of the first field that is unknown or wrong.
pub fn read(message: &MessageDescriptor, value: &Value) -> Result<DynamicMessage> {
    try_read(message, value).map_err(|error| Error::Fields(vec![blame(message, value, "", &error)]))
}

/// Writes a message as JSON: proto field names, absent values as their defaults, 64-bit numbers as texts.
///
/// # Errors
/// `Contract` when a service's answer can't be written.
pub fn write(message: &DynamicMessage) -> Result<Vec<u8>> {
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    let mut out = Vec::with_capacity(512);
    let mut serializer = serde_json::Serializer::new(&mut out);
    message.serialize_with_options(&mut serializer, &options).map_err(|error| Error::Contract(error.to_string()))?;
    Ok(out)
}

fn try_read(message: &MessageDescriptor, value: &Value) -> std::result::Result<DynamicMessage, serde_json::Error> {
    DynamicMessage::deserialize_with_options(message.clone(), value, &DeserializeOptions::new().deny_unknown_fields(true))
}

/// Finds the field that `error` is about: the parser itself knows no paths.
fn blame(message: &MessageDescriptor, value: &Value, path: &str, error: &serde_json::Error) -> FieldViolation {
    let Value::Object(fields) = value else { return FieldViolation::new(path, sentence(error)) };
    for (name, value) in fields {
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let field = message.get_field_by_name(name).or_else(|| message.get_field_by_json_name(name));
        let Some(field) = field else { return FieldViolation::new(here, "is not a field of this request") };
        let alone = Value::Object(Map::from_iter([(name.clone(), value.clone())]));
        if let Err(error) = try_read(message, &alone) {
            return blame_field(&field, value, &here, &error);
        }
    }
    FieldViolation::new(path, sentence(error))
}

fn blame_field(field: &FieldDescriptor, value: &Value, path: &str, error: &serde_json::Error) -> FieldViolation {
    let Kind::Message(inner) = field.kind() else { return FieldViolation::new(path, sentence(error)) };
    if field.is_map() || inner.full_name().starts_with("google.protobuf.") {
        return FieldViolation::new(path, sentence(error));
    }
    match value {
        Value::Array(items) if field.is_list() => {
            for (place, item) in items.iter().enumerate() {
                if let Err(error) = try_read(&inner, item) {
                    return blame(&inner, item, &format!("{path}[{place}]"), &error);
                }
            }
            FieldViolation::new(path, sentence(error))
        }
        _ if field.is_list() => FieldViolation::new(path, "must be a list"),
        other => blame(&inner, other, path, error),
    }
}

/// The parser's words without its position, which means nothing once the text has been read.
fn sentence(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use prost_reflect::DescriptorPool;
    use serde_json::json;

    use super::*;

    fn message(name: &str) -> MessageDescriptor {
        DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).unwrap().get_message_by_name(name).unwrap()
    }

    fn refused(name: &str, value: &Value) -> FieldViolation {
        match read(&message(name), value) {
            Err(Error::Fields(mut fields)) => fields.remove(0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn both_spellings_are_read_and_one_is_written() {
        let get = message("streamgate.metadata.v1.GetContentRequest");
        for spelling in ["content_id", "contentId"] {
            let read = read(&get, &json!({spelling: "c1"})).unwrap();
            assert_eq!(write(&read).unwrap(), br#"{"content_id":"c1"}"#);
        }
    }

    #[test]
    fn defaults_are_written_and_large_numbers_are_texts() {
        let content = message("streamgate.metadata.v1.Content");
        let read = read(&content, &json!({"revision": "18446744073709551615", "width": 3})).unwrap();
        let written: Value = serde_json::from_slice(&write(&read).unwrap()).unwrap();
        assert_eq!(written["revision"], "18446744073709551615");
        assert_eq!(written["status"], "");
        assert_eq!(written["progress"], 0.0);
        assert_eq!(written["playback_ids"], json!([]));
        assert_eq!(written["width"], 3);
        assert!(written.get("error").is_none(), "an absent message stays absent: {written}");
        assert!(written.get("gate").is_none());
    }

    #[test]
    fn enums_are_names() {
        let job = message("streamgate.transcoder.v1.Job");
        let read = read(&job, &json!({"state": "JOB_STATE_RUNNING"})).unwrap();
        let written: Value = serde_json::from_slice(&write(&read).unwrap()).unwrap();
        assert_eq!(written["state"], "JOB_STATE_RUNNING");
        assert_eq!(refused("streamgate.transcoder.v1.Job", &json!({"state": "NOPE"})).field, "state");
    }

    #[test]
    fn a_wrong_field_is_named_with_its_whole_path() {
        let gate = json!({"title": "t", "gate": {"all": {"rules": [{"signed_in": {}}, {"erc721": {"contract": 7}}]}}});
        assert_eq!(refused("streamgate.metadata.v1.CreateContentRequest", &gate).field, "gate.all.rules[1].erc721.contract");
        let unknown = refused("streamgate.metadata.v1.CreateContentRequest", &json!({"gate": {"erc721": {"adress": "0x"}}}));
        assert_eq!(unknown, FieldViolation::new("gate.erc721.adress", "is not a field of this request"));
        assert_eq!(refused("streamgate.metadata.v1.CreateContentRequest", &json!({"tags": "a"})).field, "tags");
        assert_eq!(refused("streamgate.metadata.v1.CreateContentRequest", &json!({"gate": []})).field, "gate");
    }

    #[test]
    fn a_body_that_is_no_json_says_where() {
        let Err(Error::Malformed(text)) = parse(b"{\"a\":") else { panic!("parsed") };
        assert!(text.contains("line 1"), "{text}");
    }
}
