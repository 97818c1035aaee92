//! Which events there are, and which services hear of them.

use streamgate_proto::streamgate::events::v1::event::Payload;

use crate::service::ServiceName;

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
        Payload::MetadataDeleted(_) => "metadata.deleted",
        Payload::GateChanged(_) => "metadata.updated",
    }
}

/// The services an event is delivered to.
#[must_use]
pub const fn consumers(payload: &Payload) -> &'static [ServiceName] {
    match payload {
        Payload::FileUploaded(_) => &[ServiceName::Metadata, ServiceName::Transcoder],
        Payload::UploadAbandoned(_)
        | Payload::TranscodingStarted(_)
        | Payload::TranscodingProgressed(_)
        | Payload::RenditionReady(_)
        | Payload::TranscodingCompleted(_)
        | Payload::TranscodingFailed(_) => &[ServiceName::Metadata],
        Payload::MetadataDeleted(_) => &[ServiceName::Upload, ServiceName::Transcoder, ServiceName::Streaming],
        Payload::GateChanged(_) => &[ServiceName::Streaming],
    }
}
