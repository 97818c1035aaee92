//! Blobs in memory, for tests and for services that run without a disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use crate::{
    blob::{BlobInfo, BlobStore, ByteStream},
    error::{Error, Result},
    key::BlobKey,
};

/// The engine in memory. What it holds is gone with it.
#[derive(Debug, Default)]
pub struct MemoryBlobs {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    sealed: BTreeMap<BlobKey, Bytes>,
    open: BTreeMap<BlobKey, BytesMut>,
    busy: BTreeSet<BlobKey>,
}

impl MemoryBlobs {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds the lock can leave the maps half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn must_be_idle(&self, key: &BlobKey) -> Result<()> {
        if self.busy.contains(key) { Err(Error::Busy(key.clone())) } else { Ok(()) }
    }
}

/// Marks a blob as being appended to, for as long as it lives.
struct Writing<'a> {
    store: &'a MemoryBlobs,
    key: &'a BlobKey,
}

impl<'a> Writing<'a> {
    fn begin(store: &'a MemoryBlobs, key: &'a BlobKey, offset: u64) -> Result<Self> {
        let mut state = store.state();
        if state.sealed.contains_key(key) {
            return Err(Error::AlreadyExists(key.clone()));
        }
        state.must_be_idle(key)?;
        let durable = state.open.get(key).map_or(0, |body| body.len() as u64);
        if offset != durable {
            return Err(Error::WrongOffset { durable });
        }
        state.open.entry(key.clone()).or_default();
        state.busy.insert(key.clone());
        Ok(Self { store, key })
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.store.state().busy.remove(self.key);
    }
}

fn cut(key: &BlobKey, body: Option<Bytes>, range: Option<Range<u64>>) -> Result<ByteStream> {
    let body = body.ok_or_else(|| Error::NotFound(key.clone()))?;
    let size_bytes = body.len() as u64;
    let range = range.unwrap_or(0..size_bytes);
    if range.start > range.end || range.end > size_bytes {
        return Err(Error::OutOfRange { size_bytes });
    }
    let (start, end) = (usize::try_from(range.start), usize::try_from(range.end));
    match (start, end) {
        (Ok(start), Ok(end)) => Ok(crate::bytes(body.slice(start..end))),
        _ => Err(Error::OutOfRange { size_bytes }),
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, key: &BlobKey, mut body: ByteStream) -> Result<BlobInfo> {
        let taken = || Error::AlreadyExists(key.clone());
        if self.state().sealed.contains_key(key) {
            return Err(taken());
        }
        let mut all = BytesMut::new();
        while let Some(chunk) = body.try_next().await.map_err(Error::sending)? {
            all.extend_from_slice(&chunk);
        }
        let mut state = self.state();
        if state.sealed.contains_key(key) {
            return Err(taken());
        }
        let size_bytes = all.len() as u64;
        state.sealed.insert(key.clone(), all.freeze());
        Ok(BlobInfo { size_bytes })
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        let body = self.state().sealed.get(key).cloned();
        cut(key, body, range)
    }

    async fn head(&self, key: &BlobKey) -> Result<BlobInfo> {
        let state = self.state();
        let body = state.sealed.get(key).ok_or_else(|| Error::NotFound(key.clone()))?;
        Ok(BlobInfo { size_bytes: body.len() as u64 })
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.state().sealed.remove(key);
        Ok(())
    }

    async fn delete_prefix(&self, prefix: &BlobKey) -> Result<u64> {
        let mut state = self.state();
        let before = state.sealed.len();
        state.sealed.retain(|key, _| !key.is_below(prefix));
        Ok((before - state.sealed.len()) as u64)
    }

    async fn append(&self, key: &BlobKey, offset: u64, mut body: ByteStream) -> Result<u64> {
        let _writing = Writing::begin(self, key, offset)?;
        let mut length = offset;
        while let Some(chunk) = body.try_next().await.map_err(Error::sending)? {
            length += chunk.len() as u64;
            self.state().open.entry(key.clone()).or_default().extend_from_slice(&chunk);
        }
        Ok(length)
    }

    async fn open_length(&self, key: &BlobKey) -> Result<Option<u64>> {
        Ok(self.state().open.get(key).map(|body| body.len() as u64))
    }

    async fn read_open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        let body = self.state().open.get(key).map(|body| body.clone().freeze());
        cut(key, body, Some(range))
    }

    async fn seal(&self, key: &BlobKey) -> Result<BlobInfo> {
        let mut state = self.state();
        state.must_be_idle(key)?;
        if let Some(body) = state.open.get(key).cloned() {
            if state.sealed.contains_key(key) {
                return Err(Error::AlreadyExists(key.clone()));
            }
            state.open.remove(key);
            state.sealed.insert(key.clone(), body.freeze());
        }
        let body = state.sealed.get(key).ok_or_else(|| Error::NotFound(key.clone()))?;
        Ok(BlobInfo { size_bytes: body.len() as u64 })
    }

    async fn discard(&self, key: &BlobKey) -> Result<()> {
        let mut state = self.state();
        state.must_be_idle(key)?;
        state.open.remove(key);
        Ok(())
    }

    fn local_path(&self, _key: &BlobKey) -> Option<PathBuf> {
        None
    }
}
