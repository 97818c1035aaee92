//! The keys that tokens are signed with. A new key is published for a while before it signs, so that every replica and
//! everybody who verifies has it by then; the one that signed before still verifies.

use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest as _, Sha256};
use sqlx::{Any, Executor};
use streamgate_client::token::Jwks;
use streamgate_core::time::{UnixMillis, now_ms};
use streamgate_store::{Database, Transaction};
use tokio::sync::Mutex;

use super::{Engine, random};
use crate::Error;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How long a key is published before it signs. Replicas read the keys every ten minutes, and those who verify ask one of
/// them every two; the rest is for a database that was away.
const PUBLISHED_AHEAD_MS: i64 = 30 * 60 * 1000;
/// The keys are read for tokens of unknown keys at most this often: anybody can make such a token.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a key verifies after the next one began to sign: the longest token, and an hour for slow clocks.
const OVERLAP_MS: i64 = DAY_MS + 60 * 60 * 1000;

/// A public key as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    /// RFC 7638 thumbprint.
    pub kid: String,
    /// Base64url of its 32 bytes.
    pub x: String,
}

/// The keys of one moment.
struct Ring {
    kid: String,
    pair: Ed25519KeyPair,
    created_at: UnixMillis,
    jwks: Jwks,
    public: Vec<PublicKey>,
}

/// The keys, which may change while the service runs. Cheap to clone.
#[derive(Clone)]
pub(super) struct SigningKeys {
    ring: Arc<RwLock<Arc<Ring>>>,
    /// When the keys were last read for a token of an unknown key, and whether that went well.
    looked: Arc<Mutex<Option<(Instant, bool)>>>,
    rotation_days: u32,
}

impl SigningKeys {
    /// Reads the keys, making the first one when there is none.
    pub(super) async fn open(db: &Database, rotation_days: u32) -> Result<Self, Error> {
        let ring = load(db, rotation_days).await?;
        Ok(Self { ring: Arc::new(RwLock::new(Arc::new(ring))), looked: Arc::default(), rotation_days })
    }

    fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Signs with the newest key that everybody knows.
    pub(super) fn sign<T>(&self, use_key: impl FnOnce(&str, &dyn Fn(&[u8]) -> Vec<u8>) -> T) -> T {
        let ring = self.ring();
        use_key(&ring.kid, &|bytes| ring.pair.sign(bytes).as_ref().to_vec())
    }

    /// Uses the keys that tokens are verified with.
    pub(super) fn verify_with<T>(&self, use_keys: impl FnOnce(&Jwks) -> T) -> T {
        use_keys(&self.ring().jwks)
    }

    async fn rotate_if_old(&self, db: &Database) -> Result<(), Error> {
        // Also when it is not old: a withdrawn key leaves the ring here.
        self.replace(load(db, self.rotation_days).await?);
        Ok(())
    }

    /// Reads the keys again, unless that was done within the last second: another replica may have made one.
    pub(super) async fn look_again(&self, db: &Database) -> Result<(), Error> {
        let mut looked = self.looked.lock().await;
        if let Some((_, went_well)) = looked.filter(|(at, _)| at.elapsed() < LOOK_INTERVAL) {
            return if went_well { Ok(()) } else { Err(Error::KeysUnread) };
        }
        let now = now_ms();
        let ring = read(db.pool(), now).await.and_then(|rows| ring(&rows, now));
        *looked = Some((Instant::now(), ring.is_ok()));
        self.replace(ring?);
        Ok(())
    }

    fn replace(&self, ring: Ring) {
        *self.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
    }
}

/// Reads the ring in one transaction, with a new key when the newest is too old.
async fn load(db: &Database, rotation_days: u32) -> Result<Ring, Error> {
    let now = now_ms();
    let mut tx = db.begin().await?;
    sqlx::query("DELETE FROM signing_keys WHERE withdraw_at <= $1").bind(now).execute(&mut *tx).await?;
    let mut rows = read(&mut *tx, now).await?;
    let is_fresh = |created_at: i64| now - created_at < i64::from(rotation_days) * DAY_MS;
    if !rows.first().is_some_and(|(_, created_at)| is_fresh(*created_at)) {
        add(&mut tx, now).await?;
        rows = read(&mut *tx, now).await?;
    }
    tx.commit().await?;
    ring(&rows, now)
}

/// Seeds of the keys and when each was made, newest first.
async fn read<'a>(db: impl Executor<'a, Database = Any>, now: UnixMillis) -> Result<Vec<(Vec<u8>, i64)>, Error> {
    let rows = sqlx::query_as(
        "SELECT seed, created_at FROM signing_keys WHERE withdraw_at IS NULL OR withdraw_at > $1 ORDER BY created_at DESC, kid",
    );
    Ok(rows.bind(now).fetch_all(db).await?)
}

async fn add(tx: &mut Transaction, now: UnixMillis) -> Result<(), Error> {
    let seed: [u8; 32] = random::bytes()?;
    let kid = public_key(&pair(&seed)?).kid;
    sqlx::query("UPDATE signing_keys SET withdraw_at = $1 WHERE withdraw_at IS NULL")
        .bind(now + PUBLISHED_AHEAD_MS + OVERLAP_MS)
        .execute(&mut **tx)
        .await?;
    sqlx::query("INSERT INTO signing_keys (kid, seed, created_at) VALUES ($1, $2, $3)")
        .bind(&kid)
        .bind(seed.as_slice())
        .bind(now)
        .execute(&mut **tx)
        .await?;
    tracing::info!(%kid, "a signing key was made");
    Ok(())
}

fn ring(rows: &[(Vec<u8>, i64)], now: UnixMillis) -> Result<Ring, Error> {
    let is_known_to_all = |created_at: i64| now - created_at >= PUBLISHED_AHEAD_MS;
    let signer = rows.iter().find(|(_, created_at)| is_known_to_all(*created_at)).or_else(|| rows.last());
    let (seed, created_at) = signer.ok_or(Error::Corrupt("signing keys"))?;
    let signer = pair(seed)?;
    let kid = public_key(&signer).kid;
    let (mut jwks, mut public) = (Jwks::default(), Vec::new());
    for (seed, _) in rows {
        let pair = pair(seed)?;
        let key = public_key(&pair);
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| Error::Corrupt("signing key"))?;
        jwks.insert(key.kid.clone(), bytes);
        public.push(key);
    }
    public.sort_by_key(|key| key.kid != kid);
    Ok(Ring { kid, pair: signer, created_at: *created_at, jwks, public })
}

fn pair(seed: &[u8]) -> Result<Ed25519KeyPair, Error> {
    Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| Error::Corrupt("signing key"))
}

/// The thumbprint hashes the required members in alphabetic order, without spaces (RFC 7638, RFC 8037).
fn public_key(pair: &Ed25519KeyPair) -> PublicKey {
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    let members = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    PublicKey { kid: URL_SAFE_NO_PAD.encode(Sha256::digest(members)), x }
}

impl fmt::Debug for SigningKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring();
        f.debug_struct("SigningKeys").field("kid", &ring.kid).field("created_at", &ring.created_at).finish_non_exhaustive()
    }
}

impl Engine {
    /// Public keys, the one that signs first.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        self.keys.ring().public.clone()
    }

    /// Makes another key when the newest is old, lets the newest that everybody knows sign, and withdraws those whose tokens are over.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn rotate_signing_key_if_old(&self) -> Result<(), Error> {
        self.keys.rotate_if_old(&self.db).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kid_is_the_thumbprint_of_rfc_8037() {
        // RFC 8037, appendix A.1 and A.3.
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let key = public_key(&pair(&seed).unwrap());
        assert_eq!(key.x, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.kid, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn a_key_is_published_before_it_signs_unless_it_is_the_only_one() {
        let (old, new) = ([1; 32].to_vec(), [2; 32].to_vec());
        let kid = |seed: &[u8]| public_key(&pair(seed).unwrap()).kid;
        let made = 10 * DAY_MS;
        assert_eq!(ring(&[(new.clone(), made)], made).unwrap().kid, kid(&new));
        let rows = [(new.clone(), made), (old.clone(), 0)];
        let kids = |now| ring(&rows, now).unwrap().public.into_iter().map(|key| key.kid).collect::<Vec<_>>();
        assert_eq!(kids(made), [kid(&old), kid(&new)]);
        assert_eq!(kids(made + PUBLISHED_AHEAD_MS - 1), [kid(&old), kid(&new)]);
        assert_eq!(kids(made + PUBLISHED_AHEAD_MS), [kid(&new), kid(&old)]);
    }
}
