//! What a presentation offers, and the public names of its files.

use streamgate_proto::streamgate::media::v1::{AudioRendition, Presentation, Track, VideoRendition};

/// One rendition of a presentation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rendition<'a> {
    /// A picture at one size.
    Video(&'a VideoRendition),
    /// The sound.
    Audio(&'a AudioRendition),
}

impl<'a> Rendition<'a> {
    /// Stable name inside the title, such as `v720`.
    #[must_use]
    pub fn name(self) -> &'a str {
        match self {
            Self::Video(video) => &video.name,
            Self::Audio(audio) => &audio.name,
        }
    }

    /// RFC 6381 codec string.
    #[must_use]
    pub fn codecs(self) -> &'a str {
        match self {
            Self::Video(video) => &video.codecs,
            Self::Audio(audio) => &audio.codecs,
        }
    }

    /// Its files, once there are any.
    #[must_use]
    pub const fn track(self) -> Option<&'a Track> {
        match self {
            Self::Video(video) => video.track.as_ref(),
            Self::Audio(audio) => audio.track.as_ref(),
        }
    }
}

/// Every rendition: pictures in their order, then the sound.
pub fn renditions(presentation: &Presentation) -> impl Iterator<Item = Rendition<'_>> {
    presentation.video.iter().map(Rendition::Video).chain(presentation.audio.iter().map(Rendition::Audio))
}

/// Whether it can be played: there is a rendition, and each has its init segment and its first media segment.
#[must_use]
pub fn is_playable(presentation: &Presentation) -> bool {
    let mut some = false;
    for rendition in renditions(presentation) {
        match rendition.track() {
            Some(track) if track.init.is_some() && track.timescale > 0 && !track.segments.is_empty() => some = true,
            _ => return false,
        }
    }
    some
}

/// End of the longest track in seconds after the start of the earliest one.
#[must_use]
pub fn span_seconds(presentation: &Presentation) -> f64 {
    let mut earliest = f64::INFINITY;
    let mut latest = 0.0_f64;
    for track in renditions(presentation).filter_map(Rendition::track) {
        if let (Some(first), Some(last)) = (track.segments.first(), track.segments.last()) {
            earliest = earliest.min(seconds(first.start, track.timescale));
            latest = latest.max(seconds(last.start + last.duration, track.timescale));
        }
    }
    if earliest.is_finite() { latest - earliest } else { 0.0 }
}

/// Ticks as seconds.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "ticks of a title stay far below 2^53")]
pub fn seconds(ticks: u64, timescale: u32) -> f64 {
    ticks as f64 / f64::from(timescale.max(1))
}

/// A public path below `/play/{playback_id}/`, such as `2/v720/00001.m4s`, read strictly: whatever is not one of these
/// names is no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicPath<'a> {
    /// Which making of the title it belongs to; absent for the one that is played now.
    pub version: Option<u32>,
    /// What it names.
    pub name: PublicName<'a>,
}

/// What a public path names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicName<'a> {
    /// `master.m3u8`.
    Multivariant,
    /// `manifest.mpd`.
    Manifest,
    /// `poster.jpg`.
    Poster,
    /// `v720/index.m3u8`.
    Playlist(&'a str),
    /// `v720/init.mp4`.
    Init(&'a str),
    /// `v720/00001.m4s`.
    Segment(&'a str, u32),
}

impl<'a> PublicPath<'a> {
    /// Reads a path. Nothing is decoded or normalised: only the exact names that playlists carry are known.
    #[must_use]
    pub fn parse(path: &'a str) -> Option<Self> {
        if let Some((first, rest)) = path.split_once('/')
            && let Some(version) = version_of(first)
        {
            return Some(Self { version: Some(version), name: PublicName::parse(rest)? });
        }
        Some(Self { version: None, name: PublicName::parse(path)? })
    }

    /// Whether playback begins with it.
    #[must_use]
    pub const fn is_entry(&self) -> bool {
        self.version.is_none() && matches!(self.name, PublicName::Multivariant | PublicName::Manifest)
    }
}

/// One spelling a version, as for segments.
fn version_of(text: &str) -> Option<u32> {
    let version: u32 = text.parse().ok().filter(|version| *version > 0)?;
    (version.to_string() == text).then_some(version)
}

impl<'a> PublicName<'a> {
    fn parse(path: &'a str) -> Option<Self> {
        match path {
            "master.m3u8" => return Some(Self::Multivariant),
            "manifest.mpd" => return Some(Self::Manifest),
            "poster.jpg" => return Some(Self::Poster),
            _ => {}
        }
        let (name, file) = path.split_once('/')?;
        let plain = !name.is_empty() && name.len() <= 32 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if !plain {
            return None;
        }
        match file {
            "index.m3u8" => Some(Self::Playlist(name)),
            "init.mp4" => Some(Self::Init(name)),
            _ => Some(Self::Segment(name, segment_number(file)?)),
        }
    }
}

/// File name of segment `number`.
#[must_use]
pub fn segment_file(number: u32) -> String {
    format!("{number:05}.m4s")
}

fn segment_number(file: &str) -> Option<u32> {
    let digits = file.strip_suffix(".m4s")?;
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().ok()?;
    // One spelling a segment: "1" and "000001" name nothing.
    (number > 0 && segment_file(number) == file).then_some(number)
}

/// A stored file of a presentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredFile<'a> {
    /// Path below the title's media folder.
    pub path: &'a str,
    /// Its length.
    pub size_bytes: u64,
    /// Its media type.
    pub content_type: &'static str,
}

/// The rendition called `name`.
#[must_use]
pub fn find_rendition<'a>(presentation: &'a Presentation, name: &str) -> Option<Rendition<'a>> {
    renditions(presentation).find(|rendition| rendition.name() == name)
}

/// The stored file behind a public name. Absent for playlists and for what has not been made.
#[must_use]
pub fn find_file<'a>(presentation: &'a Presentation, name: PublicName<'_>) -> Option<StoredFile<'a>> {
    match name {
        PublicName::Poster => {
            let poster = presentation.poster.as_ref()?;
            Some(StoredFile { path: &poster.path, size_bytes: poster.size_bytes, content_type: "image/jpeg" })
        }
        PublicName::Init(name) => {
            let rendition = find_rendition(presentation, name)?;
            let init = rendition.track()?.init.as_ref()?;
            Some(StoredFile { path: &init.path, size_bytes: init.size_bytes, content_type: content_type(rendition) })
        }
        PublicName::Segment(name, number) => {
            let rendition = find_rendition(presentation, name)?;
            let segments = &rendition.track()?.segments;
            let index = number.checked_sub(segments.first()?.number)?;
            let segment = segments.get(index as usize).filter(|segment| segment.number == number)?;
            Some(StoredFile { path: &segment.path, size_bytes: segment.size_bytes, content_type: content_type(rendition) })
        }
        PublicName::Multivariant | PublicName::Manifest | PublicName::Playlist(_) => None,
    }
}

const fn content_type(rendition: Rendition<'_>) -> &'static str {
    match rendition {
        Rendition::Video(_) => "video/mp4",
        Rendition::Audio(_) => "audio/mp4",
    }
}

/// How the URIs of a playlist or manifest are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct Links<'a> {
    /// Put before every name: `/play/pbk_…/` from where the name alone would not resolve, else empty.
    pub base: &'a str,
    /// Put behind every name, such as `token=…`, without the question mark.
    pub query: Option<&'a str>,
}

impl Links<'_> {
    /// The URI of `name`.
    #[must_use]
    pub fn to(&self, name: &str) -> String {
        match self.query {
            Some(query) => format!("{}{name}?{query}", self.base),
            None => format!("{}{name}", self.base),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{title, video};

    #[test]
    fn every_public_name_leads_to_its_stored_file() {
        let title = title();
        let stored =
            |path: &str| find_file(&title, PublicPath::parse(path).unwrap().name).map(|file| (file.path, file.content_type));
        assert_eq!(stored("v720/00002.m4s"), Some(("job_1/v720/00002.m4s", "video/mp4")));
        assert_eq!(stored("a128/init.mp4"), Some(("job_1/a128/init.mp4", "audio/mp4")));
        assert_eq!(stored("poster.jpg"), Some(("job_1/poster.jpg", "image/jpeg")));
        for absent in ["v720/00004.m4s", "v1080/00001.m4s", "v1080/init.mp4", "v720/index.m3u8", "master.m3u8"] {
            assert_eq!(stored(absent), None, "{absent}");
        }
    }

    #[test]
    fn only_the_exact_names_are_paths() {
        for bad in [
            "",
            "/",
            "v720",
            "v720/",
            "/v720/init.mp4",
            "../v720/init.mp4",
            "v720/../init.mp4",
            "v720//init.mp4",
            "v720/./init.mp4",
            "v720/1.m4s",
            "v720/000001.m4s",
            "v720/00000.m4s",
            "v720/+0001.m4s",
            "v720/00001.m4s/",
            "v720/00001.m4s\0",
            "V720/init.mp4",
            "v720%2finit.mp4",
            "v720\\init.mp4",
            "..%2f..%2fdb",
            "v720/99999999999.m4s",
            "./master.m3u8",
            "v720/０0001.m4s",
            "v7/2/init.mp4",
            "0/v720/init.mp4",
            "01/v720/init.mp4",
            "+1/v720/init.mp4",
            "1/2/v720/init.mp4",
            "4294967296/v720/init.mp4",
            "1/",
            "1",
        ] {
            assert_eq!(PublicPath::parse(bad), None, "{bad:?}");
        }
        let now = |name| Some(PublicPath { version: None, name });
        assert_eq!(PublicPath::parse("v720/100000.m4s"), now(PublicName::Segment("v720", 100_000)));
    }

    #[test]
    fn a_path_may_name_the_version_it_belongs_to() {
        let second = |name| Some(PublicPath { version: Some(2), name });
        assert_eq!(PublicPath::parse("2/v720/00001.m4s"), second(PublicName::Segment("v720", 1)));
        assert_eq!(PublicPath::parse("2/poster.jpg"), second(PublicName::Poster));
        let manifest = PublicPath::parse("2/manifest.mpd");
        assert_eq!(manifest, second(PublicName::Manifest));
        assert!(manifest.is_some_and(|path| !path.is_entry()), "playback begins where the version is not known yet");
    }

    #[test]
    fn a_title_is_playable_once_every_rendition_has_its_first_segment() {
        assert!(is_playable(&title()));
        assert!(!is_playable(&Presentation::default()));
        let mut late = title();
        late.video.push(VideoRendition { track: None, ..video(240, 1) });
        assert!(!is_playable(&late));
        let mut empty = title();
        if let Some(track) = empty.audio.as_mut().and_then(|audio| audio.track.as_mut()) {
            track.segments.clear();
        }
        assert!(!is_playable(&empty));
    }

    proptest! {
        #[test]
        fn no_text_leads_outside_the_names_of_a_title(text in "\\PC{0,40}") {
            let name = PublicPath::parse(&text).map(|path| path.name);
            if let Some(PublicName::Segment(name, _) | PublicName::Init(name) | PublicName::Playlist(name)) = name {
                prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric()));
                prop_assert!(!text.contains(".."));
            }
        }

        #[test]
        fn a_segment_number_reads_back_from_its_name(number in 1_u32.., version in 1_u32..) {
            let path = format!("{version}/v1/{}", segment_file(number));
            let expected = PublicPath { version: Some(version), name: PublicName::Segment("v1", number) };
            prop_assert_eq!(PublicPath::parse(&path), Some(expected));
        }
    }
}
