//! Takes a body in, piece by piece.

use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::timeout;

use super::{
    S3Blobs,
    pieces::{Piece, Pieces},
    read::Listed,
};
use crate::{
    blob::{ByteStream, Ended, Gathered},
    error::{Error, Result},
    key::BlobKey,
};

/// Bytes of a whole piece; also what a call holds in memory. A file of 100 GB has 12,800 pieces.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// A last piece that is smaller is written again together with the next bytes, so that a sender of
/// small steps does not make a piece of each.
const SMALL_BYTES: u64 = 5 * 1024 * 1024;
/// What has come is stored when the sender pauses for this long: its next question for the length
/// finds it.
const PAUSE: Duration = Duration::from_secs(1);
/// Pauses after which little is stored too: as long as there is less of it than of the small piece that would be
/// written again.
const PAUSES: u32 = 10;

/// Bytes on their way into the pieces of one blob.
pub(super) struct Writer<'a> {
    store: &'a S3Blobs,
    key: &'a BlobKey,
    /// What is stored, but for the small piece that `pending` begins with.
    whole: Pieces,
    /// The stored piece whose bytes `pending` begins with.
    small: Option<Piece>,
    pending: Gathered,
    fresh_bytes: usize,
    /// Pauses since something was stored.
    pauses: u32,
    /// Number of the newest list; 0 before the first.
    generation: u64,
}

impl<'a> Writer<'a> {
    /// Goes on after `pieces`, which are those of `generation`.
    pub(super) async fn after(store: &'a S3Blobs, key: &'a BlobKey, mut pieces: Pieces, generation: u64) -> Result<Self> {
        let (listed, end) = (Listed::open(key.clone(), pieces.clone(), generation), pieces.length());
        let small = pieces.list.pop_if(|last| last.size_bytes < SMALL_BYTES);
        let mut pending = Gathered::default();
        if let Some(piece) = &small {
            let body = listed.read(&store.bucket, Some(end - piece.size_bytes..end))?;
            pending.push(&crate::collect(body, PIECE_BYTES).await?);
        }
        Ok(Self { store, key, whole: pieces, small, pending, fresh_bytes: 0, pauses: 0, generation })
    }

    /// Bytes that are stored and listed.
    pub(super) fn durable(&self) -> u64 {
        self.whole.length() + self.small.as_ref().map_or(0, |piece| piece.size_bytes)
    }

    /// Takes the whole body. What came before it broke off stays.
    pub(super) async fn take(&mut self, mut body: ByteStream) -> Result<Ended> {
        loop {
            match timeout(PAUSE, body.next()).await {
                Ok(Some(Ok(chunk))) => self.push(&chunk).await?,
                Ok(None) => {
                    self.flush().await?;
                    return Ok(Ended::Whole);
                }
                Ok(Some(Err(broken))) => {
                    self.flush().await?;
                    return Ok(Ended::BrokeOff(broken));
                }
                Err(_paused) => {
                    self.pauses += 1;
                    if self.fresh_bytes * 2 >= self.pending.length() || self.pauses >= PAUSES {
                        self.flush().await?;
                    }
                }
            }
        }
    }

    async fn push(&mut self, mut chunk: &[u8]) -> Result<()> {
        while !chunk.is_empty() {
            let (part, rest) = chunk.split_at(chunk.len().min(PIECE_BYTES - self.pending.length()));
            self.pending.push(part);
            self.fresh_bytes += part.len();
            if self.pending.length() == PIECE_BYTES {
                self.flush().await?;
            }
            chunk = rest;
        }
        Ok(())
    }

    /// Stores what is pending as a piece, and lists it.
    async fn flush(&mut self) -> Result<()> {
        self.pauses = 0;
        if self.fresh_bytes == 0 && self.generation > 0 {
            return Ok(());
        }
        let (store, key) = (self.store, self.key);
        let mut next = self.whole.clone();
        let fresh = (self.pending.length() > 0).then(|| Piece::new(self.pending.length()));
        if let Some(piece) = &fresh {
            store.bucket.write_piece(key, piece, self.pending.blocks()).await?;
            next.list.push(piece.clone());
        }
        let listed = store.write_list(key, self.generation + 1, &next).await;
        if let (Err(Error::Busy(_)), Some(piece)) = (&listed, &fresh) {
            store.drop_refused(key, piece).await;
        }
        listed?;
        self.generation += 1;
        if let Some(replaced) = self.small.take() {
            store.bucket.drop_piece(key, &replaced).await;
        }
        self.fresh_bytes = 0;
        self.small = next.list.pop_if(|last| last.size_bytes < SMALL_BYTES);
        self.whole = next;
        if self.small.is_none() {
            self.pending.take();
        }
        Ok(())
    }
}
