//! What one process remembers of auth: its keys, tokens signed with them, and answers about API keys.

use std::{
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use streamgate_core::{Account, ErrorKind, Failure};
use streamgate_proto::streamgate::auth::v1::{GetJwksRequest, auth_service_client::AuthServiceClient};
use tokio::{sync::OwnedMutexGuard, time::Instant};

use crate::{
    channel::MeshChannel,
    token::{AccessClaims, Jwks, PlaybackClaims, TokenError},
};

/// Verified tokens that are remembered, of each class.
const MAX_TOKENS: u64 = 20_000;
/// How long a verified token is believed without looking at its signature again. Bounds for how
/// long a key that auth has withdrawn goes on working.
const REMEMBER_TOKEN: Duration = Duration::from_secs(60);
/// Keys older than this are read again, beside the check that finds them old.
const KEYS_FRESH: Duration = Duration::from_secs(60);
/// Keys older than this are read again before they check anything, unless auth is known to be away: a process that
/// was idle has not heard of a key that was withdrawn.
const KEYS_TRUSTED: Duration = Duration::from_secs(120);
/// Keys older than this check nothing. No token lives longer, so all of theirs have ended by then.
const KEYS_USABLE: Duration = Duration::from_secs(24 * 60 * 60);
/// How long an answer about an API key is believed; a revoked key works this much longer.
const REMEMBER_API_KEY: Duration = Duration::from_secs(5);
/// Answers about API keys that are remembered; wrong ones count, so guessing can't fill memory.
const MAX_API_KEYS: u64 = 10_000;
/// Keys are asked for at most this often.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long auth may take to give its keys: whoever has a token of an unknown key waits for it.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) type Digest = [u8; 32];
type Auth = AuthServiceClient<MeshChannel>;

/// Answers about API keys, good and bad.
pub(crate) type ApiKeys = Cache<Digest, Option<Account>>;

pub(crate) fn api_keys() -> ApiKeys {
    Cache::builder().max_capacity(MAX_API_KEYS).time_to_live(REMEMBER_API_KEY).build()
}

/// When auth was last asked, and whether it answered.
type LastAsked = Option<(Instant, bool)>;

/// What one process knows of auth's keys and of tokens signed with them.
#[derive(Debug)]
pub(crate) struct Keyring {
    keys: RwLock<Arc<Jwks>>,
    /// When auth last gave keys.
    refreshed: Mutex<Option<Instant>>,
    /// Whether auth gave no keys when it was last asked.
    is_away: AtomicBool,
    /// Held while asking: one task asks.
    asked: Arc<tokio::sync::Mutex<LastAsked>>,
    pub(crate) access: Cache<Digest, Arc<AccessClaims>>,
    pub(crate) playback: Cache<Digest, Arc<PlaybackClaims>>,
}

impl Keyring {
    pub(crate) fn new() -> Self {
        Self {
            keys: RwLock::default(),
            refreshed: Mutex::default(),
            is_away: AtomicBool::new(false),
            asked: Arc::default(),
            access: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(REMEMBER_TOKEN).build(),
            playback: Cache::builder().max_capacity(MAX_TOKENS).time_to_live(REMEMBER_TOKEN).build(),
        }
    }

    /// The keys that may be used: none when they are too old.
    fn keys(&self) -> Arc<Jwks> {
        if self.age() >= KEYS_USABLE {
            return Arc::default();
        }
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn age(&self) -> Duration {
        let refreshed = *self.refreshed.lock().unwrap_or_else(PoisonError::into_inner);
        refreshed.map_or(Duration::MAX, |at| at.elapsed())
    }

    /// Runs `check` with the keys at hand, and once more with new ones when its key is unknown.
    pub(crate) async fn check<C>(
        self: &Arc<Self>,
        auth: &Auth,
        check: impl Fn(&Jwks) -> Result<C, TokenError>,
    ) -> Result<C, Failure> {
        let age = self.age();
        let is_away = self.is_away.load(Ordering::Relaxed);
        if age >= KEYS_USABLE || age >= KEYS_TRUSTED && !is_away {
            let _answered = self.refresh(auth).await;
        } else if age >= KEYS_FRESH {
            // A viewer's next segment must not wait for auth, which may be slow or away.
            self.refresh_beside(auth);
        }
        match check(&self.keys()) {
            Err(TokenError::UnknownKey) if self.refresh(auth).await => Ok(check(&self.keys())?),
            Err(TokenError::UnknownKey) => Err(identity_unknown()),
            outcome => Ok(outcome?),
        }
    }

    /// Reads the keys, unless that was tried within the last second. Says whether auth answered.
    async fn refresh(self: &Arc<Self>, auth: &Auth) -> bool {
        let asked = Arc::clone(&self.asked).lock_owned().await;
        match answered_lately(*asked) {
            Some(answered) => answered,
            // In a task of its own: it goes on when the caller goes away, so that the next one need not ask again.
            None => tokio::spawn(Arc::clone(self).ask(auth.clone(), asked)).await.unwrap_or(false),
        }
    }

    /// The same without waiting, unless somebody is at it.
    fn refresh_beside(self: &Arc<Self>, auth: &Auth) {
        if let Ok(asked) = Arc::clone(&self.asked).try_lock_owned()
            && answered_lately(*asked).is_none()
        {
            tokio::spawn(Arc::clone(self).ask(auth.clone(), asked));
        }
    }

    async fn ask(self: Arc<Self>, mut auth: Auth, mut asked: OwnedMutexGuard<LastAsked>) -> bool {
        let mut request = tonic::Request::new(GetJwksRequest {});
        request.set_timeout(ASK_TIMEOUT);
        let answered = match auth.get_jwks(request).await {
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
        self.is_away.store(!answered, Ordering::Relaxed);
        *asked = Some((Instant::now(), answered));
        answered
    }
}

/// Whether auth answered when it was asked within the last second; absent when it was not.
fn answered_lately(asked: LastAsked) -> Option<bool> {
    asked.filter(|(at, _)| at.elapsed() < ASK_INTERVAL).map(|(_, answered)| answered)
}

/// Auth is away, so nobody can say who calls.
pub(crate) fn identity_unknown() -> Failure {
    Failure::new(ErrorKind::Unavailable, "identity_unknown", "who you are can't be checked right now; try again soon")
        .retry_after(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use streamgate_core::ServiceName;
    use tokio::{net::TcpListener, time::advance};

    use super::*;
    use crate::{credential::MeshSecret, mesh::Mesh};

    /// A ring with keys, and an auth that takes connections and never answers.
    struct World {
        ring: Arc<Keyring>,
        auth: Auth,
        _hung: TcpListener,
    }

    impl World {
        async fn start() -> Self {
            let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", hung.local_addr().unwrap());
            let secret = MeshSecret::new(&[7; 32]).unwrap();
            let mesh = Mesh::builder(ServiceName::Streaming, secret).target(ServiceName::Auth, url).build().unwrap();
            let ring = Keyring::new();
            let mut keys = Jwks::default();
            keys.insert("k1", [7; 32]);
            *ring.keys.write().unwrap() = Arc::new(keys);
            *ring.refreshed.lock().unwrap() = Some(Instant::now());
            Self { ring: Arc::new(ring), auth: mesh.auth(), _hung: hung }
        }

        /// How a token of the known key is checked, and how long that takes.
        async fn check(&self) -> (Result<(), ErrorKind>, Duration) {
            let start = Instant::now();
            let is_known = |found: &Jwks| if found.contains("k1") { Ok(()) } else { Err(TokenError::UnknownKey) };
            let outcome = self.ring.check(&self.auth, is_known).await;
            (outcome.map_err(|failure| failure.kind), start.elapsed())
        }
    }

    const AT_ONCE: Duration = Duration::from_millis(100);

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_an_auth_that_hangs_while_the_keys_are_known() {
        let world = World::start().await;
        for age in [0, 61, 61, 3600, 20 * 3600] {
            advance(Duration::from_secs(age)).await;
            let (outcome, took) = world.check().await;
            assert_eq!(outcome, Ok(()));
            assert!(took < AT_ONCE, "{took:?}");
            // The refresh beside it gives up.
            tokio::time::sleep(ASK_TIMEOUT * 2).await;
        }
        advance(KEYS_USABLE).await;
        assert_eq!(world.check().await.0, Err(ErrorKind::Unavailable));
    }

    #[tokio::test(start_paused = true)]
    async fn after_idle_hours_auth_is_asked_first_but_not_for_long() {
        let world = World::start().await;
        advance(Duration::from_secs(3600)).await;
        let (outcome, took) = world.check().await;
        assert_eq!(outcome, Ok(()));
        assert!(took > AT_ONCE && took < ASK_TIMEOUT * 2, "{took:?}");
        assert!(world.check().await.1 < AT_ONCE);
    }

    #[tokio::test(start_paused = true)]
    async fn asking_goes_on_when_the_asker_goes_away() {
        let world = World::start().await;
        assert!(tokio::time::timeout(AT_ONCE, world.ring.refresh(&world.auth)).await.is_err());
        let start = Instant::now();
        assert!(!world.ring.refresh(&world.auth).await);
        assert!(start.elapsed() <= ASK_TIMEOUT - AT_ONCE / 2, "the first question is still under way, and is the only one");
    }
}
