//! Media that nobody plays any more.

use streamgate_core::time::now_ms;
use streamgate_store::{BlobKey, Transaction};

use super::Engine;
use crate::Error;

/// Titles or versions that one round purges. Those that can't be purged don't count: there may be more of them.
const MOST_AT_ONCE: usize = 50;
/// Titles or versions that are looked up at once.
const PAGE: usize = 50;

/// What has become of the purges of one round.
#[derive(Debug)]
struct Round {
    purged: usize,
    first_trouble: Result<(), Error>,
}

impl Round {
    const fn new() -> Self {
        Self { purged: 0, first_trouble: Ok(()) }
    }

    /// Notes a purge. One that fails holds up no other, unless the others meet the same.
    fn note(&mut self, purge: Result<(), Error>) -> Result<(), Error> {
        match purge {
            Ok(()) => self.purged += 1,
            Err(error) if error.is_of_all_jobs() => return Err(error),
            Err(error) if self.first_trouble.is_ok() => self.first_trouble = Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    /// Whether a page of so many was the last to look at.
    const fn ends_with(&self, page: usize) -> bool {
        page < PAGE || self.purged >= MOST_AT_ONCE
    }
}

impl Engine {
    /// Deletes the media of titles that are gone, once nobody makes more of it.
    ///
    /// # Errors
    /// The stores'; it is tried again.
    pub async fn purge(&self) -> Result<(), Error> {
        let (mut round, mut last) = (Round::new(), String::new());
        loop {
            let query = sqlx::query_scalar(
                "SELECT content_id FROM deleted_contents d WHERE pending = 1 AND content_id > $1 AND NOT EXISTS \
                 (SELECT 1 FROM jobs j WHERE j.content_id = d.content_id AND j.state IN ('queued', 'running')) \
                 ORDER BY content_id LIMIT $2",
            );
            let gone: Vec<String> = query.bind(&last).bind(page_size()).fetch_all(self.db.pool()).await?;
            for content in &gone {
                round.note(self.purge_content(content).await)?;
            }
            if round.ends_with(gone.len()) {
                return round.first_trouble;
            }
            last = gone.last().cloned().unwrap_or_default();
        }
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
        let before = now_ms() - self.limits.keep_superseded_ms;
        let (mut round, mut last) = (Round::new(), (0, 0));
        loop {
            let query = sqlx::query_as(
                "SELECT superseded_ms, seq, job_id, content_id FROM jobs WHERE superseded_ms > 0 AND superseded_ms <= $1 AND purged < 2 \
                 AND state NOT IN ('queued', 'running') AND (superseded_ms, seq) > ($2, $3) ORDER BY superseded_ms, seq LIMIT $4",
            );
            let query = query.bind(before).bind(last.0).bind(last.1).bind(page_size());
            let old: Vec<(i64, i64, String, String)> = query.fetch_all(self.db.pool()).await?;
            for (_, _, job_id, content_id) in &old {
                round.note(self.purge_version(job_id, content_id).await)?;
            }
            if round.ends_with(old.len()) {
                return round.first_trouble.map(|()| round.purged);
            }
            last = old.last().map_or(last, |(superseded_ms, seq, ..)| (*superseded_ms, *seq));
        }
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

fn page_size() -> i64 {
    i64::try_from(PAGE).unwrap_or(i64::MAX)
}

async fn mark(tx: &mut Transaction, job_id: &str, purged: i64) -> Result<(), Error> {
    let query = sqlx::query("UPDATE jobs SET purged = $1 WHERE job_id = $2").bind(purged).bind(job_id);
    query.execute(&mut **tx).await?;
    Ok(())
}
