//! One chunk of an upload: a raw body with its place in the query, or a form.
//!
//! A small chunk may also come as JSON; that is plain REST.

use axum::{body::Body, extract::Request, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use futures::StreamExt as _;
use http::{HeaderMap, HeaderValue, header};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use streamgate_proto::streamgate::upload::v1::{WriteChunkHeader, WriteChunkResponse, write_chunk_header::Place};
use tokio::time::Instant;

use crate::{
    context::CallContext,
    error::{Error, Result},
    rest::json,
    upload::{
        Uploads,
        parts::{Form, Part, before},
        session::Session,
    },
};

/// Kinds of body that are the chunk itself, without parameters.
const RAW: [&str; 2] = ["application/octet-stream", "application/offset+octet-stream"];
/// What is told of the kinds that are taken.
const WANTED: &str = "application/octet-stream, multipart/form-data or application/json";
const ANSWER: &str = "streamgate.upload.v1.WriteChunkResponse";

/// How the body of a request brings its chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As fields of a JSON message.
    Json,
    /// As the body itself.
    Raw,
    /// As a part of a form.
    Form,
}

impl Kind {
    /// Reads the content type.
    ///
    /// # Errors
    /// `WrongMediaType` for a kind that is not taken.
    pub fn of(headers: &HeaderMap) -> Result<Self> {
        let text = headers.get(header::CONTENT_TYPE).map_or(Ok(RAW[0]), HeaderValue::to_str);
        let text = text.map_err(|_| Error::WrongMediaType { wanted: WANTED })?;
        let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "multipart/form-data" => Ok(Self::Form),
            raw if RAW.contains(&raw) || raw.starts_with("video/") => Ok(Self::Raw),
            _ => Err(Error::WrongMediaType { wanted: WANTED }),
        }
    }
}

/// Takes a chunk that is not JSON. `upload_id` stands in the path, if it does.
pub async fn answer(uploads: &Uploads, upload_id: Option<&str>, kind: Kind, request: Request) -> Result<Response> {
    let session = uploads.session(&CallContext::of(request.headers()));
    let mut words = Words::default();
    for (name, text) in url::form_urlencoded::parse(request.uri().query().unwrap_or_default().as_bytes()) {
        words.take(&name, text.into_owned())?;
    }
    if let Some(upload_id) = upload_id {
        words.take("upload_id", upload_id.to_owned())?;
    }
    let written = if kind == Kind::Form {
        of_form(&session, words, Form::of(request).await?, Instant::now() + uploads.timeout).await?
    } else {
        raw(&session, words, request).await?
    };
    json_answer(&uploads.pool, &written)
}

async fn raw(session: &Session, mut words: Words, request: Request) -> Result<WriteChunkResponse> {
    words.digest(request.headers())?;
    let size = request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let header = words.header(size.unwrap_or(0))?;
    let mut body = request.into_body().into_data_stream();
    session
        .write_chunk(header, async |sender| {
            while let Some(bytes) = body.next().await {
                if !session.send_chunk(&sender, bytes.map_err(|error| Error::of_body(&error))?).await {
                    break;
                }
            }
            Ok(())
        })
        .await
}

/// The words come before the chunk, and until `end`, so that a chunk without a place is not read.
async fn of_form(session: &Session, mut words: Words, mut form: Form, end: Instant) -> Result<WriteChunkResponse> {
    loop {
        let Some(part) = before(end, form.next()).await? else {
            return Err(Error::field("chunk", "is required, after the fields that say where it belongs"));
        };
        if matches!(part.name(), "chunk" | "file") {
            return of_part(session, words.header(0)?, part).await;
        }
        let name = part.name().to_owned();
        words.take(&name, before(end, part.text()).await?)?;
    }
}

async fn of_part(session: &Session, header: WriteChunkHeader, mut part: Part<'_>) -> Result<WriteChunkResponse> {
    session
        .write_chunk(header, async |sender| {
            while let Some(bytes) = part.chunk().await? {
                if !session.send_chunk(&sender, bytes).await {
                    break;
                }
            }
            Ok(())
        })
        .await
}

fn json_answer(pool: &DescriptorPool, written: &WriteChunkResponse) -> Result<Response> {
    let unknown = || Error::Contract("no answer to a chunk".into());
    let descriptor = pool.get_message_by_name(ANSWER).ok_or_else(unknown)?;
    let message = DynamicMessage::decode(descriptor, written.encode_to_vec().as_slice()).map_err(|_| unknown())?;
    let mut response = Response::new(Body::from(json::write(&message)?));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// What is said of a chunk beside its bytes.
#[derive(Debug, Default)]
struct Words {
    upload_id: String,
    index: Option<u32>,
    offset_bytes: Option<u64>,
    sha256: String,
    /// Names of the words that were said.
    said: Vec<String>,
}

impl Words {
    fn take(&mut self, name: &str, text: String) -> Result<()> {
        if self.said.iter().any(|said| said == name) {
            return Err(Error::field(name, "is given twice"));
        }
        match name {
            "upload_id" => self.upload_id = text,
            "sha256" => self.sha256 = text,
            "index" => self.index = Some(text.parse().map_err(|_| Error::field(name, "is a number from 0"))?),
            "offset_bytes" => self.offset_bytes = Some(text.parse().map_err(|_| Error::field(name, "is a number from 0"))?),
            _ => {
                let known = "it takes upload_id, index or offset_bytes, and sha256";
                return Err(Error::field(name, format!("is not a parameter of a chunk; {known}")));
            }
        }
        self.said.push(name.to_owned());
        Ok(())
    }

    /// `Content-Digest: sha-256=:…:` (RFC 9530) says the same as `sha256`. Other digests are passed over.
    fn digest(&mut self, headers: &HeaderMap) -> Result<()> {
        let lists = headers.get_all("content-digest").into_iter().filter_map(|value| value.to_str().ok());
        let Some(digest) = lists.flat_map(|list| list.split(',')).find_map(|one| one.trim().strip_prefix("sha-256=")) else {
            return Ok(());
        };
        let bytes = digest.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).and_then(|text| STANDARD.decode(text).ok());
        let bytes = bytes.filter(|bytes| bytes.len() == 32);
        let bytes = bytes.ok_or_else(|| Error::field("Content-Digest", "is sha-256=:base64 of 32 bytes:"))?;
        self.take("sha256", bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn header(self, size_bytes: u64) -> Result<WriteChunkHeader> {
        let place = match (self.index, self.offset_bytes) {
            (Some(index), None) => Place::Index(index),
            (None, Some(offset)) => Place::OffsetBytes(offset),
            (None, None) => return Err(Error::field("index", "is required, or offset_bytes: where the chunk belongs")),
            (Some(_), Some(_)) => return Err(Error::field("offset_bytes", "is given beside index; one of them says the place")),
        };
        Ok(WriteChunkHeader { upload_id: self.upload_id, place: Some(place), sha256: self.sha256, size_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(text: &'static str) -> Option<Kind> {
        Kind::of(&HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(text))])).ok()
    }

    #[test]
    fn the_content_type_says_how_a_chunk_comes() {
        assert_eq!(kind("application/json; charset=utf-8"), Some(Kind::Json));
        assert_eq!(kind("Multipart/Form-Data; boundary=X"), Some(Kind::Form));
        assert_eq!(kind("application/octet-stream"), Some(Kind::Raw));
        assert_eq!(kind("video/mp4"), Some(Kind::Raw));
        assert_eq!(kind("application/x-www-form-urlencoded"), None);
        assert_eq!(Kind::of(&HeaderMap::new()).ok(), Some(Kind::Raw));
    }

    #[test]
    fn a_digest_header_is_the_checksum() {
        let mut words = Words::default();
        let digest = "md5=:AAAA:, sha-256=:ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=:";
        words
            .digest(&HeaderMap::from_iter([(http::HeaderName::from_static("content-digest"), digest.parse().unwrap())]))
            .unwrap();
        assert_eq!(words.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let broken =
            HeaderMap::from_iter([(http::HeaderName::from_static("content-digest"), HeaderValue::from_static("sha-256=:AAAA:"))]);
        assert!(words.digest(&broken).is_err());
    }
}
