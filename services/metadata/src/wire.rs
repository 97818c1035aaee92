//! Titles as they stand on the wire.

use streamgate_core::time::to_timestamp;
use streamgate_proto::streamgate::{gate::v1::Rule, metadata::v1 as pb};

use crate::{
    Error,
    engine::{Content, Facet, StoredGate},
};

/// A gate and its hash, both empty without one.
pub(crate) fn gate(gate: Option<StoredGate>) -> Result<(Option<Rule>, String), Error> {
    match gate {
        Some(stored) => Ok((Some(stored.rule()?), stored.hash)),
        None => Ok((None, String::new())),
    }
}

/// Titles in order.
pub(crate) fn contents(contents: Vec<Content>) -> Result<Vec<pb::Content>, Error> {
    contents.into_iter().map(pb::Content::try_from).collect()
}

/// What was counted.
pub(crate) fn facet(facet: Facet) -> pb::Facet {
    let values = facet.values.into_iter().map(|(value, count)| pb::FacetValue { value, count });
    pb::Facet { name: facet.name.as_str().to_owned(), values: values.collect() }
}

impl TryFrom<Content> for pb::Content {
    type Error = Error;

    fn try_from(content: Content) -> Result<Self, Error> {
        let etag = content.etag();
        let stage = content.stage;
        let (gate, gate_hash) = gate(content.gate)?;
        let is_errored = !stage.error_reason.is_empty();
        Ok(Self {
            content_id: content.content_id,
            owner: content.owner,
            title: content.title,
            description: content.description,
            tags: content.tags,
            status: stage.status.to_string(),
            progress: stage.progress,
            playable: stage.playable,
            playback_ids: content.playback_ids,
            gate,
            gate_hash,
            error: is_errored.then_some(pb::ContentError { reason: stage.error_reason, detail: stage.error_detail }),
            duration_ms: stage.duration_ms,
            width: stage.width,
            height: stage.height,
            create_time: Some(to_timestamp(content.create_ms)),
            update_time: Some(to_timestamp(content.update_ms)),
            revision: content.revision,
            etag,
            attributes: content.attributes.into_iter().collect(),
            delete_time: content.delete_ms.map(to_timestamp),
            purge_time: content.purge_ms.map(to_timestamp),
        })
    }
}
