//! Bytes of a body that wait to be written.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{FutureExt as _, StreamExt as _};

use super::ByteStream;

/// Memory is taken in blocks between these sizes, so that a body in messages of one byte costs no more than
/// any other.
const BLOCK_BYTES: std::ops::RangeInclusive<usize> = 16 * 1024..=256 * 1024;

/// How a body ended.
pub(crate) enum Ended {
    Whole,
    BrokeOff(io::Error),
}

/// Bytes in few blocks, however small the messages were that brought them.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    full: Vec<Bytes>,
    last: BytesMut,
    length: usize,
}

impl Gathered {
    pub(crate) fn push(&mut self, mut chunk: &[u8]) {
        self.length += chunk.len();
        while !chunk.is_empty() {
            if self.last.len() == self.last.capacity() {
                self.close_block();
                self.last = BytesMut::with_capacity(chunk.len().clamp(*BLOCK_BYTES.start(), *BLOCK_BYTES.end()));
            }
            let (fits, rest) = chunk.split_at(chunk.len().min(self.last.capacity() - self.last.len()));
            self.last.extend_from_slice(fits);
            chunk = rest;
        }
    }

    fn close_block(&mut self) {
        let block = self.last.split().freeze();
        if !block.is_empty() {
            self.full.push(block);
        }
    }

    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// All that was gathered, which stays.
    pub(crate) fn blocks(&mut self) -> Vec<Bytes> {
        self.close_block();
        self.full.clone()
    }

    /// All that was gathered, which begins anew.
    pub(crate) fn take(&mut self) -> Vec<Bytes> {
        self.close_block();
        self.length = 0;
        std::mem::take(&mut self.full)
    }
}

/// Waits for the next bytes of a body, and takes with them what is there already, up to `enough`. With the last
/// ones it tells how the body ended, and must not be called again.
pub(crate) async fn next_bytes(body: &mut ByteStream, enough: usize) -> (Gathered, Option<Ended>) {
    let mut gathered = Gathered::default();
    let mut next = Some(body.next().await);
    while let Some(item) = next {
        match item {
            Some(Ok(chunk)) => gathered.push(&chunk),
            Some(Err(broken)) => return (gathered, Some(Ended::BrokeOff(broken))),
            None => return (gathered, Some(Ended::Whole)),
        }
        next = if gathered.length() < enough { body.next().now_or_never() } else { None };
    }
    (gathered, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiny_messages_take_few_blocks_and_come_out_in_order() {
        let body: Vec<u8> = (0..200_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
        let mut gathered = Gathered::default();
        body.iter().for_each(|byte| gathered.push(&[*byte]));
        assert_eq!(gathered.length(), body.len());
        assert_eq!(gathered.blocks().concat(), body);
        gathered.push(&body);
        let blocks = gathered.take();
        assert!(blocks.len() <= 16, "{}", blocks.len());
        assert_eq!(blocks.concat(), [&body[..], &body[..]].concat());
        assert_eq!((gathered.length(), gathered.take().len()), (0, 0));
    }
}
