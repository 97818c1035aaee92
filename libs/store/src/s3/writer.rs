//! Takes a body in, piece by piece.

use std::{io, time::Duration};

use bytes::Bytes;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::{
    S3Blobs,
    pieces::{Piece, Pieces},
};
use crate::{blob::ByteStream, error::Result, key::BlobKey};

/// Bytes of a whole piece; also what a call holds in memory. A file of 100 GB has 12,800 pieces.
const PIECE_BYTES: usize = 8 * 1024 * 1024;
/// A last piece that is smaller is written again together with the next bytes, so that a sender of
/// small steps does not make a piece of each.
const SMALL_BYTES: u64 = 5 * 1024 * 1024;
/// What has come is stored when the sender pauses for this long: its next question for the length
/// finds it.
const PAUSE: Duration = Duration::from_secs(1);

/// How a body ended.
pub(super) enum Ended {
    Whole,
    BrokeOff(io::Error),
}

/// Bytes on their way into the pieces of one blob.
pub(super) struct Writer<'a> {
    store: &'a S3Blobs,
    key: &'a BlobKey,
    /// What is stored, but for the small piece that `pending` begins with.
    whole: Pieces,
    /// The stored piece whose bytes `pending` begins with.
    small: Option<Piece>,
    pending: Vec<Bytes>,
    pending_bytes: usize,
    fresh_bytes: usize,
    /// Number of the newest list; 0 before the first.
    generation: u64,
}

impl<'a> Writer<'a> {
    /// Goes on after `pieces`, which are those of `generation`.
    pub(super) async fn after(store: &'a S3Blobs, key: &'a BlobKey, mut pieces: Pieces, generation: u64) -> Result<Self> {
        let small = pieces.list.pop_if(|last| last.size_bytes < SMALL_BYTES);
        let mut writer =
            Self { store, key, whole: pieces, small, pending: Vec::new(), pending_bytes: 0, fresh_bytes: 0, generation };
        if let Some(piece) = writer.small.clone() {
            let body = store.read_piece(key, &piece).await?;
            let body = crate::collect(body, PIECE_BYTES).await?;
            writer.pending_bytes = body.len();
            writer.pending.push(body);
        }
        Ok(writer)
    }

    /// Bytes that are stored and listed.
    pub(super) fn durable(&self) -> u64 {
        self.whole.length() + self.small.as_ref().map_or(0, |piece| piece.size_bytes)
    }

    /// Takes the whole body. What came before it broke off stays.
    pub(super) async fn take(&mut self, mut body: ByteStream) -> Result<Ended> {
        loop {
            match timeout(PAUSE, body.next()).await {
                Ok(Some(Ok(chunk))) => self.push(chunk).await?,
                Ok(None) => {
                    self.flush().await?;
                    return Ok(Ended::Whole);
                }
                Ok(Some(Err(broken))) => {
                    self.flush().await?;
                    return Ok(Ended::BrokeOff(broken));
                }
                Err(_paused) => self.flush().await?,
            }
        }
    }

    async fn push(&mut self, mut chunk: Bytes) -> Result<()> {
        while !chunk.is_empty() {
            let part = chunk.split_to(chunk.len().min(PIECE_BYTES - self.pending_bytes));
            self.pending_bytes += part.len();
            self.fresh_bytes += part.len();
            self.pending.push(part);
            if self.pending_bytes == PIECE_BYTES {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// Stores what is pending as a piece, and lists it.
    async fn flush(&mut self) -> Result<()> {
        if self.fresh_bytes == 0 && self.generation > 0 {
            return Ok(());
        }
        let mut next = self.whole.clone();
        if self.pending_bytes > 0 {
            let piece = Piece::new(self.pending_bytes);
            self.store.write_piece(self.key, &piece, self.pending.clone()).await?;
            next.list.push(piece);
        }
        self.store.write_list(self.key, self.generation + 1, &next).await?;
        self.generation += 1;
        if let Some(replaced) = self.small.take() {
            self.store.drop_piece(self.key, &replaced).await;
        }
        self.fresh_bytes = 0;
        self.small = next.list.pop_if(|last| last.size_bytes < SMALL_BYTES);
        self.whole = next;
        if self.small.is_none() {
            self.pending.clear();
            self.pending_bytes = 0;
        }
        Ok(())
    }
}
