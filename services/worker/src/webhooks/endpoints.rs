//! Where events are sent to.

use sqlx::AnyConnection;
use streamgate_core::{
    Caller, Failure,
    events::TYPES,
    ids::WebhookId,
    page::Page,
    time::{UnixMillis, now_ms},
};

use super::{
    Webhooks,
    rows::{Endpoint, EndpointRow, select_endpoints},
    signature::Secret,
};
use crate::Error;

/// Endpoints of one account: each costs a delivery for each event.
const MAX_ENDPOINTS: i64 = 50;
/// Characters of a description.
const MAX_DESCRIPTION: usize = 500;
/// How long the secret before signs beside a new one.
const OVERLAP_MS: i64 = 24 * 60 * 60 * 1000;

/// An endpoint to make.
#[derive(Debug, Clone, Default)]
pub struct NewEndpoint {
    /// Where to.
    pub url: String,
    /// What its owner says of it.
    pub description: String,
    /// Which events; none means all.
    pub event_types: Vec<String>,
    /// Everybody's events.
    pub all_owners: bool,
}

/// What changes; the rest stays.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Where to.
    pub url: Option<String>,
    /// What its owner says of it.
    pub description: Option<String>,
    /// Which events.
    pub event_types: Option<Vec<String>>,
    /// It gets events at all.
    pub enabled: Option<bool>,
}

/// One page of endpoints.
#[derive(Debug, Clone)]
pub struct EndpointPage {
    /// The endpoints, newest first.
    pub endpoints: Vec<Endpoint>,
    /// Token of the next page; empty on the last one.
    pub next_page_token: String,
}

impl Webhooks {
    /// Makes an endpoint; gives it with its secret.
    ///
    /// # Errors
    /// What is wrong with it, or too many of them.
    pub async fn create(&self, caller: &Caller, new: NewEndpoint) -> Result<(Endpoint, Secret), Error> {
        let account = caller.account().ok_or(Error::NoAccount)?;
        if new.all_owners && !caller.is_operator() {
            return Err(Failure::invalid_field("all_owners", "is for operators").into());
        }
        let (url, description, types) = (self.url(&new.url)?, description(new.description)?, event_types(new.event_types)?);
        let (now, secret) = (now_ms(), Secret::generate()?);
        let id = WebhookId::new();
        let mut tx = self.db().begin().await?;
        let (count,): (i64,) = sqlx::query_as("SELECT count(*) FROM webhook_endpoints WHERE owner = $1")
            .bind(account.id.as_str())
            .fetch_one(&mut *tx)
            .await?;
        if count >= MAX_ENDPOINTS {
            return Err(Error::TooManyEndpoints(MAX_ENDPOINTS));
        }
        sqlx::query(
            "INSERT INTO webhook_endpoints (endpoint_id, owner, all_owners, url, description, event_types, secret, enabled, create_ms, update_ms) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 1, $8, $8)",
        )
        .bind(id.as_str())
        .bind(account.id.as_str())
        .bind(i64::from(new.all_owners))
        .bind(url)
        .bind(description)
        .bind(types)
        .bind(secret.to_store().to_vec())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        let endpoint = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        tracing::info!(endpoint_id = %id, "a webhook endpoint was made");
        Ok((endpoint, secret))
    }

    fn url(&self, text: &str) -> Result<String, Failure> {
        self.guard.check_url(text).map(String::from).map_err(|refused| Failure::invalid_field("url", refused.to_string()))
    }

    /// One of the caller's endpoints.
    ///
    /// # Errors
    /// When there is none, or it is somebody else's.
    pub async fn endpoint(&self, caller: &Caller, id: &WebhookId) -> Result<Endpoint, Error> {
        own(&mut *self.db().pool().acquire().await?, caller, id.as_str()).await
    }

    /// The caller's endpoints, newest first; an operator's list holds all.
    ///
    /// # Errors
    /// When the page is not one of this list.
    pub async fn list(&self, caller: &Caller, size: u32, token: &str) -> Result<EndpointPage, Error> {
        let owner = if caller.is_operator() || caller.is_service() {
            ""
        } else {
            caller.account().map_or("-", |account| account.id.as_str())
        };
        let mark = format!("webhooks of {owner}");
        let page = Page::parse(size, token, &mark)?;
        let query = if owner.is_empty() {
            select_endpoints!("WHERE endpoint_id < $1 AND $2 = '' ORDER BY endpoint_id DESC LIMIT $3")
        } else {
            select_endpoints!("WHERE endpoint_id < $1 AND owner = $2 ORDER BY endpoint_id DESC LIMIT $3")
        };
        let rows: Vec<EndpointRow> = sqlx::query_as(query)
            .bind(page.after.clone().unwrap_or_else(|| "~".to_owned()))
            .bind(owner)
            .bind(i64::from(page.size) + 1)
            .fetch_all(self.db().pool())
            .await?;
        let endpoints = rows.into_iter().map(Endpoint::from).collect();
        let (endpoints, next_page_token) = page.cut(endpoints, |endpoint: &Endpoint| endpoint.endpoint_id.clone(), &mark);
        Ok(EndpointPage { endpoints, next_page_token })
    }

    /// Changes one of the caller's endpoints. One that is enabled again begins without its past failures.
    ///
    /// # Errors
    /// What is wrong with the changes, or no such endpoint.
    pub async fn update(&self, caller: &Caller, id: &WebhookId, changes: Changes) -> Result<Endpoint, Error> {
        let url = changes.url.map(|url| self.url(&url)).transpose()?;
        let description = changes.description.map(description).transpose()?;
        let types = changes.event_types.map(event_types).transpose()?;
        let mut tx = self.db().begin().await?;
        let known = own(&mut tx, caller, id.as_str()).await?;
        let enables = changes.enabled.unwrap_or(known.enabled);
        let (reason, failing) =
            if changes.enabled.is_some() { (String::new(), None) } else { (known.disabled_reason, known.failing_ms) };
        sqlx::query(
            "UPDATE webhook_endpoints SET url = $2, description = $3, event_types = $4, enabled = $5, disabled_reason = $6, failing_ms = $7, \
             update_ms = $8 WHERE endpoint_id = $1",
        )
        .bind(id.as_str())
        .bind(url.unwrap_or(known.url))
        .bind(description.unwrap_or(known.description))
        .bind(types.unwrap_or_else(|| known.event_types.join("\n")))
        .bind(i64::from(enables))
        .bind(reason)
        .bind(failing)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        let endpoint = find(&mut tx, id.as_str()).await?;
        tx.commit().await?;
        Ok(endpoint)
    }

    /// Ends one of the caller's endpoints with all its deliveries.
    ///
    /// # Errors
    /// When there is none, or it is somebody else's.
    pub async fn delete(&self, caller: &Caller, id: &WebhookId) -> Result<(), Error> {
        let mut tx = self.db().begin().await?;
        own(&mut tx, caller, id.as_str()).await?;
        sqlx::query("DELETE FROM webhook_endpoints WHERE endpoint_id = $1").bind(id.as_str()).execute(&mut *tx).await?;
        tx.commit().await?;
        tracing::info!(endpoint_id = %id, "a webhook endpoint was ended");
        Ok(())
    }

    /// Makes a new secret; gives it, and until when the one before signs too.
    ///
    /// # Errors
    /// When there is no such endpoint.
    pub async fn rotate(&self, caller: &Caller, id: &WebhookId) -> Result<(Secret, UnixMillis), Error> {
        let (secret, until) = (Secret::generate()?, now_ms() + OVERLAP_MS);
        let mut tx = self.db().begin().await?;
        own(&mut tx, caller, id.as_str()).await?;
        sqlx::query(
            "UPDATE webhook_endpoints SET old_secret = secret, old_secret_ms = $3, secret = $2, update_ms = $4 WHERE endpoint_id = $1",
        )
        .bind(id.as_str())
        .bind(secret.to_store().to_vec())
        .bind(until)
        .bind(now_ms())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        tracing::info!(endpoint_id = %id, "a webhook endpoint was given a new secret");
        Ok((secret, until))
    }
}

/// An endpoint, whoever's it is.
pub(super) async fn find(connection: &mut AnyConnection, id: &str) -> Result<Endpoint, Error> {
    let row: Option<EndpointRow> =
        sqlx::query_as(select_endpoints!("WHERE endpoint_id = $1")).bind(id).fetch_optional(connection).await?;
    row.map(Endpoint::from).ok_or_else(|| Error::UnknownEndpoint(id.to_owned()))
}

/// An endpoint that the caller may see: a foreign one does not exist to them.
pub(super) async fn own(connection: &mut AnyConnection, caller: &Caller, id: &str) -> Result<Endpoint, Error> {
    let endpoint = find(connection, id).await?;
    if caller.may_act_for(&endpoint.owner) { Ok(endpoint) } else { Err(Error::UnknownEndpoint(id.to_owned())) }
}

fn description(text: String) -> Result<String, Failure> {
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(char::is_control) {
        return Err(Failure::invalid_field(
            "description",
            format!("must have at most {MAX_DESCRIPTION} characters, on one line"),
        ));
    }
    Ok(text)
}

/// The types, one a line, each once.
fn event_types(mut types: Vec<String>) -> Result<String, Failure> {
    if let Some(place) = types.iter().position(|wanted| !TYPES.contains(&wanted.as_str())) {
        return Err(Failure::invalid_field(format!("event_types[{place}]"), format!("must be one of: {}", TYPES.join(", "))));
    }
    types.sort_unstable();
    types.dedup();
    Ok(types.join("\n"))
}
