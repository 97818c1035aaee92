//! Gates of titles, and the public ids under which they are played.

use streamgate_core::{
    Caller,
    gate::Gate,
    ids::{ContentId, PlaybackId},
    time::now_ms,
};
use streamgate_proto::streamgate::events::v1::{GateChanged, event::Payload};
use streamgate_store::Transaction;

use super::{Engine, StoredGate};
use crate::Error;

impl Engine {
    /// Sets the gate of a title, or takes it away. The same gate again changes nothing.
    ///
    /// # Errors
    /// When the title is not the caller's.
    pub async fn set_gate(&self, caller: &Caller, id: &ContentId, gate: Option<Gate>) -> Result<Option<StoredGate>, Error> {
        let gate = gate.map(StoredGate::of);
        let mut tx = self.db.begin().await?;
        let content = self.find_for(&mut tx, caller, id).await?;
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
        self.tell_gate_changed(&mut tx, id, hash).await?;
        tx.commit().await?;
        self.metrics.gate_changes.inc();
        tracing::info!(content_id = %id, has_gate = gate.is_some(), "gate changed");
        Ok(gate)
    }

    /// Adds a public id, with a gate of its own or the title's.
    ///
    /// # Errors
    /// When the title is not the caller's, or has too many.
    pub async fn create_playback_id(&self, caller: &Caller, id: &ContentId, gate: Option<Gate>) -> Result<PlaybackId, Error> {
        let gate = gate.map(StoredGate::of);
        let playback_id = PlaybackId::new();
        let mut tx = self.db.begin().await?;
        let content = self.find_for(&mut tx, caller, id).await?;
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
        tx.commit().await?;
        Ok(playback_id)
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
        self.tell_gate_changed(&mut tx, id, content.gate.map_or_else(String::new, |gate| gate.hash)).await?;
        tx.commit().await?;
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
