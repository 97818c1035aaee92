//! One multipart form: `file`, and `title` and `gate` before or after it.

use axum::{
    Json,
    extract::Request,
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode};
use prost::Message as _;
use prost_reflect::DescriptorPool;
use serde::Serialize;
use streamgate_core::FieldViolation;
use streamgate_proto::streamgate::{
    gate::v1::Rule,
    upload::v1::{CreateUploadRequest, Upload, UploadState},
};
use tokio::time::Instant;

use crate::{
    context::CallContext,
    error::{Error, Result},
    rest::{self, json},
    upload::{
        Uploads,
        parts::{Form, Part, before},
        session::Session,
        unfinished::Unfinished,
    },
};

/// What the answer says of the stored file.
#[derive(Debug, Serialize)]
struct Stored {
    upload_id: String,
    file_id: String,
    filename: String,
    size: u64,
    sha256: String,
    content_id: String,
}

/// What the form says beside the file.
#[derive(Debug, Default)]
struct Words {
    title: Option<String>,
    gate: Option<Rule>,
    sha256: Option<String>,
    /// Names of the words that were said.
    said: Vec<String>,
}

/// Takes a form in.
pub async fn answer(uploads: &Uploads, request: Request) -> Result<Response> {
    let session = uploads.session(&CallContext::of(request.headers()));
    check_kind(request.headers())?;
    let arrival = Arrival::of(request.headers())?;
    let mut form = Form::of(request).await?;
    let (upload, new) = take_in(uploads, &session, &mut form, arrival).await?;
    let stored = Stored {
        upload_id: upload.upload_id,
        file_id: upload.file_id,
        filename: upload.filename,
        size: upload.offset_bytes,
        sha256: upload.sha256,
        content_id: upload.content_id,
    };
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(stored)).into_response())
}

/// What the headers say of a form.
#[derive(Debug)]
struct Arrival {
    /// Names the upload. The caller's key, or one of this call: the call to the upload service may be repeated on the way,
    /// and must not make two titles.
    request_id: String,
    /// The caller gave a key, so it may repeat the call, and goes on from the bytes that are stored.
    repeatable: bool,
    /// Bytes of the whole form; 0 when unknown.
    length: u64,
}

impl Arrival {
    fn of(headers: &HeaderMap) -> Result<Self> {
        let key = rest::idempotency_key(headers)?;
        let length = headers.get(http::header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        Ok(Self {
            request_id: key.map_or_else(|| format!("edge-{}", uuid::Uuid::now_v7().simple()), str::to_owned),
            repeatable: key.is_some(),
            length: length.unwrap_or(0),
        })
    }
}

fn check_kind(headers: &HeaderMap) -> Result<()> {
    let kind = headers.get(http::header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.to_ascii_lowercase().starts_with("multipart/form-data") {
        Ok(())
    } else {
        Err(Error::WrongMediaType { wanted: "multipart/form-data" })
    }
}

/// Reads the form and stores its file. False beside an upload that an earlier call had completed.
async fn take_in(uploads: &Uploads, session: &Session, form: &mut Form, arrival: Arrival) -> Result<(Upload, bool)> {
    let mut words = Words::default();
    let end = Instant::now() + uploads.timeout;
    let file = loop {
        let Some(part) = before(end, form.next()).await? else {
            return Err(Error::field("file", "is required"));
        };
        if part.name() == "file" {
            break part;
        }
        before(end, words.read(&uploads.pool, part)).await?;
    };
    let request = CreateUploadRequest {
        filename: file.file_name().unwrap_or("upload").to_owned(),
        title: words.title.take().unwrap_or_default(),
        gate: words.gate.take(),
        request_id: arrival.request_id,
        sha256: words.sha256.take().unwrap_or_default(),
        size_bytes: 0,
        expected_bytes: arrival.length,
    };
    let upload = session.create(request).await?;
    if upload.state() == UploadState::Completed {
        return Ok((upload, false));
    }
    let unfinished = Unfinished::of(session, &upload.upload_id, arrival.repeatable);
    let stored = store(session, &upload, file).await;
    let filled = match stored {
        Ok(()) => finish(uploads, session, &upload, form, words).await,
        Err(error) => Err(error),
    };
    match filled {
        Ok(done) => {
            unfinished.done();
            Ok((done, true))
        }
        Err(error) => Err(unfinished.abandon(error).await),
    }
}

/// Takes the words after the file, and closes the upload.
async fn finish(uploads: &Uploads, session: &Session, upload: &Upload, form: &mut Form, mut words: Words) -> Result<Upload> {
    let end = Instant::now() + uploads.timeout;
    while let Some(part) = before(end, form.next()).await? {
        before(end, words.read(&uploads.pool, part)).await?;
    }
    if let Some(title) = words.title {
        session.set_title(&upload.content_id, title).await?;
    }
    if let Some(gate) = words.gate {
        session.set_gate(&upload.content_id, gate).await?;
    }
    session.complete(&upload.upload_id).await
}

/// Sends the file's bytes, but for those that an earlier call has stored.
async fn store(session: &Session, upload: &Upload, mut file: Part<'_>) -> Result<()> {
    let mut stored = upload.offset_bytes;
    let pump = async |sender| {
        while let Some(mut chunk) = file.chunk().await? {
            let known = usize::try_from(stored).unwrap_or(usize::MAX).min(chunk.len());
            stored -= known as u64;
            let fresh = chunk.split_off(known);
            if !session.send(&sender, fresh).await {
                break;
            }
        }
        Ok(())
    };
    session.write(&upload.upload_id, upload.offset_bytes, pump).await.map(|_| ())
}

impl Words {
    async fn read(&mut self, pool: &DescriptorPool, part: Part<'_>) -> Result<()> {
        let name = part.name().to_owned();
        if name == "file" || self.said.contains(&name) {
            return Err(Error::field(name, "is given twice"));
        }
        match name.as_str() {
            "title" => self.title = Some(part.text().await?),
            "sha256" => self.sha256 = Some(part.text().await?),
            "gate" => {
                let text = part.text().await?;
                self.gate = if text.trim().is_empty() { None } else { Some(gate(pool, &text)?) };
            }
            _ => return Err(Error::field(name, "is not a field of this form; it takes file, title, gate and sha256")),
        }
        self.said.push(name);
        Ok(())
    }
}

/// Reads a gate as REST does, so that its errors are the same.
fn gate(pool: &DescriptorPool, text: &str) -> Result<Rule> {
    let value = json::parse(text.as_bytes()).map_err(|_| Error::field("gate", "is not JSON"))?;
    let rule = pool.get_message_by_name("streamgate.gate.v1.Rule").ok_or_else(|| Error::Contract("no gate".into()))?;
    let read = json::read(&rule, &value).map_err(|error| match error {
        Error::Fields(fields) => Error::Fields(fields.into_iter().map(below_gate).collect()),
        other => other,
    })?;
    Rule::decode(read.encode_to_vec().as_slice()).map_err(|error| Error::Contract(error.to_string()))
}

fn below_gate(violation: FieldViolation) -> FieldViolation {
    let path = if violation.field.is_empty() { "gate".to_owned() } else { format!("gate.{}", violation.field) };
    FieldViolation::new(path, violation.description)
}
