//! A change under way.

use std::ops::{Deref, DerefMut};

use sqlx::{Any, AnyConnection};
use tokio::sync::{OwnedMutexGuard, watch};

use super::{Database, DatabaseKind, postgres};
use crate::error::Result;

/// A change under way: use it as `&mut *tx` with sqlx. Dropped without a commit, it never was.
#[derive(Debug)]
pub struct Transaction {
    // Before the place in line: it must have ended when the next one comes.
    inner: sqlx::Transaction<'static, Any>,
    kind: DatabaseKind,
    /// Key of the lock that is still to be taken to be alone; absent when it is alone already.
    to_lock: Option<i32>,
    _place: Option<OwnedMutexGuard<()>>,
    events: watch::Sender<u64>,
    has_events: bool,
}

impl Transaction {
    pub(super) fn serial(inner: sqlx::Transaction<'static, Any>, db: &Database, place: Option<OwnedMutexGuard<()>>) -> Self {
        Self { inner, kind: db.kind, to_lock: None, _place: place, events: db.events.clone(), has_events: false }
    }

    pub(super) fn shared(inner: sqlx::Transaction<'static, Any>, db: &Database) -> Self {
        let to_lock = Some(db.line.key);
        Self { inner, kind: db.kind, to_lock, _place: None, events: db.events.clone(), has_events: false }
    }

    /// Which engine it runs on.
    #[must_use]
    pub const fn kind(&self) -> DatabaseKind {
        self.kind
    }

    /// From here on nobody else changes anything of this service, as in [`Database::begin`]. A
    /// change that holds rows already may be ended by the server because it waits for one that
    /// waits for it; so it is better called first.
    ///
    /// # Errors
    /// `Unavailable` when somebody else stays alone for too long.
    pub async fn be_alone(&mut self) -> Result<()> {
        if let Some(key) = self.to_lock {
            postgres::lock(&mut self.inner, key).await?;
            self.to_lock = None;
        }
        Ok(())
    }

    /// Makes the change durable, and wakes the relay when events were added.
    ///
    /// # Errors
    /// `Full`, `ReadOnly` or `Unavailable`, or what the engine says. Only when a server went away
    /// during the call it may have happened all the same.
    pub async fn commit(self) -> Result<()> {
        self.inner.commit().await?;
        if self.has_events {
            self.events.send_modify(|count| *count = count.wrapping_add(1));
        }
        Ok(())
    }

    /// Takes the change back.
    ///
    /// # Errors
    /// What the engine says; the change is taken back all the same.
    pub async fn rollback(self) -> Result<()> {
        Ok(self.inner.rollback().await?)
    }

    /// Notes that events were added.
    pub(crate) fn mark_events(&mut self) {
        self.has_events = true;
    }
}

impl Deref for Transaction {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.inner
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.inner
    }
}
