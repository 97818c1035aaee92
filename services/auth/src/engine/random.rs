//! Random bytes, and secrets kept as hashes.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Random bytes from the system.
pub(super) fn bytes<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Error::NoRandomness)?;
    Ok(bytes)
}

/// Random lower-case hex digits of `N` bytes.
pub(super) fn text<const N: usize>() -> Result<String, Error> {
    Ok(hex::encode(bytes::<N>()?))
}

/// What is stored of a secret. A plain hash is enough: the secrets have 256 random bits.
pub(super) fn fingerprint(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}
