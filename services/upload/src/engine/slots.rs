//! Who works on which upload in this process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::{Error, engine::hashing::Hashing};

/// How long a call that ends an upload waits for the writer it has told to stop.
const STOP_WAIT: Duration = Duration::from_secs(10);

/// The slots of the uploads that were worked on since the start. One is small, and goes when its
/// upload ends.
#[derive(Debug, Default)]
pub(super) struct Slots(Mutex<HashMap<String, Arc<Slot>>>);

/// What this process knows of one upload.
#[derive(Default)]
struct Slot {
    hashing: Arc<tokio::sync::Mutex<Hashing>>,
    stop: Mutex<CancellationToken>,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Slot(..)")
    }
}

/// The right to work on an upload. One call at a time has it.
pub(super) struct Hold {
    /// How far the bytes are hashed.
    pub(super) hashing: OwnedMutexGuard<Hashing>,
    /// Cancelled when the upload is being ended.
    pub(super) stop: CancellationToken,
}

impl Slots {
    /// Takes the slot, or fails with `Busy`.
    pub(super) fn take(&self, id: &str) -> Result<Hold, Error> {
        let slot = self.slot(id);
        let hashing = Arc::clone(&slot.hashing).try_lock_owned().map_err(|_| Error::Busy)?;
        Ok(slot.hold(hashing))
    }

    /// Tells a writer to stop, and takes the slot when it has.
    pub(super) async fn take_over(&self, id: &str) -> Result<Hold, Error> {
        let slot = self.slot(id);
        lock(&slot.stop).cancel();
        let waiting = Arc::clone(&slot.hashing).lock_owned();
        let hashing = tokio::time::timeout(STOP_WAIT, waiting).await.map_err(|_| Error::Busy)?;
        Ok(slot.hold(hashing))
    }

    /// Forgets an upload that has ended.
    pub(super) fn forget(&self, id: &str) {
        lock(&self.0).remove(id);
    }

    fn slot(&self, id: &str) -> Arc<Slot> {
        Arc::clone(lock(&self.0).entry(id.to_owned()).or_default())
    }
}

impl Slot {
    fn hold(&self, hashing: OwnedMutexGuard<Hashing>) -> Hold {
        let stop = CancellationToken::new();
        *lock(&self.stop) = stop.clone();
        Hold { hashing, stop }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds these locks can leave the value half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
