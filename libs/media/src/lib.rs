//! Containers, segments, playlists and manifests: pure functions, no async and no disk.
//!
//! Playlists and manifests are written from [`Presentation`](streamgate_proto::streamgate::media::v1::Presentation),
//! which lists only what was really made and stored.

pub mod aac;
pub mod bandwidth;
pub mod brief;
pub mod choice;
pub mod dash;
pub mod encoder_protocol;
pub mod fmp4;
pub mod h264;
pub mod hls;
pub mod ladder;
pub mod presentation;

#[cfg(test)]
mod samples;
