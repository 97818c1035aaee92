//! Verifies tokens with the keys that auth publishes.

use std::sync::Arc;

use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use streamgate_core::{
    Failure,
    time::{UnixMillis, now_ms},
};

use crate::{
    keys::Digest,
    mesh::Mesh,
    token::{self, AccessClaims, Jwks, PlaybackClaims, TokenError},
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
        self.remembered(token, &self.mesh.keyring().access, token::verify_access, |claims| (claims.iat, claims.exp)).await
    }

    /// Reads a playback token.
    ///
    /// # Errors
    /// `Unauthenticated` for a bad token, `Unavailable` when auth can't be asked for its keys.
    pub async fn playback(&self, token: &str) -> Result<Arc<PlaybackClaims>, Failure> {
        self.remembered(token, &self.mesh.keyring().playback, token::verify_playback, |claims| (claims.iat, claims.exp)).await
    }

    /// The claims of a token that was verified lately, or of one that is verified now.
    async fn remembered<C: Send + Sync + 'static>(
        &self,
        token: &str,
        known: &Cache<Digest, Arc<C>>,
        verify: fn(&str, &Jwks, UnixMillis) -> Result<C, TokenError>,
        times: fn(&C) -> (i64, i64),
    ) -> Result<Arc<C>, Failure> {
        let digest: Digest = Sha256::digest(token.as_bytes()).into();
        if let Some(claims) = known.get(&digest).await {
            let (iat, exp) = times(&claims);
            token::check_times(iat, exp, now_ms())?;
            return Ok(claims);
        }
        let claims = Arc::new(self.mesh.keyring().check(&self.mesh.auth(), |keys| verify(token, keys, now_ms())).await?);
        known.insert(digest, Arc::clone(&claims)).await;
        Ok(claims)
    }
}
