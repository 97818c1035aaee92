//! What one process remembers of auth: its keys, tokens signed with them, and answers about API keys.

use std::{
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{Duration, Instant},
};

use moka::future::Cache;
use streamgate_core::{Account, ErrorKind, Failure};
use streamgate_proto::streamgate::auth::v1::{GetJwksRequest, auth_service_client::AuthServiceClient};

use crate::{
    channel::MeshChannel,
    token::{AccessClaims, Jwks, PlaybackClaims, TokenError},
};

/// Verified tokens that are remembered, of each class.
const MAX_TOKENS: u64 = 20_000;
/// How long a verified token is believed without looking at its signature again. Bounds for how
/// long a key that auth has withdrawn goes on working.
const REMEMBER_TOKEN: Duration = Duration::from_secs(60);
/// Keys older than this are read again before the next signature is checked.
const KEYS_FRESH: Duration = Duration::from_secs(60);
/// How long an answer about an API key is believed; a revoked key works this much longer.
const REMEMBER_API_KEY: Duration = Duration::from_secs(5);
/// Answers about API keys that are remembered; wrong ones count, so guessing can't fill memory.
const MAX_API_KEYS: u64 = 10_000;
/// Keys are asked for at most this often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

pub(crate) type Digest = [u8; 32];
type Auth = AuthServiceClient<MeshChannel>;

/// Answers about API keys, good and bad.
pub(crate) type ApiKeys = Cache<Digest, Option<Account>>;

pub(crate) fn api_keys() -> ApiKeys {
    Cache::builder().max_capacity(MAX_API_KEYS).time_to_live(REMEMBER_API_KEY).build()
}

/// What one process knows of auth's keys and of tokens signed with them.
#[derive(Debug)]
pub(crate) struct Keyring {
    keys: RwLock<Arc<Jwks>>,
    /// When auth last gave keys.
    refreshed: Mutex<Option<Instant>>,
    /// When auth was last asked, and whether it answered. Held while asking: one caller asks.
    asked: tokio::sync::Mutex<Option<(Instant, bool)>>,
    pub(crate) access: Cache<Digest, Arc<AccessClaims>>,
    pub(crate) playback: Cache<Digest, Arc<PlaybackClaims>>,
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
    pub(crate) async fn check<C>(&self, auth: &Auth, check: impl Fn(&Jwks) -> Result<C, TokenError>) -> Result<C, Failure> {
        if !self.are_fresh() {
            // Old keys go on working while auth is away: tokens end by themselves.
            let _answered = self.refresh(auth).await;
        }
        match check(&self.keys()) {
            Err(TokenError::UnknownKey) if self.refresh(auth).await => Ok(check(&self.keys())?),
            Err(TokenError::UnknownKey) => Err(identity_unknown()),
            outcome => Ok(outcome?),
        }
    }

    /// Reads the keys, unless that was tried within the last second. Says whether auth answered.
    async fn refresh(&self, auth: &Auth) -> bool {
        let mut asked = self.asked.lock().await;
        if let Some((at, answered)) = *asked
            && at.elapsed() < ASK_INTERVAL
        {
            return answered;
        }
        let answer = auth.clone().get_jwks(GetJwksRequest {}).await;
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
