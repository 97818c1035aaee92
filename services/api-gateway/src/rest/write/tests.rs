//! What is written here is what the message itself would write.

use std::collections::HashMap;

use prost_reflect::{DescriptorPool, FieldDescriptor, Kind, MapKey, MessageDescriptor, Value};

use super::*;
use crate::rest::table::Table;

/// Numbers that look drawn by lot, the same each time.
struct Lot(u64);

impl Lot {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    fn message(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        for field in descriptor.fields() {
            if self.below(3) > 0 {
                message.set_field(&field, self.field(&field, depth));
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let many = if depth > 3 { 0 } else { self.below(3) };
        if let (true, Kind::Message(entry)) = (field.is_map(), field.kind()) {
            let values = entry.map_entry_value_field();
            let keys = (0..many).map(|_| MapKey::String(format!("k\"{}", self.below(9))));
            let keys: Vec<MapKey> = keys.collect();
            return Value::Map(keys.into_iter().map(|key| (key, self.value(&values, depth))).collect::<HashMap<_, _>>());
        }
        if field.is_list() {
            return Value::List((0..many).map(|_| self.value(field, depth)).collect());
        }
        self.value(field, depth)
    }

    fn value(&mut self, field: &FieldDescriptor, depth: usize) -> Value {
        let number = match self.below(3) {
            0 => self.below(3),
            1 => self.draw(),
            _ => self.draw() >> 40,
        };
        match field.kind() {
            Kind::Bool => Value::Bool(number & 1 == 1),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(number as i32),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(number as u32),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number as i64),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(number),
            Kind::Float => Value::F32(number as f32 / 3.0),
            Kind::Double => Value::F64([f64::NAN, f64::INFINITY, f64::NEG_INFINITY, number as f64 / 3.0][self.below(4) as usize]),
            Kind::String => Value::String(["", "plain", "q\"\\\n\u{1}", "ü€😀", "</script>"][self.below(5) as usize].into()),
            Kind::Bytes => Value::Bytes(number.to_be_bytes().to_vec().into()),
            Kind::Enum(words) => {
                let known = words.values().nth(number as usize % words.values().len()).unwrap().number();
                Value::EnumNumber(if self.below(4) == 0 { 12_345 } else { known })
            }
            Kind::Message(message) => Value::Message(self.inner(&message, depth)),
        }
    }

    fn inner(&mut self, descriptor: &MessageDescriptor, depth: usize) -> DynamicMessage {
        let mut message = DynamicMessage::new(descriptor.clone());
        match descriptor.full_name() {
            "google.protobuf.Timestamp" | "google.protobuf.Duration" => {
                message.set_field_by_name("seconds", Value::I64(self.below(4_000_000_000) as i64));
                let nanos = [0, 250_000_000, 1_000, 7][self.below(4) as usize];
                message.set_field_by_name("nanos", Value::I32(nanos));
                message
            }
            "google.protobuf.FieldMask" => {
                message.set_field_by_name("paths", Value::List(vec![Value::String("content_id".into())]));
                message
            }
            _ if depth > 5 => message,
            _ => self.message(descriptor, depth + 1),
        }
    }
}

fn shapes_of(name: &str) -> (Shapes, Place, MessageDescriptor) {
    let pool = DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).unwrap();
    let message = pool.get_message_by_name(name).unwrap();
    let mut shapes = Shapes::default();
    let place = shapes.add(&message);
    (shapes, place, message)
}

fn as_value(json: &[u8]) -> serde_json::Value {
    serde_json::from_slice(json).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(json)))
}

#[test]
fn any_answer_of_any_rpc_is_written_as_its_message_would_write_it() {
    let pool = DescriptorPool::decode(streamgate_proto::FILE_DESCRIPTOR_SET).unwrap();
    let table = Table::of(&pool).unwrap();
    let mut lot = Lot(0x5eed);
    for binding in table.bindings() {
        let descriptor = match binding.response_field.as_ref().map(FieldDescriptor::kind) {
            Some(Kind::Message(inner)) => inner,
            _ => binding.rpc.output(),
        };
        for _ in 0..40 {
            let message = lot.message(&descriptor, 0);
            let written = write(table.shapes(), binding.shown, &message.encode_to_vec()).unwrap();
            assert_eq!(as_value(&written), as_value(&json::write(&message).unwrap()), "{}", descriptor.full_name());
        }
    }
}

#[test]
fn any_bytes_are_written_or_refused_and_never_a_panic() {
    let (shapes, place, message) = shapes_of("streamgate.metadata.v1.Content");
    let mut lot = Lot(7);
    for _ in 0..3_000 {
        let mut bytes = lot.message(&message, 0).encode_to_vec();
        for _ in 0..1 + lot.below(3) {
            if let Some(byte) = bytes.len().checked_sub(1).map(|last| lot.below(last as u64 + 1) as usize) {
                bytes[byte] = lot.draw() as u8;
            }
        }
        if let Ok(written) = write(&shapes, place, &bytes) {
            as_value(&written);
        }
    }
}

#[test]
fn a_message_in_pieces_is_one_and_the_last_of_a_choice_counts() {
    let (shapes, place, _) = shapes_of("streamgate.gate.v1.Rule");
    let erc721 = |field: u8, text: &[u8]| {
        let inner = [&[field << 3 | 2, text.len() as u8], text].concat();
        [&[5 << 3 | 2, inner.len() as u8], inner.as_slice()].concat()
    };
    let pieces = [erc721(1, b"eip155:1"), erc721(2, b"0xab")].concat();
    let written = as_value(&write(&shapes, place, &pieces).unwrap());
    assert_eq!((&written["erc721"]["chain"], &written["erc721"]["contract"]), (&"eip155:1".into(), &"0xab".into()));
    let replaced = [pieces.as_slice(), &[4 << 3 | 2, 0]].concat();
    assert_eq!(as_value(&write(&shapes, place, &replaced).unwrap()), serde_json::json!({"not": {}}));
}

#[test]
fn messages_too_deep_are_refused() {
    let (shapes, place, _) = shapes_of("streamgate.gate.v1.Rule");
    let mut rule = Vec::new();
    for _ in 0..=DEEPEST {
        let mut outer = vec![4 << 3 | 2];
        prost::encoding::encode_varint(rule.len() as u64, &mut outer);
        outer.extend_from_slice(&rule);
        rule = outer;
    }
    assert!(matches!(write(&shapes, place, &rule), Err(Error::Contract(_))));
}

#[test]
fn the_tag_is_of_the_answer_or_of_the_object_in_it() {
    let tagged = [&[19 << 3 | 2, 1, 2, b'v', b'1'][..]].concat();
    let (shapes, content, _) = shapes_of("streamgate.metadata.v1.Content");
    assert_eq!(etag(&shapes, content, &tagged).unwrap(), Some("v1"));
    assert_eq!(etag(&shapes, content, &[]).unwrap(), None);
    let (shapes, answer, _) = shapes_of("streamgate.metadata.v1.UpdateContentResponse");
    let inside = [&[1 << 3 | 2, tagged.len() as u8], tagged.as_slice()].concat();
    assert_eq!(etag(&shapes, answer, &inside).unwrap(), Some("v1"));
}
