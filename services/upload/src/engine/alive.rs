//! Keeps an upload from expiring while somebody works on it, and hears of its end on another replica.

use std::{convert::Infallible, time::Duration};

use streamgate_core::time::now_ms;
use tokio_util::sync::CancellationToken;

use crate::{
    Error,
    engine::{Engine, rows},
};

/// How often a call that works on an upload gives a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(60);

impl Engine {
    /// Does `work` on an upload. It does not expire meanwhile, however long that takes, and `stop` is cancelled when somebody
    /// else ends it: another replica can't ask for this one's slots.
    pub(super) async fn while_alive<T>(&self, id: &str, stop: &CancellationToken, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            done = work => done,
            never = self.stay_alive(id, stop) => match never {},
        }
    }

    async fn stay_alive(&self, id: &str, stop: &CancellationToken) -> Infallible {
        let life = Duration::from_millis(self.shared.config.expire_after_ms);
        loop {
            tokio::time::sleep(SIGN_OF_LIFE.min(life / 4)).await;
            match self.give_sign_of_life(id).await {
                Ok(true) => {}
                Ok(false) => {
                    stop.cancel();
                    return std::future::pending().await;
                }
                Err(error) => {
                    tracing::debug!(upload_id = id, error = &error as &dyn std::error::Error, "a sign of life is given later");
                }
            }
        }
    }

    /// Sets the expiry anew. `false` when the upload is not open any more.
    async fn give_sign_of_life(&self, id: &str) -> Result<bool, Error> {
        let expires = now_ms().saturating_add(self.shared.config.expire_after());
        let mut tx = self.shared.db.begin().await?;
        let is_open = rows::renew(&mut tx, id, expires).await?;
        tx.commit().await?;
        Ok(is_open)
    }
}
