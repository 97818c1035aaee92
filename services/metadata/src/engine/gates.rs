//! Gates of titles, and the public ids under which they are played.

use streamgate_core::{
    Caller,
    gate::Gate,
    ids::{ContentId, PlaybackId},
    time::now_ms,
};
use streamgate_proto::streamgate::{
    events::v1::{GateChanged, event::Payload},
    metadata::v1 as pb,
};
use streamgate_store::Transaction;

use super::{Engine, StoredGate, requests::Once, rows};
use crate::Error;

impl Engine {
    /// Sets the gate of a title, or takes it away. The same gate again changes nothing.
    ///
    /// # Errors
    /// When the title is not the caller's, or has another etag.
    pub async fn set_gate(
        &self,
        caller: &Caller,
        id: &ContentId,
        gate: Option<Gate>,
        etag: Option<&str>,
    ) -> Result<Option<StoredGate>, Error> {
        let gate = gate.map(StoredGate::of);
        let mut tx = self.db.begin().await?;
        let content = self.find_for(&mut tx, caller, id).await?;
        content.expect_etag(etag)?;
        if content.gate == gate {
            return Ok(gate);
        }
        let hash = gate.as_ref().map_or_else(String::new, |gate| gate.hash.clone());
        sqlx::query(
            "UPDATE contents SET gate = $2, gate_hash = $3, update_ms = $4, revision = revision + 1 WHERE content_id = $1",
        )
        .bind(id.as_str())
        .bind(gate.as_ref().map(|gate| gate.encoded.clone()))
        .bind(&hash)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        let content = rows::find(&mut tx, id).await?;
        self.index(&mut tx, &content).await?;
        self.tell_gate_changed(&mut tx, id, hash).await?;
        self.tell_updated(&mut tx, &content, &["gate"]).await?;
        tx.commit().await?;
        self.changes.tell(id.as_str()).await;
        self.metrics.gate_changes.inc();
        tracing::info!(content_id = %id, has_gate = gate.is_some(), "gate changed");
        Ok(gate)
    }

    /// Adds a public id, with a gate of its own or the title's. Repeating the request gives the first answer.
    ///
    /// # Errors
    /// When the title is not the caller's, or has too many.
    pub async fn create_playback_id(
        &self,
        caller: &Caller,
        id: &ContentId,
        gate: Option<Gate>,
        request_id: Option<&str>,
    ) -> Result<String, Error> {
        let asked = format!("{id} {}", gate.as_ref().map(Gate::hash).unwrap_or_default());
        let once = Once::of(caller, "CreatePlaybackId", request_id, asked.as_bytes());
        let gate = gate.map(StoredGate::of);
        let playback_id = PlaybackId::new();
        let mut tx = self.db.begin().await?;
        let content = self.find_for(&mut tx, caller, id).await?;
        if let Some(once) = &once
            && let Some(first) = once.answered::<pb::CreatePlaybackIdResponse>(&mut tx).await?
        {
            return Ok(first.playback_id);
        }
        if content.playback_ids.len() >= self.config.max_playback_ids as usize {
            return Err(Error::TooManyPlaybackIds(self.config.max_playback_ids));
        }
        sqlx::query("INSERT INTO playback_ids (playback_id, content_id, gate, gate_hash, create_ms) VALUES ($1, $2, $3, $4, $5)")
            .bind(playback_id.as_str())
            .bind(id.as_str())
            .bind(gate.as_ref().map(|gate| gate.encoded.clone()))
            .bind(gate.map_or_else(String::new, |gate| gate.hash))
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        touch(&mut tx, id).await?;
        let content = rows::find(&mut tx, id).await?;
        self.tell_updated(&mut tx, &content, &["playback_ids"]).await?;
        let answer = pb::CreatePlaybackIdResponse { playback_id: playback_id.into() };
        if let Some(once) = &once {
            once.keep(&mut tx, &answer).await?;
        }
        tx.commit().await?;
        Ok(answer.playback_id)
    }

    /// Takes a public id away; sessions under it are checked again and end. Repeating is success.
    ///
    /// # Errors
    /// When the title is not the caller's, or never had that id.
    pub async fn delete_playback_id(&self, caller: &Caller, id: &ContentId, playback_id: &PlaybackId) -> Result<(), Error> {
        let mut tx = self.db.begin().await?;
        let content = self.find_for(&mut tx, caller, id).await?;
        let deleted: Option<i64> = sqlx::query_scalar(
            "SELECT CASE WHEN delete_ms IS NULL THEN 0 ELSE 1 END FROM playback_ids WHERE playback_id = $1 AND content_id = $2",
        )
        .bind(playback_id.as_str())
        .bind(id.as_str())
        .fetch_optional(&mut *tx)
        .await?;
        if deleted.ok_or_else(|| Error::UnknownPlaybackId(playback_id.to_string()))? != 0 {
            return Ok(());
        }
        sqlx::query("UPDATE playback_ids SET delete_ms = $2 WHERE playback_id = $1")
            .bind(playback_id.as_str())
            .bind(now_ms())
            .execute(&mut *tx)
            .await?;
        touch(&mut tx, id).await?;
        // The title's gate is the same, but its sessions must be looked at: some may have lost their way in.
        let hash = content.gate.map_or_else(String::new, |gate| gate.hash);
        self.tell_gate_changed(&mut tx, id, hash).await?;
        let content = rows::find(&mut tx, id).await?;
        self.tell_updated(&mut tx, &content, &["playback_ids"]).await?;
        tx.commit().await?;
        self.changes.tell(id.as_str()).await;
        Ok(())
    }

    async fn tell_gate_changed(&self, tx: &mut Transaction, id: &ContentId, gate_hash: String) -> Result<(), Error> {
        let payload = Payload::GateChanged(GateChanged { content_id: id.to_string(), gate_hash });
        self.outbox.add(tx, id.as_str(), payload).await?;
        Ok(())
    }
}

async fn touch(tx: &mut Transaction, id: &ContentId) -> Result<(), Error> {
    sqlx::query("UPDATE contents SET update_ms = $2, revision = revision + 1 WHERE content_id = $1")
        .bind(id.as_str())
        .bind(now_ms())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
