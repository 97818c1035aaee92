//! What the messages of answers look like, worked out once, so that writing one looks nothing up.

use std::collections::HashMap;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use crate::rest::wire::Form;

/// The shapes of all messages that are written.
#[derive(Debug, Default)]
pub struct Shapes {
    shapes: Vec<Shape>,
    places: HashMap<String, Place>,
}

/// Where the shape of a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(usize);

/// The fields of a message, by number.
#[derive(Debug, Default)]
pub struct Shape {
    /// In the order they are written in.
    pub fields: Vec<Field>,
    /// Number of the text that names the state of the object, if it has one.
    pub etag: Option<u32>,
}

/// How one field is written.
#[derive(Debug)]
pub struct Field {
    /// Its number.
    pub number: u32,
    /// Its name in quotes, and a colon.
    pub key: Vec<u8>,
    /// What is written when it is not there; nothing when that is a state of its own.
    pub default: Option<String>,
    /// How often it may stand there.
    pub label: Label,
    /// What it holds; for a map, its values.
    pub holds: Holds,
    /// The choice that it is part of.
    pub oneof: Option<u32>,
}

/// How often a field may stand in its message.
#[derive(Debug)]
pub enum Label {
    /// The last one counts.
    Once,
    /// Each is an item of the list.
    List,
    /// Each is an entry, with keys of this kind.
    Map(Holds),
}

/// What a field holds.
#[derive(Debug, Clone)]
#[allow(missing_docs, reason = "these are the kinds of the wire, by their names")]
pub enum Holds {
    Bool,
    Int32,
    Sint32,
    Uint32,
    Int64,
    Sint64,
    Uint64,
    Fixed32,
    Sfixed32,
    Fixed64,
    Sfixed64,
    Float,
    Double,
    Text,
    Bytes,
    /// The numbers of an enum and their names in quotes.
    Words(Vec<(i32, String)>),
    Timestamp,
    Duration,
    Message(Place),
    /// A message that JSON writes in a way of its own.
    Special(MessageDescriptor),
}

impl Holds {
    /// How a value stands on the wire.
    #[must_use]
    pub const fn form(&self) -> Form {
        match self {
            Self::Bool | Self::Int32 | Self::Sint32 | Self::Uint32 | Self::Int64 | Self::Sint64 | Self::Uint64 => Form::Varint,
            Self::Words(_) => Form::Varint,
            Self::Fixed32 | Self::Sfixed32 | Self::Float => Form::Narrow,
            Self::Fixed64 | Self::Sfixed64 | Self::Double => Form::Wide,
            Self::Text | Self::Bytes | Self::Timestamp | Self::Duration | Self::Message(_) | Self::Special(_) => Form::Bytes,
        }
    }

    /// What is written for a value that is not there.
    #[must_use]
    pub fn default(&self) -> &str {
        match self {
            Self::Bool => "false",
            Self::Int32 | Self::Sint32 | Self::Uint32 | Self::Fixed32 | Self::Sfixed32 => "0",
            // Texts, as numbers so wide are not safe in JavaScript.
            Self::Int64 | Self::Sint64 | Self::Uint64 | Self::Fixed64 | Self::Sfixed64 => "\"0\"",
            Self::Float | Self::Double => "0.0",
            Self::Text | Self::Bytes => "\"\"",
            Self::Words(words) => words.iter().find(|(number, _)| *number == 0).map_or("0", |(_, name)| name),
            Self::Timestamp | Self::Duration | Self::Message(_) | Self::Special(_) => "null",
        }
    }
}

impl Shapes {
    /// The place of `message`, whose shape is worked out when it is first named.
    pub fn add(&mut self, message: &MessageDescriptor) -> Place {
        if let Some(known) = self.places.get(message.full_name()) {
            return *known;
        }
        // Known before its fields are, as a gate's rule holds rules.
        let place = Place(self.shapes.len());
        self.shapes.push(Shape::default());
        self.places.insert(message.full_name().to_owned(), place);
        let mut fields: Vec<Field> = message.fields().map(|field| self.field(&field)).collect();
        fields.sort_by_key(|field| field.number);
        let etag = message.get_field_by_name("etag").filter(|field| field.kind() == Kind::String && !field.is_list());
        self.shapes[place.0] = Shape { fields, etag: etag.map(|field| field.number()) };
        place
    }

    /// The shape at a place.
    #[must_use]
    pub fn get(&self, place: Place) -> &Shape {
        &self.shapes[place.0]
    }

    fn field(&mut self, field: &FieldDescriptor) -> Field {
        let entry = match field.kind() {
            Kind::Message(entry) if field.is_map() => Some(entry),
            _ => None,
        };
        let (label, holds) = match entry {
            Some(entry) => (Label::Map(self.holds(&entry.map_entry_key_field())), self.holds(&entry.map_entry_value_field())),
            None => (if field.is_list() { Label::List } else { Label::Once }, self.holds(field)),
        };
        let default = match label {
            Label::List => Some("[]".to_owned()),
            Label::Map(_) => Some("{}".to_owned()),
            Label::Once => (!field.supports_presence()).then(|| holds.default().to_owned()),
        };
        Field {
            number: field.number(),
            key: format!("\"{}\":", field.name()).into_bytes(),
            default,
            label,
            holds,
            oneof: field.containing_oneof().and_then(|oneof| u32::try_from(oneof.path().last().copied()?).ok()),
        }
    }

    fn holds(&mut self, field: &FieldDescriptor) -> Holds {
        match field.kind() {
            Kind::Bool => Holds::Bool,
            Kind::Int32 => Holds::Int32,
            Kind::Sint32 => Holds::Sint32,
            Kind::Uint32 => Holds::Uint32,
            Kind::Int64 => Holds::Int64,
            Kind::Sint64 => Holds::Sint64,
            Kind::Uint64 => Holds::Uint64,
            Kind::Fixed32 => Holds::Fixed32,
            Kind::Sfixed32 => Holds::Sfixed32,
            Kind::Fixed64 => Holds::Fixed64,
            Kind::Sfixed64 => Holds::Sfixed64,
            Kind::Float => Holds::Float,
            Kind::Double => Holds::Double,
            Kind::String => Holds::Text,
            Kind::Bytes => Holds::Bytes,
            Kind::Enum(words) => {
                Holds::Words(words.values().map(|word| (word.number(), format!("\"{}\"", word.name()))).collect())
            }
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => Holds::Timestamp,
                "google.protobuf.Duration" => Holds::Duration,
                name if name.starts_with("google.protobuf.") => Holds::Special(message),
                _ => Holds::Message(self.add(&message)),
            },
        }
    }
}
