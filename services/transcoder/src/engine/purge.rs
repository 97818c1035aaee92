//! Media that nobody plays any more.

use streamgate_core::time::now_ms;
use streamgate_store::{BlobKey, Transaction};

use super::Engine;
use crate::Error;

/// Titles or versions that one round purges.
const MOST_AT_ONCE: i64 = 50;

impl Engine {
    /// Deletes the media of titles that are gone, once nobody makes more of it.
    ///
    /// # Errors
    /// The stores'; it is tried again.
    pub async fn purge(&self) -> Result<(), Error> {
        let query = sqlx::query_scalar(
            "SELECT content_id FROM deleted_contents d WHERE pending = 1 AND NOT EXISTS \
             (SELECT 1 FROM jobs j WHERE j.content_id = d.content_id AND j.state IN ('queued', 'running')) LIMIT $1",
        );
        let gone: Vec<String> = query.bind(MOST_AT_ONCE).fetch_all(self.db.pool()).await?;
        let mut done = Ok(());
        for content in gone {
            // One that can't be deleted holds up no other.
            done = done.and(self.purge_content(&content).await);
        }
        done
    }

    async fn purge_content(&self, content: &str) -> Result<(), Error> {
        self.blobs.delete_prefix(&BlobKey::new(format!("media/{content}"))?).await?;
        let mut tx = self.db.begin().await?;
        sqlx::query("DELETE FROM jobs WHERE content_id = $1").bind(content).execute(&mut *tx).await?;
        sqlx::query("UPDATE deleted_contents SET pending = 0 WHERE content_id = $1").bind(content).execute(&mut *tx).await?;
        Ok(tx.commit().await?)
    }

    /// Deletes the media of versions that were superseded so long ago that no player is left that began with them.
    ///
    /// # Errors
    /// The stores'; it is tried again.
    pub async fn purge_superseded(&self) -> Result<usize, Error> {
        let query = sqlx::query_as(
            "SELECT job_id, content_id FROM jobs WHERE superseded_ms > 0 AND superseded_ms <= $1 AND purged < 2 \
             AND state NOT IN ('queued', 'running') LIMIT $2",
        );
        let before = now_ms() - self.limits.keep_superseded_ms;
        let old: Vec<(String, String)> = query.bind(before).bind(MOST_AT_ONCE).fetch_all(self.db.pool()).await?;
        let mut done = Ok(());
        for (job_id, content_id) in &old {
            done = done.and(self.purge_version(job_id, content_id).await);
        }
        done.map(|()| old.len())
    }

    async fn purge_version(&self, job_id: &str, content_id: &str) -> Result<(), Error> {
        // First nobody finds it any more, then it goes: a reader never meets a hole. The rows go last, so that a
        // purge that broke off is done again.
        let mut tx = self.db.begin().await?;
        mark(&mut tx, job_id, 1).await?;
        tx.commit().await?;
        self.blobs.delete_prefix(&BlobKey::new(format!("media/{content_id}/{job_id}"))?).await?;
        let mut tx = self.db.begin().await?;
        for statement in ["DELETE FROM segments WHERE job_id = $1", "DELETE FROM renditions WHERE job_id = $1"] {
            sqlx::query(statement).bind(job_id).execute(&mut *tx).await?;
        }
        mark(&mut tx, job_id, 2).await?;
        Ok(tx.commit().await?)
    }
}

async fn mark(tx: &mut Transaction, job_id: &str, purged: i64) -> Result<(), Error> {
    let query = sqlx::query("UPDATE jobs SET purged = $1 WHERE job_id = $2").bind(purged).bind(job_id);
    query.execute(&mut **tx).await?;
    Ok(())
}
