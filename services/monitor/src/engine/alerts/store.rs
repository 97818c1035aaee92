//! Alerts as they lie in the database, and their events.

use streamgate_core::{ids::AlertId, page::Page, time::UnixMillis};
use streamgate_proto::streamgate::events::v1::{AlertResolved, AlertTriggered, event::Payload};
use streamgate_store::{Database, Outbox, Transaction};

use super::{AlertState, Observation, Open, Rule};
use crate::{Error, engine::filter::Filter};

/// Resolved alerts are forgotten after this.
const KEEP_RESOLVED_MS: i64 = 90 * 24 * 60 * 60 * 1000;

const SELECT: &str = "SELECT alert_id, rule, target, severity, state, summary, value, threshold, pending_ms, firing_ms, clear_ms, \
                      acknowledged_ms, acknowledged_by, note, resolved_ms FROM alerts";

/// An alert.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Alert {
    /// Its id.
    pub alert_id: String,
    /// Name of its rule.
    pub rule: String,
    /// What it is about.
    pub target: String,
    /// How grave it is.
    pub severity: String,
    /// Word of its state.
    pub state: String,
    /// One sentence for a person.
    pub summary: String,
    /// The value when it last changed its state.
    pub value: f64,
    /// What the value is compared with.
    pub threshold: f64,
    /// Since when the value is above.
    pub pending_ms: UnixMillis,
    /// Since when it fires.
    pub firing_ms: Option<UnixMillis>,
    /// Since when the value is not above any more.
    pub clear_ms: Option<UnixMillis>,
    /// When somebody said that it was seen.
    pub acknowledged_ms: Option<UnixMillis>,
    /// Who.
    pub acknowledged_by: String,
    /// What it wrote.
    pub note: String,
    /// When it was over.
    pub resolved_ms: Option<UnixMillis>,
}

impl Alert {
    /// Its state.
    #[must_use]
    pub fn state(&self) -> AlertState {
        // Only words of ours are ever stored.
        AlertState::of_word(&self.state).unwrap_or(AlertState::Resolved)
    }

    /// What deciding its next step needs.
    #[must_use]
    pub fn open(&self) -> Open {
        Open { state: self.state(), pending_ms: self.pending_ms, clear_ms: self.clear_ms }
    }
}

/// Keeps alerts. Cheap to clone. Every change of state is conditional, so that replicas of the
/// monitor tell of it once.
#[derive(Debug, Clone)]
pub struct AlertStore {
    db: Database,
    outbox: Outbox,
}

impl AlertStore {
    /// Alerts in `db`, whose events leave through `outbox`.
    #[must_use]
    pub const fn new(db: Database, outbox: Outbox) -> Self {
        Self { db, outbox }
    }

    /// All that are not resolved; at most one for each rule and target.
    ///
    /// # Errors
    /// What the database says.
    pub async fn open(&self) -> Result<Vec<Alert>, Error> {
        let filter = Filter::default();
        Ok(filter.query(SELECT, "AND state <> 'resolved' ORDER BY alert_id").fetch_all(self.db.pool()).await?)
    }

    /// Alerts, newest first.
    ///
    /// # Errors
    /// A wrong page, or what the database says.
    pub async fn list(
        &self,
        state: Option<AlertState>,
        rule: &str,
        size: u32,
        token: &str,
    ) -> Result<(Vec<Alert>, String), Error> {
        let mut filter = Filter::default();
        filter.text("state = {}", state.map_or("", AlertState::as_str));
        filter.text("rule = {}", rule);
        let words = filter.words();
        let page = Page::parse(size, token, &words)?;
        filter.text("alert_id < {}", page.after.as_deref().unwrap_or_default());
        let tail = format!("ORDER BY alert_id DESC LIMIT {}", page.size + 1);
        let rows: Vec<Alert> = filter.query(SELECT, &tail).fetch_all(self.db.pool()).await?;
        Ok(page.cut(rows, |alert| alert.alert_id.clone(), &words))
    }

    /// Begins an alert; nothing happens when there is one already.
    ///
    /// # Errors
    /// What the database says.
    pub async fn begin(&self, rule: &Rule, seen: &Observation, now: UnixMillis) -> Result<(), Error> {
        let mut tx = self.db.begin_shared().await?;
        sqlx::query(
            "INSERT INTO alerts (alert_id, rule, target, severity, state, summary, value, threshold, pending_ms) \
             VALUES ($1, $2, $3, $4, 'pending', $5, $6, $7, $8) ON CONFLICT DO NOTHING",
        )
        .bind(AlertId::new().as_str())
        .bind(&rule.name)
        .bind(&seen.target)
        .bind(rule.severity.as_str())
        .bind(&seen.summary)
        .bind(seen.value)
        .bind(rule.threshold)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Forgets a pending alert.
    ///
    /// # Errors
    /// What the database says.
    pub async fn forget(&self, alert: &Alert) -> Result<(), Error> {
        let mut tx = self.db.begin_shared().await?;
        sqlx::query("DELETE FROM alerts WHERE alert_id = $1 AND state = 'pending'")
            .bind(&alert.alert_id)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Lets a pending alert fire, and tells of it. Says whether it was this call.
    ///
    /// # Errors
    /// What the database says.
    pub async fn fire(&self, alert: &Alert, seen: &Observation, now: UnixMillis) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let done = sqlx::query(
            "UPDATE alerts SET state = 'firing', firing_ms = $2, summary = $3, value = $4 WHERE alert_id = $1 AND state = 'pending'",
        )
        .bind(&alert.alert_id)
        .bind(now)
        .bind(&seen.summary)
        .bind(seen.value)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let told = AlertTriggered {
            alert_id: alert.alert_id.clone(),
            rule: alert.rule.clone(),
            severity: alert.severity.clone(),
            service: alert.target.clone(),
            summary: seen.summary.clone(),
            value: seen.value,
            threshold: alert.threshold,
        };
        self.tell(&mut tx, alert, Payload::AlertTriggered(told)).await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Notes since when the value of a firing alert is away, or that it is above again.
    ///
    /// # Errors
    /// What the database says.
    pub async fn set_clear(&self, alert: &Alert, since: Option<UnixMillis>) -> Result<(), Error> {
        let mut tx = self.db.begin_shared().await?;
        sqlx::query("UPDATE alerts SET clear_ms = $2 WHERE alert_id = $1 AND state IN ('firing', 'acknowledged')")
            .bind(&alert.alert_id)
            .bind(since)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Ends an alert, and tells of it. Says whether it was this call.
    ///
    /// # Errors
    /// What the database says.
    pub async fn resolve(&self, alert: &Alert, now: UnixMillis) -> Result<bool, Error> {
        let mut tx = self.db.begin().await?;
        let done = sqlx::query(
            "UPDATE alerts SET state = 'resolved', resolved_ms = $2 WHERE alert_id = $1 AND state IN ('firing', 'acknowledged')",
        )
        .bind(&alert.alert_id)
        .bind(now)
        .execute(&mut *tx)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        let active_ms = now.saturating_sub(alert.firing_ms.unwrap_or(alert.pending_ms));
        let told = AlertResolved {
            alert_id: alert.alert_id.clone(),
            rule: alert.rule.clone(),
            severity: alert.severity.clone(),
            service: alert.target.clone(),
            active_ms: u64::try_from(active_ms).unwrap_or_default(),
        };
        self.tell(&mut tx, alert, Payload::AlertResolved(told)).await?;
        tx.commit().await?;
        Ok(true)
    }

    async fn tell(&self, tx: &mut Transaction, alert: &Alert, payload: Payload) -> Result<(), Error> {
        self.outbox.add(tx, &alert.alert_id, payload).await?;
        Ok(())
    }

    /// Notes that somebody has seen a firing alert. One that was seen before stays as it is.
    ///
    /// # Errors
    /// No such alert, one that does not fire, or what the database says.
    pub async fn acknowledge(&self, id: &AlertId, by: &str, note: &str, now: UnixMillis) -> Result<Alert, Error> {
        let mut tx = self.db.begin().await?;
        sqlx::query(
            "UPDATE alerts SET state = 'acknowledged', acknowledged_ms = $2, acknowledged_by = $3, note = $4 \
             WHERE alert_id = $1 AND state = 'firing'",
        )
        .bind(id.as_str())
        .bind(now)
        .bind(by)
        .bind(note)
        .execute(&mut *tx)
        .await?;
        let mut filter = Filter::default();
        filter.text("alert_id = {}", id.as_str());
        let alert: Option<Alert> = filter.query(SELECT, "").fetch_optional(&mut *tx).await?;
        let alert = alert.ok_or_else(|| Error::UnknownAlert(id.clone()))?;
        if alert.state() != AlertState::Acknowledged {
            return Err(Error::NotFiring(alert.state()));
        }
        tx.commit().await?;
        Ok(alert)
    }

    /// Forgets alerts that were resolved long ago.
    ///
    /// # Errors
    /// What the database says.
    pub async fn prune(&self, now: UnixMillis) -> Result<(), Error> {
        let mut tx = self.db.begin_shared().await?;
        sqlx::query("DELETE FROM alerts WHERE state = 'resolved' AND resolved_ms < $1")
            .bind(now.saturating_sub(KEEP_RESOLVED_MS))
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }
}
