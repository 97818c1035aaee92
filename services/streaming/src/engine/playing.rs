//! Viewers who start and stop, and what is told of it.

use std::{sync::Arc, time::Duration};

use streamgate_core::time::{UnixMillis, now_ms};
use streamgate_proto::streamgate::events::v1::{AccessRevoked, StreamingStarted, StreamingStopped, event::Payload};
use streamgate_store::Transaction;

use super::{
    Engine,
    session::{Live, Session, State},
    session_rows::{self as rows, Ended},
    sessions::Sessions,
};
use crate::{Error, Result};

/// Viewers that are noted as gone in one round; the next round takes the rest.
const MOST_GONE: i64 = 500;

impl Engine {
    /// The session's viewer gets media: tells that it has started, unless that is known.
    pub(super) async fn note_playing(&self, live: &Arc<Live>) {
        if live.is_playing() {
            return;
        }
        // Playing goes on when this can't be written down.
        if let Err(error) = self.sessions.start(live).await {
            tracing::warn!(session_id = %live.opened().id, error = &error as &dyn std::error::Error, "a viewer's start could not be told");
        }
    }

    /// Tells of viewers who have gone: they asked for nothing for a while, or their session has expired.
    ///
    /// # Errors
    /// What the store says.
    pub async fn note_gone(&self) -> Result<usize> {
        let idle = Duration::from_secs(self.config.stopped_after_seconds.into());
        // The last use must be in the rows, where other processes look too.
        self.sessions.flush().await?;
        self.sessions.stop_gone(now_ms() - i64::try_from(idle.as_millis()).unwrap_or(i64::MAX)).await
    }

    /// Takes over what other processes did since the last look that succeeded.
    ///
    /// # Errors
    /// What the store says.
    pub async fn follow(&self) -> Result<()> {
        self.sessions.follow(|content_id| self.deps.titles.forget(content_id)).await
    }
}

impl Sessions {
    async fn start(&self, live: &Live) -> Result<()> {
        // Set first: requests that come meanwhile need not try too.
        live.set_playing(true);
        let mut tx = self.begin().await?;
        if rows::start(&mut tx, &live.opened().id, now_ms()).await.map_err(Error::store("note a viewer's start"))? {
            let Session { id, playback_id, content_id, account_id, owner, .. } = live.opened().clone();
            let viewer = account_id.unwrap_or_default();
            let started = StreamingStarted { session_id: id.clone(), playback_id, content_id, viewer, owner };
            self.add_event(&mut tx, &id, Payload::StreamingStarted(started)).await?;
        }
        tx.commit().await.map_err(Error::store("note a viewer's start"))
    }

    async fn stop_gone(&self, idle_since: UnixMillis) -> Result<usize> {
        let now = now_ms();
        let gone =
            rows::gone(&self.database, idle_since, now, MOST_GONE).await.map_err(Error::store("look for viewers who left"))?;
        for id in &gone {
            let mut tx = self.begin().await?;
            let stopped = rows::stop(&mut tx, id, idle_since, now).await.map_err(Error::store("note a viewer's end"))?;
            if let Some(stopped) = stopped {
                let reason = if stopped.session.expires_ms < now { "expired" } else { "idle" };
                self.tell_stopped(&mut tx, &stopped, reason).await?;
            }
            tx.commit().await.map_err(Error::store("note a viewer's end"))?;
            if let Some(live) = self.copy(id) {
                live.set_playing(false);
            }
        }
        Ok(gone.len())
    }

    /// What is told of a session that ended before its time.
    pub(super) async fn tell_end(&self, tx: &mut Transaction, ended: &Ended, state: State) -> Result<()> {
        let session = &ended.session;
        if ended.was_playing {
            self.tell_stopped(tx, ended, &session.standing.reason).await?;
        }
        if state != State::Revoked {
            return Ok(());
        }
        let revoked = AccessRevoked {
            session_id: session.id.clone(),
            playback_id: session.playback_id.clone(),
            content_id: session.content_id.clone(),
            viewer: session.account_id.clone().unwrap_or_default(),
            owner: session.owner.clone(),
            reason: session.standing.reason.clone(),
            gate_hash: session.standing.gate_hash.clone(),
        };
        self.add_event(tx, &session.id, Payload::AccessRevoked(revoked)).await
    }

    async fn tell_stopped(&self, tx: &mut Transaction, ended: &Ended, reason: &str) -> Result<()> {
        let session = &ended.session;
        let stopped = StreamingStopped {
            session_id: session.id.clone(),
            playback_id: session.playback_id.clone(),
            content_id: session.content_id.clone(),
            viewer: session.account_id.clone().unwrap_or_default(),
            owner: session.owner.clone(),
            reason: reason.to_owned(),
            watched_ms: u64::try_from(ended.watched_ms).unwrap_or(0),
            sent_bytes: u64::try_from(ended.sent_bytes).unwrap_or(0),
        };
        self.add_event(tx, &session.id, Payload::StreamingStopped(stopped)).await
    }
}
