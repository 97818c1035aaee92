//! Messages as JSON schemas.

use std::collections::BTreeMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use streamgate_core::page::MAX_PAGE_SIZE;

use crate::openapi::comments::Comments;

/// Schemas of the messages that operations refer to.
#[derive(Debug)]
pub struct Schemas<'a> {
    comments: &'a Comments,
    built: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    /// None yet.
    pub const fn new(comments: &'a Comments) -> Self {
        Self { comments, built: BTreeMap::new() }
    }

    /// The schemas, by name.
    pub fn finish(self) -> BTreeMap<String, Value> {
        self.built
    }

    /// A reference to `message`, whose schema is built when it is first named.
    pub fn reference(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(known) = well_known(message.full_name()) {
            return known;
        }
        let name = short(message.full_name());
        if !self.built.contains_key(&name) {
            // Known before its fields are, as a gate's rule holds rules.
            self.built.insert(name.clone(), Value::Null);
            let schema = self.message(message);
            self.built.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn message(&mut self, message: &MessageDescriptor) -> Value {
        let mut properties = Map::new();
        for field in message.fields() {
            properties.insert(field.name().to_owned(), self.field(&field));
        }
        let mut schema = json!({"type": "object", "properties": properties});
        describe(&mut schema, self.comments.prose(message.parent_file().name(), message.path()));
        schema
    }

    /// The schema of a field, with its comment.
    pub fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = if field.is_map() { self.map(field) } else { self.kind(&field.kind()) };
        if field.is_list() {
            schema = json!({"type": "array", "items": schema});
        }
        describe(&mut schema, self.comments.prose(field.parent_message().parent_file().name(), field.path()));
        if field.name() == "page_size" && field.kind() == Kind::Uint32 {
            schema["maximum"] = json!(MAX_PAGE_SIZE);
        }
        schema
    }

    fn map(&mut self, field: &FieldDescriptor) -> Value {
        let Kind::Message(entry) = field.kind() else { return json!({"type": "object"}) };
        let values = self.kind(&entry.map_entry_value_field().kind());
        json!({"type": "object", "additionalProperties": values})
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Message(message) => self.reference(message),
            Kind::Enum(words) => self.words(words),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "format": "byte"}),
            Kind::Double => json!({"type": "number", "format": "double"}),
            Kind::Float => json!({"type": "number", "format": "float"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "format": "int64", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
        }
    }

    fn words(&mut self, words: &EnumDescriptor) -> Value {
        let name = short(words.full_name());
        if !self.built.contains_key(&name) {
            let values: Vec<String> = words.values().map(|value| value.name().to_owned()).collect();
            let mut schema = json!({"type": "string", "enum": values});
            describe(&mut schema, self.comments.prose(words.parent_file().name(), words.path()));
            self.built.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }
}

/// Adds a description, if there is one.
pub fn describe(schema: &mut Value, text: String) {
    if !text.is_empty() {
        schema["description"] = Value::String(text);
    }
}

fn well_known(name: &str) -> Option<Value> {
    match name {
        "google.protobuf.Timestamp" => Some(json!({"type": "string", "format": "date-time"})),
        "google.protobuf.Duration" => Some(json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"})),
        _ => None,
    }
}

fn short(full_name: &str) -> String {
    full_name.trim_start_matches("streamgate.").to_owned()
}
