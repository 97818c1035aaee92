//! Verifies tokens with the keys that auth publishes.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use moka::future::Cache;
use sha2::{Digest as _, Sha256};
use streamgate_core::{ErrorKind, Failure, time::now_ms};
use streamgate_proto::streamgate::auth::v1::GetJwksRequest;

use crate::{
    mesh::Mesh,
    token::{self, AccessClaims, Jwks, PlaybackClaims, TokenError},
};

/// Verified tokens that are remembered, of each class.
const MAX_TOKENS: u64 = 20_000;
/// How long a verified token is believed without looking at its signature again. Bounds for how
/// long a key that auth has withdrawn goes on working.
const REMEMBER_TOKEN: Duration = Duration::from_secs(60);
/// Keys older than this are read again before the next signature is checked.
const KEYS_FRESH: Duration = Duration::from_secs(60);
/// Keys are asked for at most this often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

type Digest = [u8; 32];

/// What one process knows of auth's keys and of tokens signed with them.
#[derive(Debug)]
pub(crate) struct Keyring {
    keys: RwLock<Arc<Jwks>>,
    /// When auth last gave keys.
    refreshed: Mutex<Option<Instant>>,
    /// When auth was last asked, and whether it answered. Held while asking: one caller asks.
    asked: tokio::sync::Mutex<Option<(Instant, bool)>>,
    access: Cache<Digest, Arc<AccessClaims>>,
    playback: Cache<Digest, Arc<PlaybackClaims>>,
}

impl Keyring {
    pub(crate) fn new() -> Self {
        Self {
            keys: RwLock::default(),
            refreshed: Mutex::default(),
            asked: tokio::sync::Mutex::default(),
            access: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(REMEMBER_TOKEN).build(),
            playback: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(REMEMBER_TOKEN).build(),
        }
    }

    fn keys(&self) -> Arc<Jwks> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn are_fresh(&self) -> bool {
        let refreshed = self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        refreshed.is_some_and(|at| at.elapsed() < KEYS_FRESH)
    }

    /// Runs `check` with the keys at hand, and once more with new ones when its key is unknown.
    async fn check<C>(&self, mesh: &Mesh, check: impl Fn(&Jwks) -> Result<C, TokenError>) -> Result<C, Failure> {
        if !self.are_fresh() {
            // Old keys go on working while auth is away: tokens end by themselves.
            let _answered = self.refresh(mesh).await;
        }
        match check(&self.keys()) {
            Err(TokenError::UnknownKey) if self.refresh(mesh).await => Ok(check(&self.keys())?),
            Err(TokenError::UnknownKey) => Err(identity_unknown()),
            outcome => Ok(outcome?),
        }
    }

    /// Reads the keys, unless that was tried within the last second. Says whether auth answered.
    async fn refresh(&self, mesh: &Mesh) -> bool {
        let mut asked = self.asked.lock().await;
        if let Some((at, answered)) = *asked
            && at.elapsed() < ASK_INTERVAL
        {
            return answered;
        }
        let answer = mesh.auth().get_jwks(GetJwksRequest {}).await;
        let answered = match answer {
            Ok(response) => {
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(Jwks::from(response.get_ref()));
                *self.refreshed.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                true
            }
            Err(status) => {
                tracing::info!(code = ?status.code(), "auth did not give its keys");
                false
            }
        };
        *asked = Some((Instant::now(), answered));
        answered
    }
}

/// Auth is away, so nobody can say who calls.
pub(crate) fn identity_unknown() -> Failure {
    Failure::new(ErrorKind::Unavailable, "identity_unknown", "who you are can't be checked right now; try again soon")
        .retry_after(Duration::from_secs(1))
}

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
        let claims = Arc::new(ring.check(&self.mesh, |keys| token::verify_access(token, keys, now_ms())).await?);
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
        let claims = Arc::new(ring.check(&self.mesh, |keys| token::verify_playback(token, keys, now_ms())).await?);
        ring.playback.insert(digest, Arc::clone(&claims)).await;
        Ok(claims)
    }
}
