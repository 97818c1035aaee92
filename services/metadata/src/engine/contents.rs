//! Making, reading, changing and deleting titles.

use sha2::{Digest as _, Sha256};
use streamgate_core::{
    Caller,
    ids::{ContentId, PlaybackId},
    time::now_ms,
};
use streamgate_proto::streamgate::events::v1::{MetadataDeleted, event::Payload};
use streamgate_store::Transaction;

use super::{
    Content, Engine, StoredGate,
    rows::{self, ContentRow, select_contents},
};
use crate::{
    Error,
    command::{CreateContent, UpdateContent},
};

impl Engine {
    /// Makes a title with one public id. Repeating the request gives the first title.
    ///
    /// # Errors
    /// Without an account to own it, or when the request id was used for something else.
    pub async fn create(&self, caller: &Caller, command: CreateContent) -> Result<Content, Error> {
        let owner = caller.account().ok_or(Error::NoOwner)?.id.to_string();
        let request_hash = hash_of(&command);
        let mut tx = self.db.begin().await?;
        if let Some(request_id) = &command.request_id
            && let Some(first) = find_by_request(&mut tx, &owner, request_id).await?
        {
            return repeat(first, &request_hash);
        }
        let id = insert(&mut tx, &owner, &request_hash, command).await?;
        let content = rows::find(&mut tx, &id).await?;
        tx.commit().await?;
        self.metrics.created.inc();
        tracing::info!(content_id = %id, "title made");
        Ok(content)
    }

    /// One title of the caller.
    ///
    /// # Errors
    /// When there is none, or it belongs to somebody else.
    pub async fn get(&self, caller: &Caller, id: &ContentId) -> Result<Content, Error> {
        let content = rows::find(&mut *self.reader().await?, id).await?;
        if content.deleted || !caller.may_act_for(&content.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        Ok(content)
    }

    /// Changes the fields that are given.
    ///
    /// # Errors
    /// When the title is not the caller's, or is not at the expected revision.
    pub async fn update(&self, caller: &Caller, command: UpdateContent) -> Result<Content, Error> {
        let mut tx = self.db.begin().await?;
        let before = self.find_for(&mut tx, caller, &command.content_id).await?;
        if let Some(expected) = command.expected_revision
            && expected != before.revision
        {
            return Err(Error::RevisionConflict { expected, actual: before.revision });
        }
        let title = command.title.unwrap_or_else(|| before.title.clone());
        let description = command.description.unwrap_or_else(|| before.description.clone());
        let tags = command.tags.unwrap_or_else(|| before.tags.clone());
        if (&title, &description, &tags) == (&before.title, &before.description, &before.tags) {
            return Ok(before);
        }
        sqlx::query(
            "UPDATE contents SET title = $2, description = $3, tags = $4, update_ms = $5, revision = revision + 1 WHERE content_id = $1",
        )
        .bind(command.content_id.as_str())
        .bind(title)
        .bind(description)
        .bind(encode_tags(&tags))
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        let content = rows::find(&mut tx, &command.content_id).await?;
        tx.commit().await?;
        Ok(content)
    }

    /// Takes a title away: at once from lists, search and playback; its media follows. Repeating is success.
    ///
    /// # Errors
    /// When there never was one, or it belonged to somebody else.
    pub async fn delete(&self, caller: &Caller, id: &ContentId) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let content = rows::find(&mut tx, id).await?;
        if !caller.may_act_for(&content.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        if content.deleted {
            return Ok(());
        }
        sqlx::query("UPDATE contents SET delete_ms = $2, update_ms = $2, revision = revision + 1 WHERE content_id = $1")
            .bind(id.as_str())
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        self.outbox
            .add(
                &mut tx,
                id.as_str(),
                Payload::MetadataDeleted(MetadataDeleted { content_id: id.to_string(), ..Default::default() }),
            )
            .await?;
        tx.commit().await?;
        self.metrics.deleted.inc();
        tracing::info!(content_id = %id, "title deleted");
        Ok(())
    }
}

async fn insert(tx: &mut Transaction, owner: &str, request_hash: &str, command: CreateContent) -> Result<ContentId, Error> {
    let id = ContentId::new();
    let now = now_ms();
    let gate = command.gate.map(StoredGate::of);
    sqlx::query(
        "INSERT INTO contents (content_id, owner, request_id, request_hash, title, description, tags, status, gate, gate_hash, create_ms, update_ms) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11)",
    )
    .bind(id.as_str())
    .bind(owner)
    .bind(command.request_id)
    .bind(request_hash)
    .bind(command.title)
    .bind(command.description)
    .bind(encode_tags(&command.tags))
    .bind(command.status.as_str())
    .bind(gate.as_ref().map(|gate| gate.encoded.clone()))
    .bind(gate.map_or_else(String::new, |gate| gate.hash))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    sqlx::query("INSERT INTO playback_ids (playback_id, content_id, create_ms) VALUES ($1, $2, $3)")
        .bind(PlaybackId::new().as_str())
        .bind(id.as_str())
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(id)
}

async fn find_by_request(tx: &mut Transaction, owner: &str, request_id: &str) -> Result<Option<Content>, Error> {
    let row: Option<ContentRow> = sqlx::query_as(select_contents!("FROM contents c WHERE c.owner = $1 AND c.request_id = $2"))
        .bind(owner)
        .bind(request_id)
        .fetch_optional(&mut **tx)
        .await?;
    row.map(Content::try_from).transpose()
}

/// The answer to a request that came before.
fn repeat(first: Content, request_hash: &str) -> Result<Content, Error> {
    if first.request_hash != request_hash {
        return Err(Error::RequestIdReused);
    }
    if first.deleted {
        return Err(Error::UnknownContent(first.content_id));
    }
    Ok(first)
}

/// What a request asks for, as one hash. Each part is preceded by its length, so that parts can't run together.
fn hash_of(command: &CreateContent) -> String {
    let mut hash = Sha256::new();
    let tags = encode_tags(&command.tags);
    let gate = command.gate.as_ref().map(|gate| gate.hash()).unwrap_or_default();
    for part in [&command.title, &command.description, &tags, command.status.as_str(), &gate] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("{:x}", hash.finalize())
}

fn encode_tags(tags: &[String]) -> String {
    serde_json::Value::from(tags).to_string()
}
