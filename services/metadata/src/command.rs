//! Strict forms of the requests: wire types become these at the edge, once.

use std::{
    collections::{BTreeMap, HashMap},
    str::FromStr,
};

use prost::Message as _;
use streamgate_core::{
    Failure, FieldViolation,
    gate::Gate,
    ids::{BadId, ContentId, PlaybackId},
};
use streamgate_proto::streamgate::{gate::v1::Rule, metadata::v1 as pb};

use crate::engine::Status;

/// Characters of a title at the most: it is one line of a list.
pub const MAX_TITLE_CHARS: usize = 200;
/// Characters of a description at the most: a page of text.
pub const MAX_DESCRIPTION_CHARS: usize = 5_000;
/// Tags of a title at the most.
pub const MAX_TAGS: usize = 32;
/// Characters of a tag at the most.
pub const MAX_TAG_CHARS: usize = 64;
/// Attributes of a title at the most.
pub const MAX_ATTRIBUTES: usize = 32;
/// Characters of an attribute's name at the most.
pub const MAX_ATTRIBUTE_NAME: usize = 64;
/// Characters of an attribute's value at the most.
pub const MAX_ATTRIBUTE_VALUE: usize = 500;
/// Bytes of a request id at the most; callers send a UUID or an id of ours.
pub const MAX_REQUEST_ID_BYTES: usize = 128;

/// Make a title.
#[derive(Debug, Clone)]
pub struct CreateContent {
    /// One line.
    pub title: String,
    /// Free text.
    pub description: String,
    /// Without repeats.
    pub tags: Vec<String>,
    /// The owner's own names and values.
    pub attributes: BTreeMap<String, String>,
    /// Who may play, if anybody but the owner.
    pub gate: Option<Gate>,
    /// Makes repeating safe.
    pub request_id: Option<String>,
    /// Waiting or uploading.
    pub status: Status,
}

/// Change a title.
#[derive(Debug, Clone)]
pub struct UpdateContent {
    /// Which one.
    pub content_id: ContentId,
    /// New title, if any.
    pub title: Option<String>,
    /// New description, if any.
    pub description: Option<String>,
    /// New tags, if any.
    pub tags: Option<Vec<String>>,
    /// New attributes, if any.
    pub attributes: Option<BTreeMap<String, String>>,
    /// The revision the caller has seen.
    pub expected_revision: Option<u64>,
    /// The etag the caller has seen.
    pub etag: Option<String>,
    /// Makes repeating safe.
    pub request_id: Option<String>,
    /// The request as it came, to tell it from another with the same id.
    pub asked: Vec<u8>,
}

impl TryFrom<pb::CreateContentRequest> for CreateContent {
    type Error = Failure;

    fn try_from(request: pb::CreateContentRequest) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        let command = Self {
            title: one_line("title", &request.title, MAX_TITLE_CHARS, &mut fields),
            description: text("description", &request.description, &mut fields),
            tags: tags("tags", &request.tags, &mut fields),
            attributes: attributes(request.attributes, &mut fields),
            gate: gate_into(request.gate, &mut fields),
            request_id: request_id(request.request_id, &mut fields),
            status: first_status(&request.status, &mut fields),
        };
        refuse(fields).map(|()| command)
    }
}

impl TryFrom<pb::UpdateContentRequest> for UpdateContent {
    type Error = Failure;

    fn try_from(mut request: pb::UpdateContentRequest) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        let asked = canonical(&request);
        apply_mask(&mut request, &mut fields);
        let mask = request.update_mask.take();
        let replaces =
            |path: &str, is_given: bool| mask.as_ref().map_or(is_given, |mask| mask.paths.iter().any(|named| named == path));
        let new_tags = replaces("tags", !request.tags.is_empty());
        let new_attributes = replaces("attributes", !request.attributes.is_empty());
        let command = Self {
            content_id: content_id(&request.content_id)?,
            title: request.title.map(|title| one_line("title", &title, MAX_TITLE_CHARS, &mut fields)),
            description: request.description.map(|words| text("description", &words, &mut fields)),
            tags: new_tags.then(|| tags("tags", &request.tags, &mut fields)),
            attributes: new_attributes.then(|| attributes(request.attributes, &mut fields)),
            expected_revision: Some(request.expected_revision).filter(|revision| *revision != 0),
            etag: Some(request.etag).filter(|etag| !etag.is_empty()),
            request_id: request_id(request.request_id, &mut fields),
            asked,
        };
        refuse(fields).map(|()| command)
    }
}

/// Fields that an update mask may name.
const MASKED: [&str; 4] = ["title", "description", "tags", "attributes"];

/// Keeps what the mask names and empties what it names and is not given. `*` names everything.
fn apply_mask(request: &mut pb::UpdateContentRequest, fields: &mut Vec<FieldViolation>) {
    let Some(mask) = &mut request.update_mask else { return };
    if mask.paths.iter().any(|path| path == "*") {
        mask.paths = MASKED.map(str::to_owned).to_vec();
    }
    for unknown in mask.paths.iter().filter(|path| !MASKED.contains(&path.as_str())) {
        let known = MASKED.join(", ");
        fields.push(FieldViolation::new("update_mask", format!("{unknown:?} can't be changed; name some of {known}, or *")));
    }
    let names = |path: &str| mask.paths.iter().any(|named| named == path);
    request.title = names("title").then(|| request.title.take().unwrap_or_default());
    request.description = names("description").then(|| request.description.take().unwrap_or_default());
}

/// A request as bytes, the same for the same request: a map has no order of its own on the wire.
fn canonical(request: &pb::UpdateContentRequest) -> Vec<u8> {
    let attributes: BTreeMap<&String, &String> = request.attributes.iter().collect();
    let rest = pb::UpdateContentRequest { attributes: HashMap::new(), request_id: String::new(), ..request.clone() };
    let mut bytes = rest.encode_to_vec();
    bytes.extend(format!("{attributes:?}").into_bytes());
    bytes
}

/// The id of a title.
///
/// # Errors
/// When it is not one.
pub fn content_id(text: &str) -> Result<ContentId, Failure> {
    id("content_id", text)
}

/// The public id of a title.
///
/// # Errors
/// When it is not one.
pub fn playback_id(text: &str) -> Result<PlaybackId, Failure> {
    id("playback_id", text)
}

fn id<T: FromStr<Err = BadId>>(field: &str, text: &str) -> Result<T, Failure> {
    text.parse().map_err(|bad: BadId| Failure::invalid_field(field, bad.to_string()))
}

/// A gate, or none: a rule without a kind means none.
///
/// # Errors
/// When the gate is not well formed, with every field that is not.
pub fn gate(rule: Option<Rule>) -> Result<Option<Gate>, Failure> {
    let mut fields = Vec::new();
    let gate = gate_into(rule, &mut fields);
    refuse(fields).map(|()| gate)
}

fn gate_into(rule: Option<Rule>, fields: &mut Vec<FieldViolation>) -> Option<Gate> {
    let rule = rule.filter(|rule| rule.kind.is_some())?;
    match Gate::try_from(rule) {
        Ok(gate) => Some(gate),
        Err(violations) => {
            fields.extend(violations);
            None
        }
    }
}

fn first_status(word: &str, fields: &mut Vec<FieldViolation>) -> Status {
    match word {
        "" | "waiting" => Status::Waiting,
        "uploading" => Status::Uploading,
        _ => {
            fields.push(FieldViolation::new("status", "a title begins as waiting or uploading"));
            Status::Waiting
        }
    }
}

/// The id of a request that may come again.
///
/// # Errors
/// When it is too long, or no plain text.
pub fn repeatable(id: String) -> Result<Option<String>, Failure> {
    let mut fields = Vec::new();
    let id = request_id(id, &mut fields);
    refuse(fields).map(|()| id)
}

fn request_id(id: String, fields: &mut Vec<FieldViolation>) -> Option<String> {
    if id.len() > MAX_REQUEST_ID_BYTES || id.chars().any(char::is_control) {
        fields.push(FieldViolation::new(
            "request_id",
            format!("must be at most {MAX_REQUEST_ID_BYTES} bytes without control characters"),
        ));
    }
    Some(id).filter(|id| !id.is_empty())
}

fn one_line(field: &str, words: &str, max: usize, fields: &mut Vec<FieldViolation>) -> String {
    let words = words.trim();
    let count = words.chars().count();
    if count == 0 || count > max {
        fields.push(FieldViolation::new(field, format!("must be 1 to {max} characters")));
    } else if words.chars().any(char::is_control) {
        fields.push(FieldViolation::new(field, "must be one line without control characters"));
    }
    words.to_owned()
}

fn text(field: &str, words: &str, fields: &mut Vec<FieldViolation>) -> String {
    if words.chars().count() > MAX_DESCRIPTION_CHARS {
        fields.push(FieldViolation::new(field, format!("must be at most {MAX_DESCRIPTION_CHARS} characters")));
    } else if words.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        fields.push(FieldViolation::new(field, "must hold no control characters but line breaks and tabs"));
    }
    words.to_owned()
}

fn tags(field: &str, given: &[String], fields: &mut Vec<FieldViolation>) -> Vec<String> {
    if given.len() > MAX_TAGS {
        fields.push(FieldViolation::new(field, format!("must be at most {MAX_TAGS} tags")));
        return Vec::new();
    }
    let mut kept: Vec<String> = Vec::new();
    for (place, tag) in given.iter().enumerate() {
        let tag = one_line(&format!("{field}[{place}]"), tag, MAX_TAG_CHARS, fields);
        if !kept.contains(&tag) {
            kept.push(tag);
        }
    }
    kept
}

fn attributes(given: HashMap<String, String>, fields: &mut Vec<FieldViolation>) -> BTreeMap<String, String> {
    if given.len() > MAX_ATTRIBUTES {
        fields.push(FieldViolation::new("attributes", format!("must be at most {MAX_ATTRIBUTES} names")));
        return BTreeMap::new();
    }
    let given: BTreeMap<String, String> = given.into_iter().collect();
    let is_name_char = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-' | b'.');
    for (name, value) in &given {
        if !(1..=MAX_ATTRIBUTE_NAME).contains(&name.len()) || !name.bytes().all(is_name_char) {
            let rule = format!("a name must be 1 to {MAX_ATTRIBUTE_NAME} of a-z, 0-9, '_', '-' and '.'");
            fields.push(FieldViolation::new("attributes", rule));
        } else if value.chars().count() > MAX_ATTRIBUTE_VALUE || value.chars().any(char::is_control) {
            let rule = format!("must be at most {MAX_ATTRIBUTE_VALUE} characters without control characters");
            fields.push(FieldViolation::new(format!("attributes.{name}"), rule));
        }
    }
    given
}

/// Refuses a request whose fields are wrong.
pub(crate) fn refuse(fields: Vec<FieldViolation>) -> Result<(), Failure> {
    if fields.is_empty() { Ok(()) } else { Err(Failure::invalid(fields)) }
}
