//! Requests to the server.

use std::ops::Range;

use futures::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, aws::AmazonS3,
    path::Path as ObjectPath,
};
use uuid::Uuid;

use crate::{
    blob::ByteStream,
    error::{Error, Result},
    key::BlobKey,
};

/// The objects of one bucket. An absent one is none, not an error.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    client: AmazonS3,
}

impl Bucket {
    pub(super) const fn new(client: AmazonS3) -> Self {
        Self { client }
    }

    pub(super) async fn get(&self, path: &ObjectPath, range: Option<Range<u64>>) -> Result<Option<GetResult>> {
        let options = GetOptions { range: range.map(GetRange::Bounded), ..GetOptions::default() };
        found(self.client.get_opts(path, options).await)
    }

    pub(super) async fn meta(&self, path: &ObjectPath) -> Result<Option<ObjectMeta>> {
        found(self.client.head(path).await)
    }

    /// Writes an object whose name must be free; `false` when it is taken.
    pub(super) async fn create(&self, path: &ObjectPath, body: PutPayload) -> Result<bool> {
        match self.client.put_opts(path, body, PutMode::Create.into()).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(object_store::Error::NotFound { .. }) => Err(no_bucket()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Deletes objects, and says how many were there, as far as the server tells.
    pub(super) async fn remove(&self, paths: BoxStream<'static, object_store::Result<ObjectPath>>) -> Result<u64> {
        let (mut results, mut deleted) = (self.client.delete_stream(paths), 0);
        while let Some(result) = results.next().await {
            deleted += u64::from(found(result)?.is_some());
        }
        Ok(deleted)
    }

    /// Deletes these objects.
    pub(super) async fn remove_all(&self, paths: Vec<ObjectPath>) -> Result<()> {
        self.remove(stream::iter(paths.into_iter().map(Ok)).boxed()).await.map(drop)
    }

    /// Objects whose names are one part longer than `folder`.
    pub(super) async fn children(&self, folder: &ObjectPath) -> Result<Vec<ObjectPath>> {
        let listed = self.client.list_with_delimiter(Some(folder)).await.map_err(failed)?;
        Ok(listed.objects.into_iter().map(|meta| meta.location).collect())
    }

    /// All objects below `folder`.
    pub(super) fn below(&self, folder: &ObjectPath) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.client.list(Some(folder)).map_ok(|meta| meta.location).boxed()
    }

    /// Asks whether the bucket answers and lets us in; one request that reads nothing.
    pub(super) async fn check(&self) -> Result<()> {
        match self.client.list(Some(&ObjectPath::from("objects/-"))).try_next().await {
            Ok(_) => Ok(()),
            Err(object_store::Error::NotFound { .. }) => Err(no_bucket()),
            Err(error) => Err(failed(error)),
        }
    }

    /// Whether the server refuses a second object of one name, as `If-None-Match: *` asks it to.
    pub(super) async fn knows_conditions(&self) -> Result<bool> {
        let path = ObjectPath::from(format!("probe/{}", Uuid::new_v4().simple()));
        self.create(&path, "1".into()).await?;
        let second = self.create(&path, "2".into()).await;
        self.remove_all(vec![path]).await?;
        second.map(|is_taken_over| !is_taken_over)
    }
}

/// Where a part of a blob lies.
pub(super) fn path(folder: &str, key: &BlobKey) -> Result<ObjectPath> {
    ObjectPath::parse(format!("{folder}/{key}")).map_err(|error| Error::Corrupt(error.to_string()))
}

pub(super) fn body_of(result: GetResult) -> ByteStream {
    result.into_stream().map_err(|error| std::io::Error::other(failed(error))).boxed()
}

/// An absent object is none.
fn found<T>(result: Result<T, object_store::Error>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error @ object_store::Error::NotFound { .. }) => match failed(error) {
            denied @ Error::Denied(_) => Err(denied),
            _ => Ok(None),
        },
        Err(error) => Err(failed(error)),
    }
}

fn no_bucket() -> Error {
    Error::Denied("the bucket does not exist".to_owned())
}

pub(super) fn failed(error: object_store::Error) -> Error {
    let said = error.to_string();
    let says = |codes: &[&str]| codes.iter().any(|code| said.contains(&format!("<Code>{code}</Code>")));
    if says(&["NoSuchBucket"]) {
        return no_bucket();
    }
    let is_refused = matches!(error, object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. });
    // Only single objects have errors of their own; a list has none but what the server said.
    if is_refused || says(&["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"]) {
        return Error::Denied("the server refuses the access key, or the key may not do this in the bucket".to_owned());
    }
    Error::unavailable(error)
}
