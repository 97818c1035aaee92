//! CMAF packaging: init segments, media segments, and a small reader of boxes.
//!
//! Each track is a file of its own (`ftyp`, `moov`), and each segment holds one fragment
//! (`styp`, `moof`, `mdat`). There are no orientation matrices and no user data: the picture is
//! upright before it is encoded, and nothing of the source's tags survives. The only edit is the
//! one that takes back the reordering of frames.
//! Layouts follow ISO/IEC 14496-12, 14496-14, 14496-15 and 23000-19.

mod boxes;
mod init;
mod reader;
mod segment;

pub use init::{AudioTrack, VideoTrack, audio_init, video_init};
pub use reader::{BoxRef, Damaged, SegmentFacts, TrackFacts, boxes, init_facts, segment_facts};
pub use segment::{Sample, media_segment};
