//! Verifies tokens with the keys that auth publishes.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use streamgate_core::{Failure, time::now_ms};

use crate::{
    keys::Digest,
    mesh::Mesh,
    token::{self, AccessClaims, PlaybackClaims},
};

/// Verifies tokens locally, with the keys that auth publishes.
#[derive(Debug, Clone)]
pub struct TokenVerifier {
    mesh: Mesh,
}

impl TokenVerifier {
    /// A verifier that shares its keys and its memory of tokens with all others of `mesh`.
    #[must_use]
    pub fn new(mesh: Mesh) -> Self {
        Self { mesh: mesh.into_itself() }
    }

    /// Reads an access token.
    ///
    /// # Errors
    /// `Unauthenticated` for a bad token, `Unavailable` when auth can't be asked for its keys.
    pub async fn access(&self, token: &str) -> Result<Arc<AccessClaims>, Failure> {
        let ring = self.mesh.keyring();
        let digest: Digest = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = ring.access.get(&digest).await {
            token::check_times(claims.iat, claims.exp, now_ms())?;
            return Ok(claims);
        }
        let claims = Arc::new(ring.check(&self.mesh.auth(), |keys| token::verify_access(token, keys, now_ms())).await?);
        ring.access.insert(digest, Arc::clone(&claims)).await;
        Ok(claims)
    }

    /// Reads a playback token.
    ///
    /// # Errors
    /// `Unauthenticated` for a bad token, `Unavailable` when auth can't be asked for its keys.
    pub async fn playback(&self, token: &str) -> Result<Arc<PlaybackClaims>, Failure> {
        let ring = self.mesh.keyring();
        let digest: Digest = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = ring.playback.get(&digest).await {
            token::check_times(claims.iat, claims.exp, now_ms())?;
            return Ok(claims);
        }
        let claims = Arc::new(ring.check(&self.mesh.auth(), |keys| token::verify_playback(token, keys, now_ms())).await?);
        ring.playback.insert(digest, Arc::clone(&claims)).await;
        Ok(claims)
    }
}
