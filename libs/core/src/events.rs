//! Which events there are, and which services hear of them.

use std::fmt;

use streamgate_proto::streamgate::events::v1::event::Payload;

use crate::service::ServiceName;

/// What stands before a type in an envelope's `type` and in a broker's subjects.
pub const PREFIX: &str = "streamgate.";

/// The types that the platform promises to tell, without their prefix.
pub const TYPES: [&str; 18] = [
    "file.uploaded",
    "transcoding.started",
    "transcoding.completed",
    "transcoding.failed",
    "streaming.started",
    "streaming.stopped",
    "metadata.created",
    "metadata.updated",
    "metadata.deleted",
    "job.submitted",
    "job.completed",
    "job.failed",
    "alert.triggered",
    "alert.resolved",
    "access.granted",
    "access.denied",
    "access.revoked",
    "rendition.ready",
];

/// How services speak to themselves; not promised to anybody outside.
pub const INTERNAL_TYPES: [&str; 4] = ["upload.abandoned", "transcoding.progressed", "gate.changed", "content.purged"];

/// The services that tell or hear of events.
pub const TELLERS: [ServiceName; 6] = [
    ServiceName::Upload,
    ServiceName::Transcoder,
    ServiceName::Streaming,
    ServiceName::Metadata,
    ServiceName::Worker,
    ServiceName::Monitor,
];

/// The type of an event without its prefix, such as `file.uploaded`.
#[must_use]
pub const fn event_type(payload: &Payload) -> &'static str {
    match payload {
        Payload::FileUploaded(_) => "file.uploaded",
        Payload::UploadAbandoned(_) => "upload.abandoned",
        Payload::TranscodingStarted(_) => "transcoding.started",
        Payload::TranscodingProgressed(_) => "transcoding.progressed",
        Payload::RenditionReady(_) => "rendition.ready",
        Payload::TranscodingCompleted(_) => "transcoding.completed",
        Payload::TranscodingFailed(_) => "transcoding.failed",
        Payload::MetadataCreated(_) => "metadata.created",
        Payload::MetadataUpdated(_) => "metadata.updated",
        Payload::MetadataDeleted(_) => "metadata.deleted",
        Payload::GateChanged(_) => "gate.changed",
        Payload::ContentPurged(_) => "content.purged",
        Payload::StreamingStarted(_) => "streaming.started",
        Payload::StreamingStopped(_) => "streaming.stopped",
        Payload::AccessGranted(_) => "access.granted",
        Payload::AccessDenied(_) => "access.denied",
        Payload::AccessRevoked(_) => "access.revoked",
        Payload::JobSubmitted(_) => "job.submitted",
        Payload::JobCompleted(_) => "job.completed",
        Payload::JobFailed(_) => "job.failed",
        Payload::AlertTriggered(_) => "alert.triggered",
        Payload::AlertResolved(_) => "alert.resolved",
    }
}

/// The services an event is delivered to. The worker hears of all that is promised, for its webhooks.
#[must_use]
pub const fn consumers(payload: &Payload) -> &'static [ServiceName] {
    match payload {
        Payload::FileUploaded(_) => &[ServiceName::Metadata, ServiceName::Transcoder, ServiceName::Worker],
        Payload::UploadAbandoned(_) | Payload::TranscodingProgressed(_) => &[ServiceName::Metadata],
        Payload::TranscodingStarted(_)
        | Payload::RenditionReady(_)
        | Payload::TranscodingCompleted(_)
        | Payload::TranscodingFailed(_) => &[ServiceName::Metadata, ServiceName::Worker],
        Payload::ContentPurged(_) => &[ServiceName::Upload, ServiceName::Transcoder],
        Payload::GateChanged(_) => &[ServiceName::Streaming],
        Payload::MetadataDeleted(_) => &[ServiceName::Streaming, ServiceName::Worker],
        Payload::MetadataCreated(_)
        | Payload::MetadataUpdated(_)
        | Payload::StreamingStarted(_)
        | Payload::StreamingStopped(_)
        | Payload::AccessGranted(_)
        | Payload::AccessDenied(_)
        | Payload::AccessRevoked(_)
        | Payload::JobSubmitted(_)
        | Payload::JobCompleted(_)
        | Payload::JobFailed(_)
        | Payload::AlertTriggered(_)
        | Payload::AlertResolved(_) => &[ServiceName::Worker],
    }
}

/// How events travel and how long they are kept, as it is configured.
#[derive(Clone, PartialEq, Eq)]
pub struct Settings {
    /// Servers of NATS, separated by commas. Events travel over gRPC when it is empty.
    pub nats_url: String,
    /// Copies of the stream that NATS keeps.
    pub nats_replicas: u8,
    /// How long an event that has arrived everywhere stays in the outbox, to be replayed.
    pub retain_hours: u32,
}

impl fmt::Debug for Settings {
    /// Without the address, which may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("has_broker", &!self.nats_url.is_empty())
            .field("retain_hours", &self.retain_hours)
            .finish_non_exhaustive()
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self { nats_url: String::new(), nats_replicas: 1, retain_hours: 7 * 24 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgate_proto::streamgate::events::v1 as pb;

    #[test]
    fn types_are_told_once_and_look_like_types() {
        let mut all: Vec<&str> = TYPES.iter().chain(&INTERNAL_TYPES).copied().collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), TYPES.len() + INTERNAL_TYPES.len());
        assert!(all.iter().all(|name| name.split('.').count() == 2), "{all:?}");
    }

    #[test]
    fn a_gate_that_changed_is_not_the_event_of_an_edit() {
        assert_eq!(event_type(&Payload::GateChanged(pb::GateChanged::default())), "gate.changed");
        assert_eq!(event_type(&Payload::MetadataUpdated(pb::MetadataUpdated::default())), "metadata.updated");
    }
}
