//! Requests, read once from the wire into strict types.

use sha2::{Digest as _, Sha256};
use streamgate_core::{Failure, FieldViolation, gate::Gate, ids::UploadId};
use streamgate_proto::streamgate::upload::v1 as pb;

/// Longest file name that is kept.
const MAX_FILENAME_BYTES: usize = 255;
/// Longest title, as metadata takes it.
const MAX_TITLE_CHARS: usize = 200;
/// Largest offset: sums of it and a size stay far from the end of what is counted.
const MAX_PLACE: u64 = 1 << 62;
/// Longest key for repeating a call.
const MAX_REQUEST_ID_BYTES: usize = 128;

/// An upload to begin.
#[derive(Debug, Clone)]
pub struct CreateUpload {
    /// Name shown to people, without path parts.
    pub filename: String,
    /// Announced size; absent when unknown.
    pub size_bytes: Option<u64>,
    /// Title of the video, never empty.
    pub title: String,
    /// Who may watch.
    pub gate: Option<Gate>,
    /// Key for repeating the call.
    pub request_id: Option<String>,
    /// Expected hash in lower-case hex, or empty.
    pub sha256: String,
    /// Most bytes that will come; 0 when unknown.
    pub expected_bytes: u64,
}

impl CreateUpload {
    /// Bytes that there must be room for, as far as they are known.
    #[must_use]
    pub fn wanted_bytes(&self) -> u64 {
        self.size_bytes.unwrap_or(self.expected_bytes)
    }

    /// What tells two requests apart, as hex.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        let size = self.size_bytes.unwrap_or(0).to_string();
        let gate = self.gate.as_ref().map(Gate::hash).unwrap_or_default();
        for field in [&self.filename, &size, &self.title, &gate, &self.sha256] {
            hasher.update((field.len() as u64).to_be_bytes());
            hasher.update(field.as_bytes());
        }
        hex::encode(hasher.finalize())
    }
}

/// How the bytes of an upload come. The first of them decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chunking {
    /// One after the other.
    Stream,
    /// In chunks that are numbered.
    Index,
    /// In chunks that name their first byte.
    Offset,
}

impl Chunking {
    /// The way as it is stored.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Index => "index",
            Self::Offset => "offset",
        }
    }

    /// The way as it is told.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Stream => "one after the other, at the durable offset",
            Self::Index => "in chunks with an index",
            Self::Offset => "in chunks with an offset",
        }
    }

    /// What is missing where a chunk is.
    #[must_use]
    pub const fn unit(self) -> &'static str {
        match self {
            Self::Index => "chunk",
            Self::Stream | Self::Offset => "byte",
        }
    }
}

/// A chunk before its bytes have come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChunkHead {
    /// How its place is said.
    pub chunking: Chunking,
    /// Its index, or the offset of its first byte.
    pub place: u64,
    /// Expected lower-case hex SHA-256, or empty.
    pub sha256: String,
    /// Its size, when it is known.
    pub size_bytes: Option<u64>,
}

impl TryFrom<pb::CreateUploadRequest> for CreateUpload {
    type Error = Failure;

    fn try_from(request: pb::CreateUploadRequest) -> Result<Self, Failure> {
        let mut wrong = Vec::new();
        let filename = keep(clean_filename(&request.filename), "filename", &mut wrong);
        let title = keep(title_of(&request.title, &filename), "title", &mut wrong);
        let request_id = keep(check_request_id(request.request_id), "request_id", &mut wrong);
        if !request.sha256.is_empty() && !is_sha256(&request.sha256) {
            wrong.push(FieldViolation::new("sha256", "must be 64 lower-case hex digits"));
        }
        let gate = Gate::from_wire(request.gate).unwrap_or_else(|violations| {
            wrong.extend(violations);
            None
        });
        if !wrong.is_empty() {
            return Err(Failure::invalid(wrong));
        }
        let size_bytes = (request.size_bytes > 0).then_some(request.size_bytes);
        let (sha256, expected_bytes) = (request.sha256, request.expected_bytes);
        Ok(Self { filename, size_bytes, title, gate, request_id, sha256, expected_bytes })
    }
}

impl TryFrom<pb::WriteChunkHeader> for ChunkHead {
    type Error = Failure;

    fn try_from(header: pb::WriteChunkHeader) -> Result<Self, Failure> {
        use pb::write_chunk_header::Place;
        let (chunking, place) = match header.place {
            Some(Place::Index(index)) => (Chunking::Index, u64::from(index)),
            Some(Place::OffsetBytes(offset)) => (Chunking::Offset, offset),
            None => return Err(Failure::invalid_field("index", "is required, or offset_bytes: where the chunk belongs")),
        };
        if place > MAX_PLACE {
            return Err(Failure::invalid_field("offset_bytes", format!("must be at most {MAX_PLACE}")));
        }
        let sha256 = expected_sha256(header.sha256)?;
        Ok(Self { chunking, place, sha256, size_bytes: (header.size_bytes > 0).then_some(header.size_bytes) })
    }
}

/// Reads an expected hash; it may be empty.
///
/// # Errors
/// `InvalidArgument` for a text that is none.
pub fn expected_sha256(given: String) -> Result<String, Failure> {
    if given.is_empty() || is_sha256(&given) {
        return Ok(given);
    }
    Err(Failure::invalid_field("sha256", "must be 64 lower-case hex digits"))
}

fn keep<T: Default>(read: Result<T, String>, field: &str, wrong: &mut Vec<FieldViolation>) -> T {
    read.unwrap_or_else(|description| {
        wrong.push(FieldViolation::new(field, description));
        T::default()
    })
}

/// The last part of a path, without characters that could mislead a reader.
fn clean_filename(given: &str) -> Result<String, String> {
    let last = given.rsplit(['/', '\\']).next().unwrap_or_default();
    let clean: String = last.chars().filter(|c| !c.is_control() && !turns_text(*c)).collect();
    let clean = clean.trim();
    if clean.is_empty() || clean.chars().all(|c| c == '.') {
        return Err("must name a file".to_owned());
    }
    if clean.len() > MAX_FILENAME_BYTES {
        return Err(format!("must be at most {MAX_FILENAME_BYTES} bytes"));
    }
    Ok(clean.to_owned())
}

/// Marks that change the direction of text, with which `exe.mp4` can be made to look like another name.
const fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn title_of(given: &str, filename: &str) -> Result<String, String> {
    let given = given.trim();
    if given.chars().count() > MAX_TITLE_CHARS || given.chars().any(char::is_control) {
        return Err(format!("must be at most {MAX_TITLE_CHARS} characters, without control characters"));
    }
    if !given.is_empty() {
        return Ok(given.to_owned());
    }
    let stem = filename.rsplit_once('.').map_or(filename, |(stem, _)| stem).trim();
    let title = if stem.is_empty() { filename } else { stem };
    Ok(title.chars().take(MAX_TITLE_CHARS).collect())
}

fn check_request_id(given: String) -> Result<Option<String>, String> {
    if given.len() > MAX_REQUEST_ID_BYTES || !given.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!("must be at most {MAX_REQUEST_ID_BYTES} visible ASCII characters"));
    }
    Ok(Some(given).filter(|id| !id.is_empty()))
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Reads the id of an upload.
///
/// # Errors
/// `InvalidArgument` for a text that is none.
pub fn upload_id(text: &str) -> Result<UploadId, Failure> {
    text.parse().map_err(|bad: streamgate_core::ids::BadId| Failure::invalid_field("upload_id", bad.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: pb::CreateUploadRequest) -> Result<CreateUpload, Failure> {
        CreateUpload::try_from(request)
    }

    fn named(filename: &str) -> pb::CreateUploadRequest {
        pb::CreateUploadRequest { filename: filename.into(), ..Default::default() }
    }

    #[test]
    fn a_file_name_loses_its_path_and_its_tricks() {
        for (given, kept) in [
            ("clip.mp4", "clip.mp4"),
            ("../../etc/passwd", "passwd"),
            ("C:\\videos\\My clip.MOV", "My clip.MOV"),
            ("a\0b\u{202e}4pm.mp4", "ab4pm.mp4"),
            ("ролик 1.mp4", "ролик 1.mp4"),
        ] {
            assert_eq!(read(named(given)).unwrap().filename, kept, "{given:?}");
        }
        for bad in ["", "/", "..", "a/..", " \t", &"x".repeat(256)] {
            let refused = read(named(bad)).unwrap_err();
            assert_eq!(refused.fields[0].field, "filename", "{bad:?}");
        }
    }

    #[test]
    fn a_title_comes_from_the_file_name_when_none_is_given() {
        assert_eq!(read(named("my.holiday.mp4")).unwrap().title, "my.holiday");
        assert_eq!(read(named(".mp4")).unwrap().title, ".mp4");
        let given = pb::CreateUploadRequest { title: "  Holiday ".into(), ..named("a.mp4") };
        assert_eq!(read(given).unwrap().title, "Holiday");
    }

    #[test]
    fn each_wrong_field_is_named() {
        let request =
            pb::CreateUploadRequest { sha256: "AB".into(), request_id: "a b".into(), title: "x".repeat(201), ..named("") };
        let fields: Vec<_> = read(request).unwrap_err().fields.into_iter().map(|f| f.field).collect();
        assert_eq!(fields, ["filename", "title", "request_id", "sha256"]);
    }

    #[test]
    fn another_body_has_another_fingerprint() {
        let base = read(named("a.mp4")).unwrap().fingerprint();
        assert_eq!(read(pb::CreateUploadRequest { request_id: "k".into(), ..named("a.mp4") }).unwrap().fingerprint(), base);
        assert_ne!(read(pb::CreateUploadRequest { size_bytes: 1, ..named("a.mp4") }).unwrap().fingerprint(), base);
        assert_ne!(read(named("b.mp4")).unwrap().fingerprint(), base);
    }
}
