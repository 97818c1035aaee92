//! `streamgate upload`: sends a file in durable pieces and goes on where it stopped.

use std::{
    fs::Metadata,
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::ProgressBar;
use reqwest::{
    Method, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use crate::{
    CliError,
    api::{Api, accepted, gate_argument},
    cli::Upload,
    progress,
    resume::{Resume, modified},
};

/// One piece. Big enough to keep a fast line busy, small enough to be sent again after a break.
const CHUNK_BYTES: u64 = 8 * 1024 * 1024;
/// Failures in a row before the command gives up. With the pauses below that is some four minutes.
const MAX_FAILURES: u32 = 12;
/// Longest pause between two tries.
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// How often to ask how far the title is.
const POLL: Duration = Duration::from_millis(500);

/// Header of a piece's place in the file.
const UPLOAD_OFFSET: &str = "upload-offset";

/// Sends a file, resuming an earlier try when there is one.
pub(crate) async fn run(arguments: Upload) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    let source = Source::open(&arguments.file).await?;
    let (state, offset) = match found_earlier(&api, &source).await? {
        Some((state, offset)) => {
            change_title(&api, &state.content_id, &arguments).await?;
            (state, offset)
        }
        None => (begin(&api, &source, &arguments).await?, 0),
    };
    send(&api, &source, &state, offset).await?;
    let upload = complete(&api, &source, &state).await?;
    Resume::forget(&source.path);
    if arguments.wait {
        wait_until_ready(&api, &state.content_id).await?;
    }
    if arguments.json {
        println!("{upload}");
    } else {
        println!("uploaded as {}", state.content_id);
    }
    Ok(())
}

/// The file that is sent.
struct Source {
    path: PathBuf,
    name: String,
    about: Metadata,
}

impl Source {
    async fn open(path: &Path) -> Result<Self, CliError> {
        let unreadable = |error: io::Error| CliError::Usage(format!("{}: {error}", path.display()));
        let about = tokio::fs::metadata(path).await.map_err(unreadable)?;
        if !about.is_file() {
            return Err(CliError::Usage(format!("{} is not a file", path.display())));
        }
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { path: path.to_path_buf(), name, about })
    }

    async fn piece(&self, offset: u64) -> Result<Vec<u8>, CliError> {
        let length = CHUNK_BYTES.min(self.about.len() - offset);
        let read = async {
            let mut file = File::open(&self.path).await?;
            file.seek(SeekFrom::Start(offset)).await?;
            let mut piece = Vec::new();
            file.take(length).read_to_end(&mut piece).await?;
            Ok::<_, io::Error>(piece)
        };
        let piece = read.await.map_err(|error| CliError::Failed(format!("read {}: {error}", self.path.display())))?;
        if piece.len() as u64 != length {
            return Err(CliError::Failed(format!("{} shrank while it was sent", self.path.display())));
        }
        Ok(piece)
    }
}

/// An upload of this file that was begun before and is still open, with its durable offset.
async fn found_earlier(api: &Api, source: &Source) -> Result<Option<(Resume, u64)>, CliError> {
    let Some(state) = Resume::find(&source.path, &source.about, api.base()) else { return Ok(None) };
    match durable_offset(api, &state.upload_id).await {
        Ok(offset) => Ok(Some((state, offset))),
        // It expired or was cancelled: begin anew.
        Err(CliError::Failed(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The title and the gate that are given now count, whatever the upload was begun with. They are set before another byte is
/// sent, and so before anybody may watch.
async fn change_title(api: &Api, content_id: &str, arguments: &Upload) -> Result<(), CliError> {
    let path = format!("/api/v1/contents/{content_id}");
    if let Some(gate) = &arguments.gate {
        api.json(Method::PUT, &format!("{path}/gate"), Some(&gate_argument(gate)?)).await?;
    }
    if let Some(title) = &arguments.title {
        api.json(Method::PATCH, &path, Some(&json!({"title": title}))).await?;
    }
    Ok(())
}

async fn begin(api: &Api, source: &Source, arguments: &Upload) -> Result<Resume, CliError> {
    let mut request = json!({
        "filename": source.name,
        "size_bytes": source.about.len().to_string(),
        "request_id": uuid::Uuid::new_v4().to_string(),
    });
    if let Some(title) = &arguments.title {
        request["title"] = title.as_str().into();
    }
    if let Some(gate) = &arguments.gate {
        request["gate"] = gate_argument(gate)?;
    }
    let answer = api.json(Method::POST, "/api/v1/uploads", Some(&request)).await?;
    let upload = &answer["upload"];
    let (Some(upload_id), Some(content_id)) = (upload["upload_id"].as_str(), upload["content_id"].as_str()) else {
        return Err(CliError::Failed("the server's answer names no upload".into()));
    };
    let state = Resume {
        server: api.base().to_owned(),
        upload_id: upload_id.to_owned(),
        content_id: content_id.to_owned(),
        size_bytes: source.about.len(),
        modified: modified(&source.about),
    };
    state.keep(&source.path);
    Ok(state)
}

/// Sends every byte from `offset` on.
async fn send(api: &Api, source: &Source, state: &Resume, mut offset: u64) -> Result<(), CliError> {
    let bar = progress::bytes(source.about.len(), offset);
    let mut failures = 0;
    while offset < source.about.len() {
        let sent = send_piece(api, &state.upload_id, offset, source.piece(offset).await?).await;
        let outcome = match sent {
            Ok(durable) => Ok(durable),
            Err(Trouble::Final(error)) => return Err(error),
            Err(Trouble::Passing(error)) => {
                failures += 1;
                if failures > MAX_FAILURES {
                    return Err(error);
                }
                bar.println(format!("{error}; trying again"));
                tokio::time::sleep(pause(failures)).await;
                durable_offset(api, &state.upload_id).await
            }
        };
        match outcome {
            Ok(durable) => {
                failures = if durable > offset { 0 } else { failures };
                offset = durable;
                bar.set_position(offset);
            }
            // Still down: the next round pauses longer.
            Err(CliError::Unavailable(_)) => {}
            Err(error) => return Err(error),
        }
    }
    bar.finish_and_clear();
    Ok(())
}

/// Whether trying again can help.
enum Trouble {
    Passing(CliError),
    Final(CliError),
}

async fn send_piece(api: &Api, upload_id: &str, offset: u64, piece: Vec<u8>) -> Result<u64, Trouble> {
    let end = offset + piece.len() as u64;
    let request = api
        .request(Method::PATCH, &format!("/api/v1/uploads/{upload_id}"))
        .header(UPLOAD_OFFSET, offset)
        .header(CONTENT_TYPE, "application/offset+octet-stream")
        .header(CONTENT_LENGTH, piece.len())
        .body(piece);
    let answer = request.send().await.map_err(|error| Trouble::Passing(error.into()))?;
    let status = answer.status();
    let told = answer.headers().get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()?.parse().ok());
    match accepted(answer).await {
        Ok(_) => Ok(told.unwrap_or(end)),
        // 409: another offset is durable than we thought; asking for it mends that.
        Err(error) if status == StatusCode::CONFLICT || matches!(error, CliError::Unavailable(_)) => Err(Trouble::Passing(error)),
        Err(error) => Err(Trouble::Final(error)),
    }
}

async fn durable_offset(api: &Api, upload_id: &str) -> Result<u64, CliError> {
    let answer = api.request(Method::HEAD, &format!("/api/v1/uploads/{upload_id}")).send().await?;
    let answer = accepted(answer).await?;
    let offset = answer.headers().get(UPLOAD_OFFSET).and_then(|value| value.to_str().ok()?.parse().ok());
    offset.ok_or_else(|| CliError::Failed("the server did not say how far the upload is".into()))
}

/// Half a second, doubled with each failure.
fn pause(failures: u32) -> Duration {
    (Duration::from_millis(250) * 2_u32.saturating_pow(failures.min(16))).min(MAX_PAUSE)
}

/// Closes the upload and checks that the server has the very bytes of the file.
async fn complete(api: &Api, source: &Source, state: &Resume) -> Result<Value, CliError> {
    let path = format!("/api/v1/uploads/{}/complete", state.upload_id);
    let mut failures = 0;
    let mut answer = loop {
        match api.json(Method::POST, &path, Some(&json!({}))).await {
            Ok(answer) => break answer,
            Err(CliError::Unavailable(_)) if failures < MAX_FAILURES => {
                failures += 1;
                tokio::time::sleep(pause(failures)).await;
            }
            Err(error) => return Err(error),
        }
    };
    let upload = answer["upload"].take();
    let theirs = upload["sha256"].as_str().unwrap_or_default();
    let ours = sha256_of(&source.path).await?;
    if theirs != ours {
        return Err(CliError::Failed(format!("the file changed while it was sent: sent {theirs}, on disk {ours}")));
    }
    Ok(upload)
}

async fn sha256_of(path: &Path) -> Result<String, CliError> {
    let path = path.to_path_buf();
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hasher = Sha256::new();
        io::copy(&mut std::fs::File::open(&path)?, &mut hasher)?;
        Ok::<_, io::Error>(hex::encode(hasher.finalize()))
    });
    let hashed = hashed.await.map_err(io::Error::other).and_then(|hash| hash);
    hashed.map_err(|error| CliError::Failed(format!("read the file again: {error}")))
}

/// Stays until the title is ready, showing how far it is.
async fn wait_until_ready(api: &Api, content_id: &str) -> Result<(), CliError> {
    let bar = progress::parts("Processing");
    let mut failures = 0;
    loop {
        match api.json(Method::GET, &format!("/api/v1/contents/{content_id}"), None).await {
            Ok(content) if content["status"] == "ready" => return finished(&bar),
            Ok(content) if content["status"] == "errored" => return Err(refused_file(&content["error"])),
            Ok(content) => {
                failures = 0;
                bar.set_position(thousandths(&content["progress"]));
            }
            Err(CliError::Unavailable(_)) if failures < MAX_FAILURES => failures += 1,
            Err(error) => return Err(error),
        }
        tokio::time::sleep(POLL.max(pause(failures))).await;
    }
}

fn finished(bar: &ProgressBar) -> Result<(), CliError> {
    bar.finish_and_clear();
    Ok(())
}

fn refused_file(error: &Value) -> CliError {
    let detail = error["detail"].as_str().unwrap_or("the file can't become a video");
    CliError::Failed(format!("{detail} [{}]", error["reason"].as_str().unwrap_or("unknown")))
}

fn thousandths(progress: &Value) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
    let parts = (progress.as_f64().unwrap_or_default().clamp(0.0, 1.0) * 1000.0) as u64;
    parts
}
