//! What can be played of a title.

use streamgate_core::Caller;
use streamgate_media::{
    bandwidth::Bandwidth,
    presentation::{is_playable, seconds, span_seconds},
};
use streamgate_proto::streamgate::{
    media::v1::{AudioRendition, Presentation, Track, VideoRendition},
    streaming::v1::{GetStreamInfoResponse, StreamRendition, StreamState, StreamTrack},
};

use super::{Engine, admission::is_privileged};
use crate::{Error, Result};

/// What a caller may learn of a title that it may play.
pub type Info = GetStreamInfoResponse;

impl Engine {
    /// What can be played of a title, for somebody who may play it. Opens no session.
    ///
    /// # Errors
    /// Why it is not told.
    pub async fn info(&self, caller: &Caller, playback_id: &str, content_id: &str, token: &str) -> Result<Info> {
        let playback_id = self.playback_id(caller, playback_id, content_id, token).await?;
        let content_id = if token.is_empty() {
            self.may_learn(caller, &playback_id).await?
        } else {
            self.entitled(token, &playback_id).await?.opened().content_id.clone()
        };
        match self.presentations.get(&content_id, None).await {
            Ok(seen) => Ok(self.describe(&playback_id, &seen.presentation)),
            Err(Error::NotReady) => Ok(self.describe(&playback_id, &Presentation::default())),
            Err(error) => Err(error),
        }
    }

    /// The title behind a playback id, for somebody who may play it.
    async fn may_learn(&self, caller: &Caller, playback_id: &str) -> Result<String> {
        let resolved = self.deps.titles.resolve(playback_id).await.map_err(Error::neighbour("look up a playback id"))?;
        let title = resolved.ok_or(Error::UnknownTitle)?;
        if !is_privileged(caller.account(), &title.owner) {
            self.ask_gate(caller, &title).await?;
        }
        Ok(title.content_id)
    }

    fn describe(&self, playback_id: &str, made: &Presentation) -> Info {
        let play = format!("{}/play/{playback_id}", self.public_url);
        let mut video: Vec<&VideoRendition> = made.video.iter().collect();
        video.sort_by_key(|rendition| std::cmp::Reverse(u64::from(rendition.width) * u64::from(rendition.height)));
        Info {
            playback_id: playback_id.to_owned(),
            state: state_of(made).into(),
            duration_ms: millis(span_seconds(made)),
            source_duration_ms: made.source_duration_ms,
            renditions: video.into_iter().map(rendition).collect(),
            tracks: made.audio.iter().map(sound).collect(),
            hls_url: format!("{play}.m3u8"),
            dash_url: format!("{play}.mpd"),
            poster_url: made.poster.as_ref().map(|_| format!("{play}/{}/poster.jpg", made.version)).unwrap_or_default(),
            version: made.version,
        }
    }
}

fn state_of(made: &Presentation) -> StreamState {
    if made.stopped {
        StreamState::Failed
    } else if !is_playable(made) {
        StreamState::Preparing
    } else if made.complete {
        StreamState::Ready
    } else {
        StreamState::Growing
    }
}

fn rendition(video: &VideoRendition) -> StreamRendition {
    let (bandwidth, segments) = measured(video.track.as_ref());
    StreamRendition {
        name: video.name.clone(),
        width: video.width,
        height: video.height,
        frame_rate: seconds(u64::from(video.frame_rate_num), video.frame_rate_den),
        codecs: video.codecs.clone(),
        peak_bandwidth: bandwidth.peak,
        average_bandwidth: bandwidth.average,
        segments,
    }
}

fn sound(audio: &AudioRendition) -> StreamTrack {
    let (bandwidth, segments) = measured(audio.track.as_ref());
    StreamTrack {
        name: audio.name.clone(),
        language: audio.language.clone(),
        codecs: audio.codecs.clone(),
        channels: audio.channels,
        sample_rate_hz: audio.sample_rate_hz,
        average_bandwidth: bandwidth.average,
        segments,
    }
}

fn measured(track: Option<&Track>) -> (Bandwidth, u32) {
    track.map_or_else(Default::default, |track| (Bandwidth::of(track), u32::try_from(track.segments.len()).unwrap_or(u32::MAX)))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a length in milliseconds is small and not negative")]
fn millis(seconds: f64) -> u64 {
    (seconds * 1000.0).round() as u64
}
