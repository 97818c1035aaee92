//! Room in an account's quota for an upload whose length nobody knows.

use std::sync::Arc;

use streamgate_core::ErrorKind;
use tokio::sync::Mutex;

use crate::{
    Error,
    engine::{Engine, broke::Broke, quota, rows},
};

/// Least and most that is held of a quota ahead of what has come. Between the two it is as much as has come, so that a small
/// file keeps little from others and a large one does not change the database for each message.
const HELD_AHEAD: (u64, u64) = (1024 * 1024, 64 * 1024 * 1024);

/// Holds room in an account's quota while the bytes of an upload come: several uploads at once must not each take what is left.
pub(super) struct Allowance {
    engine: Engine,
    id: String,
    held: u64,
    /// Taken while the database is being asked.
    asking: Arc<Mutex<()>>,
}

impl Allowance {
    /// Nothing is held yet.
    pub(super) fn new(engine: Engine, id: String) -> Self {
        Self { engine, id, held: 0, asking: Arc::default() }
    }

    /// Free once nothing more is held by what was asked: a stream may be dropped before it has its answer.
    pub(super) fn asking(&self) -> Arc<Mutex<()>> {
        Arc::clone(&self.asking)
    }

    /// Sees that the upload may have `length` bytes.
    pub(super) async fn reach(&mut self, length: u64) -> Result<(), Broke> {
        if length <= self.held {
            return Ok(());
        }
        let asking = Arc::clone(&self.asking).lock_owned().await;
        let (engine, id) = (self.engine.clone(), self.id.clone());
        let holding = async move {
            let held = hold(&engine, &id, length).await;
            drop(asking);
            held
        };
        // A task of its own: a store that writes to its disk does not poll the stream meanwhile, and a change that stood still
        // in it would hold up all others.
        let held = tokio::spawn(tracing::Instrument::in_current_span(holding)).await;
        self.held = match held.unwrap_or_else(|lost| Err(lost.into())) {
            Ok(held) => held,
            Err(Error::EndedMeanwhile) => return Err(Broke::Ended),
            // What has come is counted when the stream ends. Many a client can't go on after a break, so the database is asked
            // again a little later.
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::debug!(upload_id = self.id, error = &error as &dyn std::error::Error, "room is held later");
                length.saturating_add(HELD_AHEAD.0)
            }
            Err(error) => return Err(Broke::Refused(error.into())),
        };
        Ok(())
    }
}

async fn hold(engine: &Engine, id: &str, length: u64) -> Result<u64, Error> {
    let shared = &engine.shared;
    let wanted = length.saturating_add(length.clamp(HELD_AHEAD.0, HELD_AHEAD.1));
    let mut tx = shared.db.begin().await?;
    let row = rows::find_in(&mut tx, id).await?.ok_or_else(|| Error::UnknownUpload(id.to_owned()))?;
    // What has ended holds nothing any more.
    row.must_be_open().map_err(|_| Error::EndedMeanwhile)?;
    let held = quota::hold_ahead(&mut tx, &shared.config, (id, &row.owner, row.held()), (length, wanted)).await?;
    tx.commit().await?;
    Ok(held)
}
