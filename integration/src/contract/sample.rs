//! Requests made from the descriptor of their message.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::{AtomicU64, Ordering},
};

use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};
use serde_json::Value as Json;

/// Messages in messages that are filled; a gate may nest without end.
const DEPTH: usize = 4;

/// The message of a time.
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// Sound values, and the caller's own things.
    Good,
    /// Sound values that name things of another account.
    Foreign,
    /// Nothing.
    Missing,
    /// Values at and beyond every end.
    Absurd,
    /// Bytes that are no message at all.
    Garbage,
    /// More bytes than are taken.
    Oversize,
}

impl Input {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Good, Self::Foreign, Self::Missing, Self::Absurd, Self::Garbage, Self::Oversize];
}

/// Ids of real things of one account, by the name of the field that takes them.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    by_field: BTreeMap<String, String>,
    private: BTreeSet<String>,
}

impl Ids {
    /// Takes every `…_id` of a JSON answer. `package`, such as `worker`, keeps fields apart that have one name in two
    /// contracts; empty for ids that mean the same everywhere.
    pub fn take(&mut self, package: &str, answer: &Json) {
        match answer {
            Json::Object(fields) => {
                for (name, value) in fields {
                    match value.as_str() {
                        Some(id) if name.ends_with("_id") && !id.is_empty() => self.set(package, name, id),
                        _ => self.take(package, value),
                    }
                }
            }
            Json::Array(items) => items.iter().for_each(|item| self.take(package, item)),
            _ => {}
        }
    }

    /// Sets one of them.
    pub fn set(&mut self, package: &str, field: &str, id: &str) {
        let name = if package.is_empty() { field.to_owned() } else { format!("{package}.{field}") };
        self.by_field.insert(name, id.to_owned());
        // A playback id is public by its nature, and an account's id is the account's own.
        if !matches!(field, "playback_id" | "account_id" | "owner_id" | "request_id") {
            self.private.insert(id.to_owned());
        }
    }

    /// These and those; of two with one name, those.
    #[must_use]
    pub fn with(&self, those: &Self) -> Self {
        let mut both = self.clone();
        both.by_field.extend(those.by_field.clone());
        both.private.extend(those.private.clone());
        both
    }

    /// Ids that nobody else may learn or use.
    pub fn private(&self) -> impl Iterator<Item = &str> {
        self.private.iter().map(String::as_str)
    }

    fn of(&self, field: &FieldDescriptor) -> Option<&str> {
        let package = field.parent_message().package_name().split('.').nth(1).unwrap_or_default().to_owned();
        let found = self.by_field.get(&format!("{package}.{}", field.name())).or_else(|| self.by_field.get(field.name()));
        found.map(String::as_str)
    }
}

/// Makes requests.
#[derive(Debug, Default)]
pub struct Sample {
    /// Values of strings by field name, such as an address on the test's own chain.
    pub words: HashMap<&'static str, String>,
    made: AtomicU64,
}

impl Sample {
    /// A sound request.
    pub fn good(&self, message: &MessageDescriptor, ids: &Ids) -> DynamicMessage {
        let mut made = self.filled(message, DEPTH, &|field| self.sound(field, ids));
        // A span of no length holds nothing; without bounds it holds all.
        let time = |field: &FieldDescriptor| matches!(field.kind(), Kind::Message(kind) if kind.full_name() == TIMESTAMP);
        message.fields().filter(time).for_each(|field| made.clear_field(&field));
        made
    }

    /// A request that is absurd in every field.
    pub fn absurd(&self, message: &MessageDescriptor) -> DynamicMessage {
        self.filled(message, DEPTH, &beyond)
    }

    fn filled(&self, message: &MessageDescriptor, depth: usize, value: &dyn Fn(&FieldDescriptor) -> Value) -> DynamicMessage {
        let mut made = DynamicMessage::new(message.clone());
        let mut taken = BTreeSet::new();
        for field in message.fields() {
            let alternative = field.containing_oneof().filter(|oneof| !oneof.is_synthetic());
            if alternative.is_some() && matches!(field.kind(), Kind::Message(inner) if recurses(message, &inner)) {
                continue;
            }
            // Of alternatives the first that can be filled.
            if alternative.is_some_and(|oneof| !taken.insert(oneof.full_name().to_owned())) {
                continue;
            }
            if field.is_map() {
                let key = MapKey::String("key".into());
                let Kind::Message(entry) = field.kind() else { continue };
                let inner = entry.map_entry_value_field();
                if !matches!(inner.kind(), Kind::Message(_)) && matches!(entry.map_entry_key_field().kind(), Kind::String) {
                    made.set_field(&field, Value::Map(HashMap::from([(key, value(&inner))])));
                }
                continue;
            }
            let one = match field.kind() {
                Kind::Message(inner) if depth == 0 || recurses(message, &inner) => continue,
                Kind::Message(inner) => Value::Message(self.filled(&inner, depth - 1, value)),
                _ => value(&field),
            };
            made.set_field(&field, if field.is_list() { Value::List(vec![one]) } else { one });
        }
        made
    }

    fn sound(&self, field: &FieldDescriptor, ids: &Ids) -> Value {
        if let (Kind::String, Some(id)) = (field.kind(), ids.of(field)) {
            // Where a job is named by itself or by its title, it is named by itself.
            let named_twice = field.name() == "content_id" && field.parent_message().get_field_by_name("job_id").is_some();
            return Value::String(if named_twice { String::new() } else { id.to_owned() });
        }
        match field.kind() {
            Kind::String => Value::String(self.word(field.name())),
            Kind::Bytes => Value::Bytes(b"sample".as_slice().into()),
            Kind::Bool => Value::Bool(false),
            Kind::Enum(kind) => {
                let first = kind.values().map(|value| value.number()).find(|number| *number != 0);
                Value::EnumNumber(first.unwrap_or_default())
            }
            kind => number(&kind, sound_number(field.name())),
        }
    }

    fn word(&self, field: &str) -> String {
        if let Some(word) = self.words.get(field) {
            return word.clone();
        }
        if field == "request_id" {
            return format!("contract-{}", self.made.fetch_add(1, Ordering::Relaxed));
        }
        let word = match field {
            // Empty is what most callers send.
            "page_token" | "etag" | "sha256" | "order_by" | "filter" | "after" | "before" | "owner" | "origin" | "subject"
            | "status" | "gate_chain" | "token_id" | "max_resolution" => "",
            "filename" => "clip.mp4",
            "url" | "endpoint_url" => "https://example.org/hook",
            "service" => "upload",
            "consumer" => "metadata",
            "cron" => "0 3 * * *",
            "time_zone" => "UTC",
            "chain" => "eip155:31337",
            "type" => "notify",
            "event_types" | "types" => "file.uploaded",
            "min_balance" => "1",
            "paths" => "title",
            "profile" => "",
            "role" => "viewer",
            _ => "sample",
        };
        word.to_owned()
    }
}

/// A message that holds itself, as a group of rules does, ends here.
fn recurses(outer: &MessageDescriptor, inner: &MessageDescriptor) -> bool {
    inner == outer || inner.fields().any(|field| matches!(field.kind(), Kind::Message(kind) if kind == *outer))
}

fn sound_number(field: &str) -> f64 {
    match field {
        "chain_id" => 31_337.0,
        "short_side_px" => 360.0,
        "max_kbps" => 800.0,
        // As it is now, whatever that is.
        "expected_revision" | "revision" => 0.0,
        _ => 1.0,
    }
}

fn number(kind: &Kind, value: f64) -> Value {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small numbers of this file")]
    match kind {
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(value as i32),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(value as i64),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(value as u32),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(value as u64),
        Kind::Float => Value::F32(value as f32),
        _ => Value::F64(value),
    }
}

/// A value at the end of its type, or beyond what is ever meant.
fn beyond(field: &FieldDescriptor) -> Value {
    match field.kind() {
        Kind::String => Value::String("../../etc/passwd\u{202e}\u{0}'; DROP TABLE x; --".into()),
        Kind::Bytes => Value::Bytes(vec![0xff; 64].into()),
        Kind::Bool => Value::Bool(true),
        Kind::Enum(_) => Value::EnumNumber(99_999),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(i32::MIN),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(i64::MIN),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(u32::MAX),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(u64::MAX),
        Kind::Float => Value::F32(f32::MAX),
        _ => Value::F64(f64::MAX),
    }
}
