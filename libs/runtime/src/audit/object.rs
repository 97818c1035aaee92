//! What a call is about: ids in its messages, found by the contracts' descriptors.

use std::{
    collections::{HashMap, HashSet},
    sync::LazyLock,
};

use prost::Message as _;
use prost_types::{DescriptorProto, FileDescriptorSet, field_descriptor_proto::Type};
use streamgate_proto::{FILE_DESCRIPTOR_SET, STREAMING_METHODS};

/// Ids that name no object.
const NO_OBJECTS: [&str; 3] = ["request_id", "trace_id", "chain_id"];
/// Fields that name an object without ending in `_id`.
const OTHER_OBJECTS: [&str; 1] = ["key"];
/// Contracts whose `key` names an object, and is no key to anything.
const KEYED: &str = "/streamgate.cache.v1.";
/// Objects of one call that are noted, and bytes of an id.
const MAX_OBJECTS: usize = 3;
const MAX_ID_BYTES: usize = 128;
/// Bytes before a message in a gRPC body.
const FRAME_HEAD: usize = 5;

/// A field that holds an id, perhaps inside a message in another field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct IdField {
    outer: Option<u32>,
    number: u32,
    name: String,
}

/// What a contract says of a method.
#[derive(Debug, Default)]
pub(super) struct Shape {
    request: Vec<IdField>,
    response: Vec<IdField>,
    /// One request and one response.
    pub(super) is_unary: bool,
}

static SHAPES: LazyLock<HashMap<String, Shape>> = LazyLock::new(shapes);

/// What the contracts say of a method; absent when none has it.
pub(super) fn shape(path: &str) -> Option<&'static Shape> {
    SHAPES.get(path)
}

impl Shape {
    /// The objects that a request names, such as `content_id=cnt_…`. `body` may be cut off.
    pub(super) fn of_request(&self, body: &[u8]) -> String {
        objects(&self.request, body)
    }

    /// The objects that an answer names.
    pub(super) fn of_response(&self, body: &[u8]) -> String {
        objects(&self.response, body)
    }
}

fn shapes() -> HashMap<String, Shape> {
    let files = FileDescriptorSet::decode(FILE_DESCRIPTOR_SET).unwrap_or_default().file;
    let mut messages: HashMap<String, &DescriptorProto> = HashMap::new();
    for file in &files {
        for message in &file.message_type {
            add_message(&format!(".{}", file.package()), message, &mut messages);
        }
    }
    let mut shapes = HashMap::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                let shape = Shape {
                    request: id_fields(method.input_type(), &messages, path.starts_with(KEYED)),
                    response: id_fields(method.output_type(), &messages, false),
                    is_unary: STREAMING_METHODS.binary_search(&path.as_str()).is_err(),
                };
                shapes.insert(path, shape);
            }
        }
    }
    shapes
}

fn add_message<'a>(scope: &str, message: &'a DescriptorProto, messages: &mut HashMap<String, &'a DescriptorProto>) {
    let name = format!("{scope}.{}", message.name());
    for nested in &message.nested_type {
        add_message(&name, nested, messages);
    }
    messages.insert(name, message);
}

fn id_fields(message: &str, messages: &HashMap<String, &DescriptorProto>, is_keyed: bool) -> Vec<IdField> {
    let Some(message) = messages.get(message) else { return Vec::new() };
    let mut found = direct(message, None, is_keyed);
    for field in &message.field {
        if field.r#type() == Type::Message
            && !is_repeated(field)
            && let Some(inner) = messages.get(field.type_name())
        {
            found.extend(direct(inner, u32::try_from(field.number()).ok(), is_keyed));
        }
    }
    found
}

fn direct(message: &DescriptorProto, outer: Option<u32>, is_keyed: bool) -> Vec<IdField> {
    let names_object =
        |name: &str| name.ends_with("_id") && !NO_OBJECTS.contains(&name) || is_keyed && OTHER_OBJECTS.contains(&name);
    let fields =
        message.field.iter().filter(|field| field.r#type() == Type::String && !is_repeated(field) && names_object(field.name()));
    fields
        .filter_map(|field| Some(IdField { outer, number: u32::try_from(field.number()).ok()?, name: field.name().to_owned() }))
        .collect()
}

fn is_repeated(field: &prost_types::FieldDescriptorProto) -> bool {
    field.label() == prost_types::field_descriptor_proto::Label::Repeated
}

fn objects(wanted: &[IdField], body: &[u8]) -> String {
    // A compressed message says nothing.
    let message = match body.get(..FRAME_HEAD) {
        Some(head) if head[0] == 0 => &body[FRAME_HEAD..],
        _ => return String::new(),
    };
    let mut found: Vec<(usize, String)> = Vec::new();
    collect(message, None, wanted, &mut found);
    found.sort();
    let mut names = HashSet::new();
    let once = found.into_iter().filter(|(place, _)| names.insert(wanted[*place].name.as_str()));
    once.take(MAX_OBJECTS).map(|(_, text)| text).collect::<Vec<_>>().join(" ")
}

/// Walks the fields of a message as far as it is there.
fn collect(mut message: &[u8], outer: Option<u32>, wanted: &[IdField], found: &mut Vec<(usize, String)>) {
    while let Some(Wire { number, value, rest }) = next_field(message) {
        message = rest;
        let Some(value) = value else { continue };
        if let Some(place) = wanted.iter().position(|field| field.outer == outer && field.number == number) {
            if let Some(id) = as_id(value) {
                found.push((place, format!("{}={id}", wanted[place].name)));
            }
        } else if outer.is_none() && wanted.iter().any(|field| field.outer == Some(number)) {
            collect(value, Some(number), wanted, found);
        }
    }
}

/// A field as it is encoded.
struct Wire<'a> {
    number: u32,
    /// Its bytes, if it is one that has a length.
    value: Option<&'a [u8]>,
    rest: &'a [u8],
}

fn next_field(message: &[u8]) -> Option<Wire<'_>> {
    let (tag, rest) = varint(message)?;
    let number = u32::try_from(tag >> 3).ok()?;
    let (value, rest) = match tag & 7 {
        0 => (None, varint(rest)?.1),
        1 => (None, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let length = usize::try_from(length).ok()?;
            (Some(rest.get(..length)?), rest.get(length..)?)
        }
        5 => (None, rest.get(4..)?),
        _ => return None,
    };
    Some(Wire { number, value, rest })
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[place + 1..]));
        }
    }
    None
}

/// Callers choose what they send: only what can be an id is noted.
fn as_id(value: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(value).ok()?;
    (!text.is_empty() && text.len() <= MAX_ID_BYTES && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
}

#[cfg(test)]
mod tests {
    use streamgate_proto::streamgate::metadata::v1 as pb;

    use super::*;

    fn framed(message: &impl prost::Message) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 0, 0];
        body.extend(message.encode_to_vec());
        body
    }

    #[test]
    fn ids_of_a_request_are_found_at_the_top_and_inside_a_message() {
        let shape = shape("/streamgate.metadata.v1.MetadataService/DeletePlaybackId").unwrap();
        let request = pb::DeletePlaybackIdRequest { content_id: "cnt_1".into(), playback_id: "pbk_2".into() };
        assert_eq!(shape.of_request(&framed(&request)), "content_id=cnt_1 playback_id=pbk_2");
        let create = super::shape("/streamgate.metadata.v1.MetadataService/CreateContent").unwrap();
        let content = pb::Content { content_id: "cnt_9".into(), ..Default::default() };
        let response = pb::CreateContentResponse { content: Some(content) };
        assert!(create.of_response(&framed(&response)).contains("content_id=cnt_9"));
    }

    #[test]
    fn a_body_that_is_cut_off_compressed_or_garbage_breaks_nothing() {
        let shape = shape("/streamgate.metadata.v1.MetadataService/DeleteContent").unwrap();
        let body = framed(&pb::DeleteContentRequest { content_id: "cnt_1".into(), ..Default::default() });
        for end in 0..body.len() {
            assert_eq!(shape.of_request(&body[..end]), "", "{end}");
        }
        let mut compressed = body;
        compressed[0] = 1;
        assert_eq!(shape.of_request(&compressed), "");
        assert_eq!(shape.of_request(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]), "");
        let odd = framed(&pb::DeleteContentRequest { content_id: "a b\n".into(), ..Default::default() });
        assert_eq!(shape.of_request(&odd), "", "no line of a log can be forged");
    }

    #[test]
    fn a_request_id_is_no_object_and_secrets_are_never_read() {
        for (path, shape) in SHAPES.iter() {
            for field in shape.request.iter().chain(&shape.response) {
                assert_ne!(field.name, "request_id", "{path}");
                assert!(field.name.ends_with("_id") || path.starts_with(KEYED), "{path} {}", field.name);
            }
        }
    }
}
