//! Making, reading and changing titles.

use sha2::{Digest as _, Sha256};
use streamgate_core::{
    Caller,
    ids::{ContentId, PlaybackId},
    time::now_ms,
};
use streamgate_proto::streamgate::{
    events::v1::{MetadataCreated, MetadataUpdated, event::Payload},
    metadata::v1 as pb,
};
use streamgate_store::Transaction;

use super::{
    Content, Engine, StoredGate,
    filter::Sql,
    requests::Once,
    rows::{self, ContentRow, encode_attributes, encode_tags},
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
        self.index(&mut tx, &content).await?;
        let created = MetadataCreated { content_id: id.to_string(), owner, title: content.title.clone() };
        self.outbox.add(&mut tx, id.as_str(), Payload::MetadataCreated(created)).await?;
        tx.commit().await?;
        self.metrics.created.inc();
        tracing::info!(content_id = %id, "title made");
        Ok(content)
    }

    /// One live title of the caller.
    ///
    /// # Errors
    /// When there is none, or it belongs to somebody else.
    pub async fn get(&self, caller: &Caller, id: &ContentId) -> Result<Content, Error> {
        let content = rows::find(&mut *self.reader().await?, id).await?;
        if content.delete_ms.is_some() || !caller.may_act_for(&content.owner) {
            return Err(Error::UnknownContent(id.to_string()));
        }
        Ok(content)
    }

    /// Changes the fields that are given. Repeating the request gives the first answer.
    ///
    /// # Errors
    /// When the title is not the caller's, or is not in the expected state.
    pub async fn update(&self, caller: &Caller, command: UpdateContent) -> Result<pb::Content, Error> {
        let once = Once::of(caller, "UpdateContent", command.request_id.as_deref(), &command.asked);
        let mut tx = self.db.begin().await?;
        // Whose title it is comes first: a repeated request says nothing to who has lost it.
        let before = self.find_for(&mut tx, caller, &command.content_id).await?;
        if let Some(once) = &once
            && let Some(first) = once.answered(&mut tx).await?
        {
            return Ok(first);
        }
        if let Some(expected) = command.expected_revision
            && expected != before.revision
        {
            return Err(Error::RevisionConflict { expected, actual: before.revision });
        }
        before.expect_etag(command.etag.as_deref())?;
        let changed = changed_fields(&before, &command);
        let after = if changed.is_empty() { before } else { self.write_update(&mut tx, before, command, &changed).await? };
        let content_id = after.content_id.clone();
        let answer = pb::Content::try_from(after)?;
        if let Some(once) = &once {
            once.keep(&mut tx, &answer).await?;
        }
        tx.commit().await?;
        if !changed.is_empty() {
            self.changes.tell(&content_id).await;
        }
        Ok(answer)
    }

    async fn write_update(
        &self,
        tx: &mut Transaction,
        before: Content,
        command: UpdateContent,
        changed: &[&str],
    ) -> Result<Content, Error> {
        sqlx::query(
            "UPDATE contents SET title = $2, description = $3, tags = $4, attributes = $5, update_ms = $6, revision = revision + 1 \
             WHERE content_id = $1",
        )
        .bind(command.content_id.as_str())
        .bind(command.title.unwrap_or_else(|| before.title.clone()))
        .bind(command.description.unwrap_or_else(|| before.description.clone()))
        .bind(encode_tags(command.tags.as_ref().unwrap_or(&before.tags)))
        .bind(encode_attributes(command.attributes.as_ref().unwrap_or(&before.attributes)))
        .bind(now_ms())
        .execute(&mut **tx)
        .await?;
        let after = rows::find(tx, &command.content_id).await?;
        self.reindex(tx, &before, &after).await?;
        self.tell_updated(tx, &after, changed).await?;
        // The sort key was written with the index.
        rows::find(tx, &command.content_id).await
    }

    /// Tells the other services that somebody changed a title.
    pub(super) async fn tell_updated(&self, tx: &mut Transaction, content: &Content, changed: &[&str]) -> Result<(), Error> {
        let updated = MetadataUpdated {
            content_id: content.content_id.clone(),
            owner: content.owner.clone(),
            changed_fields: changed.iter().map(|field| (*field).to_owned()).collect(),
            revision: content.revision,
        };
        self.outbox.add(tx, &content.content_id, Payload::MetadataUpdated(updated)).await?;
        Ok(())
    }
}

/// The fields that the command would change.
fn changed_fields(before: &Content, command: &UpdateContent) -> Vec<&'static str> {
    let differs = [
        ("title", command.title.as_ref().is_some_and(|title| *title != before.title)),
        ("description", command.description.as_ref().is_some_and(|words| *words != before.description)),
        ("tags", command.tags.as_ref().is_some_and(|tags| *tags != before.tags)),
        ("attributes", command.attributes.as_ref().is_some_and(|attributes| *attributes != before.attributes)),
    ];
    differs.into_iter().filter_map(|(field, differs)| differs.then_some(field)).collect()
}

async fn insert(tx: &mut Transaction, owner: &str, request_hash: &str, command: CreateContent) -> Result<ContentId, Error> {
    let id = ContentId::new();
    let now = now_ms();
    let gate = command.gate.map(StoredGate::of);
    sqlx::query(
        "INSERT INTO contents (content_id, owner, request_id, request_hash, title, description, tags, attributes, status, gate, \
         gate_hash, create_ms, update_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12)",
    )
    .bind(id.as_str())
    .bind(owner)
    .bind(command.request_id)
    .bind(request_hash)
    .bind(command.title)
    .bind(command.description)
    .bind(encode_tags(&command.tags))
    .bind(encode_attributes(&command.attributes))
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
    let mut sql = Sql::new(rows::SELECT);
    sql.with("FROM contents c WHERE c.owner = ", owner).with(" AND c.request_id = ", request_id);
    let row: Option<ContentRow> = sql.rows().fetch_optional(&mut **tx).await?;
    row.map(Content::try_from).transpose()
}

/// The answer to a request that came before.
fn repeat(first: Content, request_hash: &str) -> Result<Content, Error> {
    if first.request_hash != request_hash {
        return Err(Error::RequestIdReused);
    }
    if first.delete_ms.is_some() {
        return Err(Error::UnknownContent(first.content_id));
    }
    Ok(first)
}

/// What a request asks for, as one hash. Each part is preceded by its length, so that parts can't run together.
fn hash_of(command: &CreateContent) -> String {
    let mut hash = Sha256::new();
    let tags = encode_tags(&command.tags);
    let gate = command.gate.as_ref().map(|gate| gate.hash()).unwrap_or_default();
    let mut parts = vec![command.title.as_str(), &command.description, &tags, command.status.as_str(), &gate];
    let attributes = encode_attributes(&command.attributes);
    // Requests without attributes hash as they did before there were any.
    if !command.attributes.is_empty() {
        parts.push(&attributes);
    }
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    format!("{:x}", hash.finalize())
}
