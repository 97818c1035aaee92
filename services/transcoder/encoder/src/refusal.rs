//! Why nothing, or no more, can be made of a source: stable reasons, and sentences for its owner.

use gstreamer::{self as gst, glib};
use streamgate_media::encoder_protocol::Report;

/// A named end of a job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refusal {
    /// Stable reason.
    pub reason: &'static str,
    /// What a creator can do about it.
    pub detail: String,
}

impl Refusal {
    /// A refusal with a sentence.
    pub fn new(reason: &'static str, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }

    /// Something is wrong with this machine, not with the source.
    pub fn internal(detail: impl Into<String>) -> Self {
        Self::new("encoder_failed", detail)
    }

    /// The file can't be understood from its first bytes.
    pub fn not_media() -> Self {
        Self::new(
            "not_media",
            "this is not a video or audio file that can be recognised; upload MP4, MOV, MKV, WebM, AVI, Ogg or MPEG",
        )
    }

    /// What was being read is broken.
    pub fn damaged(said: &str) -> Self {
        Self::new("damaged", format!("the file is damaged: {}; export it again and upload the new file", tidy(said)))
    }

    /// An error of disk.
    pub fn of_io(doing: &str, error: &std::io::Error) -> Self {
        match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Self::new("storage_full", "there is no room left for the encoder's output")
            }
            _ => Self::internal(format!("{doing}: {error}")),
        }
    }

    /// The reason behind the error that a pipeline told first, if there was any.
    pub fn told_on(bus: &gst::Bus) -> Option<Self> {
        let message = bus.pop_filtered(&[gst::MessageType::Error])?;
        match message.view() {
            gst::MessageView::Error(error) => Some(Self::of_gst(&error.error())),
            _ => None,
        }
    }

    /// The reason behind an error of GStreamer.
    pub fn of_gst(error: &glib::Error) -> Self {
        use gst::StreamError as S;
        let said = error.message();
        match error.kind::<gst::StreamError>() {
            Some(S::TypeNotFound | S::WrongType) => return Self::not_media(),
            Some(S::CodecNotFound) => return Self::unsupported(said),
            Some(S::Decrypt | S::DecryptNokey) => {
                return Self::new("unsupported_codec", "the file is encrypted; upload it without protection");
            }
            _ => {}
        }
        match (error.kind::<gst::CoreError>(), error.kind::<gst::ResourceError>()) {
            (Some(gst::CoreError::MissingPlugin), _) => Self::unsupported(said),
            (_, Some(gst::ResourceError::NoSpaceLeft)) => {
                Self::new("storage_full", "there is no room left for the encoder's output")
            }
            _ => Self::damaged(said),
        }
    }

    fn unsupported(said: &str) -> Self {
        Self::new("unsupported_codec", format!("the file uses a format that can't be decoded here: {}", tidy(said)))
    }

    /// The last line of the child.
    pub fn report(&self) -> Report {
        Report::Error { reason: self.reason.to_owned(), detail: self.detail.clone() }
    }
}

/// GStreamer's sentences as part of ours.
fn tidy(said: &str) -> String {
    let said = said.trim().trim_end_matches('.');
    let mut letters = said.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
