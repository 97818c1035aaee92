//! Titles as they lie in the database, and as the rest of the service sees them.

use std::collections::BTreeMap;

use prost::Message as _;
use sqlx::{AnyConnection, FromRow};
use streamgate_core::{gate::Gate, ids::ContentId, time::UnixMillis};
use streamgate_proto::streamgate::gate::v1::Rule;

use super::{
    filter::Sql,
    status::{Stage, Status},
};
use crate::Error;

/// Begins a query for whole titles `c`.
pub(super) const SELECT: &str = "SELECT c.content_id, c.owner, c.title, c.title_key, c.description, c.tags, c.attributes, \
     c.status, c.progress, c.playable, c.job_id, c.job_mark, c.error_reason, c.error_detail, c.duration_ms, c.width, c.height, c.gate, \
     c.gate_hash, c.create_ms, c.update_ms, c.revision, c.request_hash, c.delete_ms, c.purge_ms, c.purged, \
     (SELECT string_agg(p.playback_id, ' ' ORDER BY p.create_ms, p.playback_id) FROM playback_ids p \
      WHERE p.content_id = c.content_id AND p.delete_ms IS NULL) AS playback_ids ";

/// A gate as it is stored: its canonical encoding and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGate {
    /// An encoded `Rule`.
    pub encoded: Vec<u8>,
    /// Hex SHA-256 of the canonical form.
    pub hash: String,
}

impl StoredGate {
    /// The stored form of `gate`.
    #[must_use]
    pub fn of(gate: Gate) -> Self {
        let hash = gate.hash();
        Self { encoded: Rule::from(gate).encode_to_vec(), hash }
    }

    /// The gate on the wire.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub fn rule(&self) -> Result<Rule, Error> {
        Rule::decode(self.encoded.as_slice()).map_err(|_| Error::CorruptGate(self.hash.clone()))
    }

    /// The gate as a strict tree. A gate that this version can't read opens nothing.
    ///
    /// # Errors
    /// When the bytes are damaged, or are no valid gate.
    pub fn gate(&self) -> Result<Gate, Error> {
        Gate::try_from(self.rule()?).map_err(|_| Error::CorruptGate(self.hash.clone()))
    }
}

/// A title.
#[derive(Debug, Clone, PartialEq)]
pub struct Content {
    /// Private id.
    pub content_id: String,
    /// Account that owns it.
    pub owner: String,
    /// One line.
    pub title: String,
    /// Free text.
    pub description: String,
    /// Without repeats.
    pub tags: Vec<String>,
    /// How far it is.
    pub stage: Stage,
    /// Who may play, if anybody but the owner.
    pub gate: Option<StoredGate>,
    /// Public ids, oldest first.
    pub playback_ids: Vec<String>,
    /// When it was made.
    pub create_ms: UnixMillis,
    /// When it last changed.
    pub update_ms: UnixMillis,
    /// Grows with every change but progress.
    pub revision: u64,
    /// The owner's own names and values.
    pub attributes: BTreeMap<String, String>,
    /// When it was deleted.
    pub delete_ms: Option<UnixMillis>,
    /// Until when it can be brought back, once it was deleted.
    pub purge_ms: Option<UnixMillis>,
    /// Whether it was ended for good.
    pub is_purged: bool,
    pub(super) title_key: String,
    pub(super) request_hash: String,
}

impl Content {
    /// Names this state of the title. Progress is no state: it must not get into the way of an edit.
    #[must_use]
    pub fn etag(&self) -> String {
        format!("r{}", self.revision)
    }

    /// # Errors
    /// When the title has another etag than the one expected; absent and `*` mean any.
    pub(super) fn expect_etag(&self, etag: Option<&str>) -> Result<(), Error> {
        match etag {
            Some(etag) if etag != "*" && etag != self.etag() => Err(Error::EtagMismatch),
            _ => Ok(()),
        }
    }
}

#[derive(Debug, FromRow)]
pub(super) struct ContentRow {
    content_id: String,
    owner: String,
    title: String,
    title_key: String,
    description: String,
    tags: String,
    attributes: String,
    status: String,
    progress: f64,
    playable: i64,
    job_id: String,
    job_mark: String,
    error_reason: String,
    error_detail: String,
    duration_ms: i64,
    width: i64,
    height: i64,
    gate: Option<Vec<u8>>,
    gate_hash: String,
    create_ms: i64,
    update_ms: i64,
    revision: i64,
    request_hash: String,
    delete_ms: Option<i64>,
    purge_ms: Option<i64>,
    purged: i64,
    playback_ids: Option<String>,
}

impl TryFrom<ContentRow> for Content {
    type Error = Error;

    fn try_from(row: ContentRow) -> Result<Self, Error> {
        let corrupt = || Error::CorruptRow(row.content_id.clone());
        let status: Status = row.status.parse().map_err(|_| corrupt())?;
        let tags = serde_json::from_str(&row.tags).map_err(|_| corrupt())?;
        let attributes = serde_json::from_str(&row.attributes).map_err(|_| corrupt())?;
        let duration_ms = u64::try_from(row.duration_ms).map_err(|_| corrupt())?;
        let revision = u64::try_from(row.revision).map_err(|_| corrupt())?;
        Ok(Self {
            stage: Stage {
                status,
                progress: row.progress,
                playable: row.playable != 0,
                job_id: row.job_id,
                job_mark: row.job_mark,
                error_reason: row.error_reason,
                error_detail: row.error_detail,
                duration_ms,
                width: u32::try_from(row.width).map_err(|_| corrupt())?,
                height: u32::try_from(row.height).map_err(|_| corrupt())?,
            },
            gate: stored_gate(row.gate, row.gate_hash),
            playback_ids: row.playback_ids.iter().flat_map(|ids| ids.split(' ')).map(str::to_owned).collect(),
            content_id: row.content_id,
            owner: row.owner,
            title: row.title,
            description: row.description,
            tags,
            create_ms: row.create_ms,
            update_ms: row.update_ms,
            revision,
            attributes,
            delete_ms: row.delete_ms,
            purge_ms: row.purge_ms,
            is_purged: row.purged != 0,
            title_key: row.title_key,
            request_hash: row.request_hash,
        })
    }
}

pub(super) fn stored_gate(encoded: Option<Vec<u8>>, hash: String) -> Option<StoredGate> {
    encoded.map(|encoded| StoredGate { encoded, hash })
}

/// The title `id`, deleted or not.
pub(super) async fn find(connection: &mut AnyConnection, id: &ContentId) -> Result<Content, Error> {
    find_text(connection, id.as_str()).await
}

/// The same for an id that comes from the database itself.
pub(super) async fn find_text(connection: &mut AnyConnection, id: &str) -> Result<Content, Error> {
    let mut sql = Sql::new(SELECT);
    sql.with("FROM contents c WHERE c.content_id = ", id);
    let row: Option<ContentRow> = sql.rows().fetch_optional(connection).await?;
    row.ok_or_else(|| Error::UnknownContent(id.to_owned()))?.try_into()
}

/// A title's tags as they are stored.
pub(super) fn encode_tags(tags: &[String]) -> String {
    serde_json::Value::from(tags).to_string()
}

/// A title's attributes as they are stored.
pub(super) fn encode_attributes(attributes: &BTreeMap<String, String>) -> String {
    attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect::<serde_json::Value>().to_string()
}
