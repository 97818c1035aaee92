//! Uploads and chunks as they are on the wire.

use streamgate_core::{ids::UploadId, time::to_timestamp};
use streamgate_proto::streamgate::upload::v1 as pb;

use crate::{
    command::Chunking,
    engine::{Chunk, State, Upload},
};

/// The header of a chunk that came in one message.
pub fn header(request: pb::UploadChunkRequest) -> pb::WriteChunkHeader {
    use pb::{upload_chunk_request::Place, write_chunk_header::Place as Header};
    let place = request.place.map(|place| match place {
        Place::Index(index) => Header::Index(index),
        Place::OffsetBytes(offset) => Header::OffsetBytes(offset),
    });
    let size_bytes = request.data.len() as u64;
    pb::WriteChunkHeader { upload_id: request.upload_id, place, sha256: request.sha256, size_bytes }
}

/// A chunk of the upload `id`.
pub fn chunk(id: &UploadId, chunk: Chunk) -> pb::Chunk {
    use pb::chunk::Place;
    let place = match (chunk.chunking, u32::try_from(chunk.place)) {
        (Chunking::Index, Ok(index)) => Place::Index(index),
        _ => Place::OffsetBytes(chunk.place),
    };
    pb::Chunk { upload_id: id.to_string(), place: Some(place), size_bytes: chunk.size_bytes, sha256: chunk.sha256 }
}

impl From<Upload> for pb::Upload {
    fn from(upload: Upload) -> Self {
        let numbering = match upload.chunking {
            None | Some(Chunking::Stream) => pb::ChunkNumbering::Unspecified,
            Some(Chunking::Index) => pb::ChunkNumbering::Index,
            Some(Chunking::Offset) => pb::ChunkNumbering::Offset,
        };
        let received = upload.received.iter().map(|range| pb::ReceivedRange { start: range.start, end: range.end });
        let state = match upload.state {
            State::Open => pb::UploadState::Open,
            State::Completed => pb::UploadState::Completed,
            State::Cancelled => pb::UploadState::Cancelled,
            State::Expired => pb::UploadState::Expired,
        };
        Self {
            file_id: upload.file_id(),
            upload_id: upload.id.into(),
            content_id: upload.content_id,
            filename: upload.filename,
            state: state.into(),
            offset_bytes: upload.offset_bytes,
            size_bytes: upload.size_bytes,
            sha256: upload.sha256,
            create_time: Some(to_timestamp(upload.created_ms)),
            expire_time: Some(to_timestamp(upload.expires_ms)),
            received_bytes: upload.received_bytes,
            chunk_count: upload.chunk_count,
            chunk_numbering: numbering.into(),
            received: received.collect(),
        }
    }
}
