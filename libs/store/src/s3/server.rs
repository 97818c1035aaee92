//! Where an S3 server is, and how to sign in there.

use std::{fmt, time::Duration};

use object_store::{
    ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut},
};
use url::Url;

/// How long a server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Longest silence inside an answer.
const READ: Duration = Duration::from_secs(15);
/// Tries of one request after the first; the waits between them grow.
const RETRIES: usize = 3;
/// No retry begins after this time.
const RETRY_FOR: Duration = Duration::from_secs(10);

/// A server's address or bucket that can't be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadBucket(String);

/// A bucket of an S3 server. Shows no secret.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Bucket {
    endpoint: String,
    region: String,
    bucket: String,
    access_key: String,
    secret_key: String,
}

impl S3Bucket {
    /// A bucket at `endpoint`, such as `https://s3.example`.
    ///
    /// # Errors
    /// One sentence that names what is missing or wrong.
    pub fn new(endpoint: &str, region: &str, bucket: &str, access_key: &str, secret_key: &str) -> Result<Self, BadBucket> {
        let url: Option<Url> = endpoint.parse().ok();
        if !url.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host()) {
            return Err(BadBucket(format!("the endpoint must be a URL such as https://s3.example, not {endpoint:?}")));
        }
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b'_');
        if bucket.len() < 3 || !bucket.bytes().all(is_name) {
            return Err(BadBucket(format!("the bucket must be a name of at least 3 small letters and digits, not {bucket:?}")));
        }
        if access_key.is_empty() || secret_key.is_empty() {
            return Err(BadBucket("the access key and the secret key must both be there".to_owned()));
        }
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            region: region.to_owned(),
            bucket: bucket.to_owned(),
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
        })
    }

    /// Where it is, for messages.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}/{}", self.endpoint, self.bucket)
    }

    pub(super) fn client(&self) -> Result<AmazonS3, object_store::Error> {
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_read_timeout(READ)
            // A viewer may take a body as slowly as it plays.
            .with_timeout_disabled()
            .with_allow_http(self.endpoint.starts_with("http://"));
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRY_FOR, ..RetryConfig::default() };
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_region(&self.region)
            .with_bucket_name(&self.bucket)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(&self.secret_key)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(options)
            .with_retry(retry)
            .build()
    }
}

impl fmt::Debug for S3Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Bucket").field("place", &self.place()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_shows_no_secret_and_refuses_what_it_cannot_use() {
        let bucket = S3Bucket::new("https://s3.example/", "eu", "media", "the key", "the secret").unwrap();
        assert_eq!(format!("{bucket:?}"), "S3Bucket { place: \"https://s3.example/media\", .. }");
        for (endpoint, name, key) in [("s3.example", "media", "k"), ("https://s3.example", "M", "k"), ("https://x", "media", "")]
        {
            S3Bucket::new(endpoint, "eu", name, key, "s").unwrap_err();
        }
    }
}
