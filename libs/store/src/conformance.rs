//! Proof of the contract of [`BlobStore`](crate::BlobStore), for any engine.
