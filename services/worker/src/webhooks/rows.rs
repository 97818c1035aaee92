//! Endpoints, deliveries and attempts as they lie in the database.

use sqlx::FromRow;
use streamgate_core::time::UnixMillis;

use super::{sender::Attempt, signature::Secret};
use crate::Error;

/// Where events are sent to.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its id.
    pub endpoint_id: String,
    /// The account that made it.
    pub owner: String,
    /// It gets everybody's events.
    pub all_owners: bool,
    /// Where to.
    pub url: String,
    /// What its owner says of it.
    pub description: String,
    /// Which events; none means all.
    pub event_types: Vec<String>,
    /// It gets events at all.
    pub enabled: bool,
    /// Why not, when no account decided that.
    pub disabled_reason: String,
    /// Since when every attempt has failed.
    pub failing_ms: Option<UnixMillis>,
    /// When it was made.
    pub create_ms: UnixMillis,
    /// When it was last changed.
    pub update_ms: UnixMillis,
    pub(super) secret: Secret,
    pub(super) old_secret: Option<(Secret, UnixMillis)>,
}

impl Endpoint {
    /// Whether events of this type go there.
    pub(super) fn wants(&self, event_type: &str) -> bool {
        self.event_types.is_empty() || self.event_types.iter().any(|wanted| wanted == event_type)
    }

    /// The secrets that sign now, the newest first.
    pub(super) fn secrets(&self, now: UnixMillis) -> Vec<Secret> {
        let old = self.old_secret.as_ref().filter(|(_, until)| now < *until).map(|(secret, _)| secret.clone());
        [Some(self.secret.clone()), old].into_iter().flatten().collect()
    }
}

macro_rules! select_endpoints {
    ($tail:literal) => {
        concat!(
            "SELECT endpoint_id, owner, all_owners, url, description, event_types, secret, old_secret, old_secret_ms, enabled, \
             disabled_reason, failing_ms, create_ms, update_ms FROM webhook_endpoints ",
            $tail
        )
    };
}
pub(super) use select_endpoints;

#[derive(FromRow)]
pub(super) struct EndpointRow {
    endpoint_id: String,
    owner: String,
    all_owners: i64,
    url: String,
    description: String,
    event_types: String,
    secret: Vec<u8>,
    old_secret: Option<Vec<u8>>,
    old_secret_ms: Option<i64>,
    enabled: i64,
    disabled_reason: String,
    failing_ms: Option<i64>,
    create_ms: i64,
    update_ms: i64,
}

impl From<EndpointRow> for Endpoint {
    fn from(row: EndpointRow) -> Self {
        Self {
            endpoint_id: row.endpoint_id,
            owner: row.owner,
            all_owners: row.all_owners != 0,
            url: row.url,
            description: row.description,
            event_types: row.event_types.lines().map(str::to_owned).collect(),
            enabled: row.enabled != 0,
            disabled_reason: row.disabled_reason,
            failing_ms: row.failing_ms,
            create_ms: row.create_ms,
            update_ms: row.update_ms,
            secret: Secret::stored(row.secret),
            old_secret: row.old_secret.map(Secret::stored).zip(row.old_secret_ms),
        }
    }
}

/// Where a delivery stands. The numbers are those of the contract's `DeliveryState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is tried.
    Pending = 1,
    /// The receiver took it.
    Delivered = 2,
    /// Given up.
    Failed = 3,
}

impl DeliveryState {
    /// The state with this number.
    #[must_use]
    pub const fn of_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Pending),
            2 => Some(Self::Delivered),
            3 => Some(Self::Failed),
            _ => None,
        }
    }
}

/// One event on its way to one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub delivery_id: String,
    /// Where to.
    pub endpoint_id: String,
    /// What.
    pub message_id: String,
    /// Of which type.
    pub event_type: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts made.
    pub attempts: u32,
    /// When it was made.
    pub create_ms: UnixMillis,
    /// When it ended.
    pub end_ms: Option<UnixMillis>,
    /// The last attempt.
    pub last_attempt: Option<Attempt>,
}

macro_rules! select_deliveries {
    ($tail:literal) => {
        concat!(
            "SELECT d.delivery_id, d.endpoint_id, d.message_id, d.event_type, d.state, d.attempts, d.create_ms, d.end_ms, \
             a.at_ms, a.status, a.latency_ms, a.error, a.response FROM webhook_deliveries d LEFT JOIN webhook_attempts a ON a.attempt_id = \
             (SELECT max(newest.attempt_id) FROM webhook_attempts newest WHERE newest.delivery_id = d.delivery_id) ",
            $tail
        )
    };
}
pub(super) use select_deliveries;

#[derive(FromRow)]
pub(super) struct DeliveryRow {
    delivery_id: String,
    endpoint_id: String,
    message_id: String,
    event_type: String,
    state: i64,
    attempts: i64,
    create_ms: i64,
    end_ms: Option<i64>,
    at_ms: Option<i64>,
    status: Option<i64>,
    latency_ms: Option<i64>,
    error: Option<String>,
    response: Option<String>,
}

#[derive(FromRow)]
pub(super) struct AttemptRow {
    at_ms: i64,
    status: i64,
    latency_ms: i64,
    error: String,
    response: String,
}

impl From<AttemptRow> for Attempt {
    fn from(row: AttemptRow) -> Self {
        Self {
            at_ms: row.at_ms,
            status: u16::try_from(row.status).ok().filter(|status| *status > 0),
            latency_ms: u32::try_from(row.latency_ms).unwrap_or(u32::MAX),
            error: row.error,
            response: row.response,
        }
    }
}

impl TryFrom<DeliveryRow> for Delivery {
    type Error = Error;

    fn try_from(row: DeliveryRow) -> Result<Self, Error> {
        let state = DeliveryState::of_number(row.state).ok_or_else(|| Error::CorruptRow(row.delivery_id.clone()))?;
        let last_attempt = match (row.at_ms, row.status, row.latency_ms, row.error, row.response) {
            (Some(at_ms), Some(status), Some(latency_ms), Some(error), Some(response)) => {
                Some(AttemptRow { at_ms, status, latency_ms, error, response }.into())
            }
            _ => None,
        };
        Ok(Self {
            delivery_id: row.delivery_id,
            endpoint_id: row.endpoint_id,
            message_id: row.message_id,
            event_type: row.event_type,
            state,
            attempts: u32::try_from(row.attempts).unwrap_or(u32::MAX),
            create_ms: row.create_ms,
            end_ms: row.end_ms,
            last_attempt,
        })
    }
}
