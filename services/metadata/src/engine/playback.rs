//! What stands behind a public id.

use sqlx::FromRow;
use streamgate_core::ids::PlaybackId;

use super::{Engine, StoredGate, rows::stored_gate};
use crate::Error;

/// What anybody may know of a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaybackInfo {
    /// Its name.
    pub title: String,
    /// What its gate asks for, one plain sentence each.
    pub requirements: Vec<String>,
    /// Nobody needs to sign in.
    pub open: bool,
    /// Whether the first segments are stored.
    pub playable: bool,
}

/// What a service needs to decide on playback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedPlayback {
    /// The title.
    pub content_id: String,
    /// Account that owns it.
    pub owner: String,
    /// The gate of this public id, or else of the title.
    pub gate: Option<StoredGate>,
    /// Whether the first segments are stored.
    pub playable: bool,
    /// Where the title stands.
    pub status: String,
    /// Its name.
    pub title: String,
}

#[derive(Debug, FromRow)]
struct PlaybackRow {
    content_id: String,
    owner: String,
    gate: Option<Vec<u8>>,
    gate_hash: String,
    playable: i64,
    status: String,
    title: String,
}

impl Engine {
    /// What anybody may know of the title behind a public id.
    ///
    /// # Errors
    /// When there is no such id, or it or its title was deleted.
    pub async fn playback_info(&self, id: &PlaybackId) -> Result<PlaybackInfo, Error> {
        let found = self.resolve(id).await?;
        let gate = found.gate.as_ref().map(StoredGate::gate).transpose()?;
        Ok(PlaybackInfo {
            title: found.title,
            requirements: gate.as_ref().map(streamgate_core::gate::Gate::requirements).unwrap_or_default(),
            open: gate.is_some_and(|gate| gate.is_open()),
            playable: found.playable,
        })
    }

    /// The title and the gate behind a public id.
    ///
    /// # Errors
    /// When there is no such id, or it or its title was deleted.
    pub async fn resolve(&self, id: &PlaybackId) -> Result<ResolvedPlayback, Error> {
        let row: Option<PlaybackRow> = sqlx::query_as(
            "SELECT c.content_id, c.owner, coalesce(p.gate, c.gate) AS gate, \
                    CASE WHEN p.gate IS NULL THEN c.gate_hash ELSE p.gate_hash END AS gate_hash, c.playable, c.status, c.title \
             FROM playback_ids p JOIN contents c ON c.content_id = p.content_id \
             WHERE p.playback_id = $1 AND p.delete_ms IS NULL AND c.delete_ms IS NULL",
        )
        .bind(id.as_str())
        .fetch_optional(self.db.pool())
        .await?;
        let row = row.ok_or_else(|| Error::UnknownPlaybackId(id.to_string()))?;
        Ok(ResolvedPlayback {
            content_id: row.content_id,
            owner: row.owner,
            gate: stored_gate(row.gate, row.gate_hash),
            playable: row.playable != 0,
            status: row.status,
            title: row.title,
        })
    }
}
