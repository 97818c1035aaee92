//! SHA-256 of a file that comes in pieces.

use futures::TryStreamExt as _;
use sha2::{Digest as _, Sha256};
use streamgate_store::{BlobKey, BlobStore};

use crate::Error;

/// The hash of the first bytes of a file.
#[derive(Debug, Clone, Default)]
pub(super) struct Hashing {
    hasher: Sha256,
    length: u64,
}

impl Hashing {
    /// Takes the next bytes.
    pub(super) fn update(&mut self, chunk: &[u8]) {
        self.hasher.update(chunk);
        self.length += chunk.len() as u64;
    }

    /// Begins anew when bytes were hashed that did not become durable: what comes in their place may be others.
    pub(super) fn forget_beyond(&mut self, durable: u64) {
        if self.length > durable {
            *self = Self::default();
        }
    }

    /// Brings the hash to the first `length` bytes of what is stored: after a restart everything is
    /// read once, otherwise nothing is.
    pub(super) async fn catch_up(&mut self, blobs: &dyn BlobStore, key: &BlobKey, length: u64) -> Result<(), Error> {
        self.forget_beyond(length);
        if self.length == length {
            return Ok(());
        }
        let missing = self.length..length;
        let mut body = match blobs.read_open(key, missing.clone()).await {
            Err(streamgate_store::Error::NotFound(_)) => blobs.read(key, Some(missing)).await?,
            other => other?,
        };
        while let Some(chunk) = body.try_next().await.map_err(streamgate_store::Error::reading)? {
            self.update(&chunk);
            // A long file must not keep the thread from other calls.
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// The hash so far as lower-case hex.
    pub(super) fn hex(&self) -> String {
        hex::encode(self.hasher.clone().finalize())
    }
}
