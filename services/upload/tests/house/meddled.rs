//! A store that does something else before it does what it is asked.

use std::{
    ops::Range,
    path::PathBuf,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use streamgate_store::{BlobInfo, BlobKey, BlobStore, ByteStream, Result};

/// Is told the call and its key, and fails it or lets it pass. `stored` is what follows a `put`.
type Before = Arc<dyn Fn(&'static str, &BlobKey) -> BoxFuture<'static, Result<()>> + Send + Sync>;

pub struct Meddled {
    inner: Arc<dyn BlobStore>,
    before: Mutex<Option<Before>>,
    pause: Mutex<Option<BoxFuture<'static, ()>>>,
}

impl std::fmt::Debug for Meddled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Meddled(..)")
    }
}

impl Meddled {
    pub fn new(inner: Arc<dyn BlobStore>) -> Self {
        Self { inner, before: Mutex::default(), pause: Mutex::default() }
    }

    /// From now on `before` comes first.
    pub fn before(&self, before: impl Fn(&'static str, &BlobKey) -> BoxFuture<'static, Result<()>> + Send + Sync + 'static) {
        *self.before.lock().unwrap() = Some(Arc::new(before));
    }

    /// Before the next `call`, `meddling` is done.
    pub fn once(&self, call: &'static str, meddling: impl Future<Output = ()> + Send + 'static) {
        let meddling = Mutex::new(Some(meddling));
        self.before(move |asked, _| {
            let meddling = if asked == call { meddling.lock().unwrap().take() } else { None };
            Box::pin(async move {
                if let Some(meddling) = meddling {
                    meddling.await;
                }
                Ok(())
            })
        });
    }

    /// The next `append` asks its body once, and not again before `meanwhile` is done.
    pub fn pause(&self, meanwhile: impl Future<Output = ()> + Send + 'static) {
        *self.pause.lock().unwrap() = Some(Box::pin(meanwhile));
    }

    async fn meddle(&self, call: &'static str, key: &BlobKey) -> Result<&dyn BlobStore> {
        let before = self.before.lock().unwrap().clone();
        if let Some(before) = before {
            before(call, key).await?;
        }
        Ok(&*self.inner)
    }
}

#[async_trait]
impl BlobStore for Meddled {
    async fn put(&self, key: &BlobKey, body: ByteStream) -> Result<BlobInfo> {
        let stored = self.meddle("put", key).await?.put(key, body).await?;
        self.meddle("stored", key).await?;
        Ok(stored)
    }

    async fn read(&self, key: &BlobKey, range: Option<Range<u64>>) -> Result<ByteStream> {
        self.meddle("read", key).await?.read(key, range).await
    }

    async fn head(&self, key: &BlobKey) -> Result<BlobInfo> {
        self.meddle("head", key).await?.head(key).await
    }

    async fn delete(&self, key: &BlobKey) -> Result<()> {
        self.meddle("delete", key).await?.delete(key).await
    }

    async fn delete_prefix(&self, prefix: &BlobKey) -> Result<u64> {
        self.meddle("delete_prefix", prefix).await?.delete_prefix(prefix).await
    }

    async fn append(&self, key: &BlobKey, offset: u64, body: ByteStream) -> Result<u64> {
        let inner = self.meddle("append", key).await?;
        let pause = self.pause.lock().unwrap().take();
        let Some(pause) = pause else { return inner.append(key, offset, body).await };
        let mut body = Box::pin(body.peekable());
        let _ = body.as_mut().peek().now_or_never();
        pause.await;
        inner.append(key, offset, body).await
    }

    async fn open_length(&self, key: &BlobKey) -> Result<Option<u64>> {
        self.meddle("open_length", key).await?.open_length(key).await
    }

    async fn read_open(&self, key: &BlobKey, range: Range<u64>) -> Result<ByteStream> {
        self.meddle("read_open", key).await?.read_open(key, range).await
    }

    async fn seal(&self, key: &BlobKey) -> Result<BlobInfo> {
        self.meddle("seal", key).await?.seal(key).await
    }

    async fn discard(&self, key: &BlobKey) -> Result<()> {
        self.meddle("discard", key).await?.discard(key).await
    }

    fn local_path(&self, key: &BlobKey) -> Option<PathBuf> {
        self.inner.local_path(key)
    }
}
