//! Names of blobs.

use std::{fmt, str::FromStr};

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 512;
/// Longest part between two slashes: every file system takes it, with room for a suffix.
const MAX_PART_BYTES: usize = 128;

/// A text that can't name a blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key:?} can't name a blob: {why}")]
pub struct BadKey {
    key: String,
    why: &'static str,
}

/// Name of a blob, such as `media/cnt_1/v720/init.mp4`. Made of letters, digits, `.`, `_` and `-`
/// between slashes; no part is empty or begins with a dot, so a key can't leave its folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobKey(String);

impl BlobKey {
    /// Reads a key strictly.
    ///
    /// # Errors
    /// `BadKey` with what is wrong.
    pub fn new(key: impl Into<String>) -> Result<Self, BadKey> {
        let key = key.into();
        match fault(&key) {
            Some(why) => Err(BadKey { key: key.chars().take(80).collect(), why }),
            None => Ok(Self(key)),
        }
    }

    /// The key of `path` below this one.
    ///
    /// # Errors
    /// `BadKey` when `path` holds what a key must not.
    pub fn join(&self, path: &str) -> Result<Self, BadKey> {
        Self::new(format!("{}/{path}", self.0))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this key lies below `prefix`, which is a whole number of parts.
    #[must_use]
    pub fn is_below(&self, prefix: &Self) -> bool {
        self.0.strip_prefix(&prefix.0).is_some_and(|rest| rest.starts_with('/'))
    }
}

fn fault(key: &str) -> Option<&'static str> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Some("it must have 1 to 512 bytes");
    }
    for part in key.split('/') {
        if part.is_empty() || part.len() > MAX_PART_BYTES {
            return Some("each part must have 1 to 128 bytes");
        }
        if part.starts_with('.') {
            return Some("no part may begin with a dot");
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-')) {
            return Some("only letters, digits, '.', '_', '-' and '/' are taken");
        }
    }
    None
}

impl fmt::Display for BlobKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for BlobKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_could_leave_its_folder_is_refused() {
        let long = "a".repeat(129);
        let bad = ["", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.b", "a\0b", "a b", "a\\b", "ä", "a%2fb", long.as_str()];
        for key in bad {
            assert!(BlobKey::new(key).is_err(), "{key:?}");
        }
        assert!(BlobKey::new("a/".repeat(256) + "a").is_err());
        assert!(BlobKey::new("media/cnt_1/v720/00001.m4s").is_ok());
    }

    #[test]
    fn a_prefix_covers_whole_parts_only() {
        let prefix = BlobKey::new("media/a").unwrap();
        assert!(prefix.join("x").unwrap().is_below(&prefix));
        assert!(!BlobKey::new("media/ab").unwrap().is_below(&prefix));
        assert!(!prefix.is_below(&prefix));
    }
}
