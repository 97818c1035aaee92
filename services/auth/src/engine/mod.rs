//! The behaviour: sign-in, tokens, API keys, accounts, gates.

mod accounts;
mod api_keys;
mod challenges;
mod gates;
pub mod offline;
mod random;
mod refresh;
mod roles;
mod sign_in;
mod signing_keys;
mod tokens;

use std::{
    collections::{BTreeSet, HashSet},
    sync::{Arc, atomic::AtomicU64},
};

use streamgate_chain::Evaluator;
use streamgate_core::{evm::Address, time::now_ms};
use streamgate_store::Database;

pub use accounts::{AccountPage, AccountRow};
pub use api_keys::{ApiKeyPage, ApiKeyRow, NewApiKey, PREFIX as API_KEY_PREFIX};
pub use challenges::Challenge;
pub use signing_keys::PublicKey;
pub use tokens::{PlaybackGrant, SignedIn};

use crate::{Config, Error, Metrics, origins::Origins};
use signing_keys::SigningKeys;

/// The behaviour of the service. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Engine {
    db: Database,
    keys: SigningKeys,
    evaluator: Evaluator,
    metrics: Metrics,
    settings: Arc<Settings>,
    /// By this process.
    challenges_made: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Settings {
    config: Config,
    origins: Origins,
    operators: HashSet<Address>,
}

impl Engine {
    /// Over an open database. Makes the first signing key when there is none.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn new(
        db: Database,
        config: Config,
        origins: Origins,
        operators: HashSet<Address>,
        evaluator: Evaluator,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let keys = SigningKeys::open(&db, config.key_rotation_days).await?;
        let mut tx = db.begin().await?;
        accounts::forget_listed(&mut tx, operators.iter().copied(), config.role_of_new()).await?;
        tx.commit().await?;
        let settings = Arc::new(Settings { config, origins, operators });
        let engine = Self { db, keys, evaluator, metrics, settings, challenges_made: Arc::default() };
        engine.tell_unlisted().await?;
        Ok(engine)
    }

    /// Forgets what has expired.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn sweep(&self) -> Result<(), Error> {
        let now = now_ms();
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM challenges WHERE expires_at <= $1").bind(now).execute(&mut *tx).await?;
        let over = sqlx::query_scalar("DELETE FROM refresh_tokens WHERE expires_at <= $1 RETURNING sign_in_id");
        let sign_ins: BTreeSet<String> = over.bind(now).fetch_all(&mut *tx).await?.into_iter().collect();
        for sign_in in sign_ins {
            sqlx::query("DELETE FROM sign_ins WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM refresh_tokens WHERE sign_in_id = $1)")
                .bind(sign_in)
                .execute(&mut *tx)
                .await?;
        }
        Ok(tx.commit().await?)
    }
}
