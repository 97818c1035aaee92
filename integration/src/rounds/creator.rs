//! A title's life, from its first byte to its last segment at a viewer, by a client that is patient.

use anyhow::{Context as _, Result, bail, ensure};
use reqwest::{Method, header::CONTENT_TYPE};
use serde_json::{Value, json};
use streamgate_testkit::eventually;
use tokio::sync::watch;

use super::{patient::Patient, plan::Phase};
use crate::{
    rest::{Reply, Rest},
    stage::TRANSCODE_BOUND,
    walk::{Title, whole_title},
};

/// Bytes of one piece: a clip takes some dozen of them.
const PIECE_BYTES: usize = 16 * 1024;

/// A title that has lived through its round.
#[derive(Debug)]
pub(super) struct Made {
    pub(super) upload_id: String,
    pub(super) content_id: String,
    pub(super) playback_id: String,
    pub(super) title: Title,
}

/// Who makes the title, and who plays it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Creator<'a> {
    pub(super) patient: &'a Patient,
    pub(super) rest: &'a Rest,
    pub(super) viewer: &'a Rest,
    pub(super) gate: &'a Value,
}

impl Creator<'_> {
    /// Sends, waits, publishes and plays; tells each begin.
    pub(super) async fn live(&self, clip: &[u8], name: &str, begins: watch::Sender<Option<Phase>>) -> Result<Made> {
        let begin = |phase| begins.send_replace(Some(phase));
        begin(Phase::Upload);
        let upload_id = self.send(clip, name).await?;
        begin(Phase::Transcode);
        let content_id = self.complete(&upload_id).await?;
        let content = self.until_ready(&content_id).await?;
        begin(Phase::Publish);
        let playback_id = self.publish(&content_id, name).await?;
        ensure!(content["playback_ids"].as_array().is_some_and(|ids| ids.len() == 1), "published more than once: {content}");
        begin(Phase::Play);
        let title = self.play(&playback_id).await?;
        Ok(Made { upload_id, content_id, playback_id, title })
    }

    /// Sends the clip piece by piece. Every byte that was acknowledged must stay.
    async fn send(&self, clip: &[u8], name: &str) -> Result<String> {
        let size = clip.len().to_string();
        let request = json!({"filename": "clip.mp4", "title": name, "size_bytes": size, "request_id": name});
        let begun = self.patient.persist("the upload is begun", || self.rest.post("/api/v1/uploads", &request)).await?.json()?;
        let upload_id = begun["upload"]["upload_id"].as_str().context("the upload's id")?.to_owned();
        let path = format!("/api/v1/uploads/{upload_id}");
        let mut acknowledged = 0;
        while acknowledged < clip.len() {
            let end = clip.len().min(acknowledged + PIECE_BYTES);
            let piece = clip[acknowledged..end].to_vec();
            match self.patient.judged(self.patch(&path, acknowledged, piece).await)? {
                Some(_) => acknowledged = end,
                None => acknowledged = self.kept(&path, acknowledged).await?,
            }
        }
        Ok(upload_id)
    }

    async fn patch(&self, path: &str, offset: usize, piece: Vec<u8>) -> Result<Reply> {
        let request = self.rest.request(Method::PATCH, path)?.header("upload-offset", offset);
        self.rest.send(request.header(CONTENT_TYPE, "application/offset+octet-stream").body(piece)).await
    }

    /// How many bytes are kept; never less than were acknowledged.
    async fn kept(&self, path: &str, acknowledged: usize) -> Result<usize> {
        let ask = || async { self.rest.send(self.rest.request(Method::HEAD, path)?).await };
        let answer = self.patient.persist("the upload says how far it is", ask).await?;
        let kept = answer.header("upload-offset").parse().context("an offset")?;
        ensure!(kept >= acknowledged, "{acknowledged} bytes were acknowledged, {kept} are kept");
        Ok(kept)
    }

    async fn complete(&self, upload_id: &str) -> Result<String> {
        let (path, empty) = (format!("/api/v1/uploads/{upload_id}/complete"), json!({}));
        let done = self.patient.persist("the upload is complete", || self.rest.post(&path, &empty)).await?.json()?;
        Ok(done["upload"]["content_id"].as_str().context("the title's id")?.to_owned())
    }

    async fn until_ready(&self, content_id: &str) -> Result<Value> {
        let path = format!("/api/v1/contents/{content_id}");
        eventually("the title is ready", TRANSCODE_BOUND, || async {
            let Some(reply) = self.patient.judged(self.rest.get(&path).await)? else { return Ok(None) };
            let content = reply.json()?;
            match content["status"].as_str() {
                Some("ready") => Ok(Some(content)),
                Some("errored") => bail!("the title errored: {}", content["error"]),
                _ => Ok(None),
            }
        })
        .await
    }

    /// Names, gates and shows the title; gives its public id.
    async fn publish(&self, content_id: &str, name: &str) -> Result<String> {
        let (path, tags) = (format!("/api/v1/contents/{content_id}"), json!({"title": name, "tags": ["round"]}));
        self.patient.persist("the title is named", || self.rest.call(Method::PATCH, &path, &tags)).await?;
        let gate_path = format!("{path}/gate");
        self.patient.persist("the title is gated", || self.rest.call(Method::PUT, &gate_path, self.gate)).await?;
        let content = self.patient.persist("the title is shown", || self.rest.get(&path)).await?.json()?;
        Ok(content["playback_ids"][0].as_str().context("a playback id")?.to_owned())
    }

    async fn play(&self, playback_id: &str) -> Result<Title> {
        self.patient
            .persist_all("the title plays to its end", || async {
                let session = self.viewer.session(playback_id).await?;
                whole_title(&self.viewer.anonymous(), &session).await
            })
            .await
    }
}
