//! Strict forms of the requests: wire types become these at the edge, once.

use std::str::FromStr;

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
/// Bytes of a request id at the most; callers send a UUID or an id of ours.
pub const MAX_REQUEST_ID_BYTES: usize = 128;
/// Characters of a search at the most.
pub const MAX_QUERY_CHARS: usize = 200;

/// Make a title.
#[derive(Debug, Clone)]
pub struct CreateContent {
    /// One line.
    pub title: String,
    /// Free text.
    pub description: String,
    /// Without repeats.
    pub tags: Vec<String>,
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
    /// The revision the caller has seen.
    pub expected_revision: Option<u64>,
}

impl TryFrom<pb::CreateContentRequest> for CreateContent {
    type Error = Failure;

    fn try_from(request: pb::CreateContentRequest) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        let command = Self {
            title: one_line("title", &request.title, MAX_TITLE_CHARS, &mut fields),
            description: text("description", &request.description, &mut fields),
            tags: tags("tags", &request.tags, &mut fields),
            gate: gate_into(request.gate, &mut fields),
            request_id: request_id(request.request_id, &mut fields),
            status: first_status(&request.status, &mut fields),
        };
        refuse(fields).map(|()| command)
    }
}

impl TryFrom<pb::UpdateContentRequest> for UpdateContent {
    type Error = Failure;

    fn try_from(request: pb::UpdateContentRequest) -> Result<Self, Failure> {
        let mut fields = Vec::new();
        let content_id = content_id(&request.content_id);
        let command = (
            request.title.map(|title| one_line("title", &title, MAX_TITLE_CHARS, &mut fields)),
            request.description.map(|words| text("description", &words, &mut fields)),
            request.tags.map(|list| tags("tags.values", &list.values, &mut fields)),
        );
        refuse(fields)?;
        let (title, description, tags) = command;
        let expected_revision = Some(request.expected_revision).filter(|revision| *revision != 0);
        Ok(Self { content_id: content_id?, title, description, tags, expected_revision })
    }
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

/// A status filter; empty means none.
///
/// # Errors
/// When it is no status.
pub fn status_filter(word: &str) -> Result<Option<Status>, Failure> {
    if word.is_empty() {
        return Ok(None);
    }
    word.parse().map(Some).map_err(|bad: crate::engine::BadStatus| Failure::invalid_field("status", bad.to_string()))
}

/// The words of a search.
///
/// # Errors
/// When there are none, or too many.
pub fn search_query(query: &str) -> Result<String, Failure> {
    let query = query.trim();
    if query.is_empty() || query.chars().count() > MAX_QUERY_CHARS {
        return Err(Failure::invalid_field("query", format!("must be 1 to {MAX_QUERY_CHARS} characters")));
    }
    Ok(query.to_owned())
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

fn refuse(fields: Vec<FieldViolation>) -> Result<(), Failure> {
    if fields.is_empty() { Ok(()) } else { Err(Failure::invalid(fields)) }
}
