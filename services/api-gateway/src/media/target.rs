//! What a request for media means: a path below `/play/`, or a query below `/api/v1/stream/`.

use streamgate_proto::streamgate::streaming::v1::Choice;

use crate::{
    error::{Error, Result},
    media::path::AssetPath,
};

/// No id and no name of a segment is longer.
const MAX_PART_BYTES: usize = 128;
/// A size is written with at most two numbers.
const MAX_SIZE_BYTES: usize = 16;

/// An asset of a title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The title's public id; or empty.
    pub playback_id: String,
    /// The title's own id, when there is no public one.
    pub content_id: String,
    /// The asset below it.
    pub asset: String,
    by_query: bool,
}

impl Target {
    /// Reads a request's path and query.
    ///
    /// # Errors
    /// `UnknownPath`, or fields that are missing or wrong.
    pub fn of(path: &str, query: Option<&str>) -> Result<Self> {
        if let Some(kind) = path.strip_prefix("/api/v1/stream/") {
            return Self::of_query(kind, query);
        }
        let path = AssetPath::parse(path).ok_or(Error::UnknownPath)?;
        let (playback_id, asset) = (path.playback_id().to_owned(), path.asset().to_owned());
        Ok(Self { playback_id, content_id: String::new(), asset, by_query: false })
    }

    fn of_query(kind: &str, query: Option<&str>) -> Result<Self> {
        let (playback_id, content_id) =
            (value(query, "playback_id", MAX_PART_BYTES)?, value(query, "content_id", MAX_PART_BYTES)?);
        match (&playback_id, &content_id) {
            (None, None) => return Err(Error::field("playback_id", "give a playback_id or a content_id")),
            (Some(_), Some(_)) => return Err(Error::field("playback_id", "give a playback_id or a content_id, not both")),
            _ => {}
        }
        let asset = match kind {
            "hls" => "master.m3u8".to_owned(),
            "dash" => "manifest.mpd".to_owned(),
            "segment" => {
                let segment = value(query, "segment_id", MAX_PART_BYTES)?;
                let segment = segment.filter(|name| !matches!(name.as_str(), "master.m3u8" | "manifest.mpd"));
                segment.ok_or_else(|| Error::field("segment_id", "name a segment as playlists do, such as 1/v720/00001.m4s"))?
            }
            _ => return Err(Error::UnknownPath),
        };
        let (playback_id, content_id) = (playback_id.unwrap_or_default(), content_id.unwrap_or_default());
        Ok(Self { playback_id, content_id, asset, by_query: true })
    }

    /// Whether an identity counts here before a cookie: where playback begins, and where no cookie is meant.
    #[must_use]
    pub fn takes_identity(&self) -> bool {
        self.by_query || matches!(self.asset.as_str(), "master.m3u8" | "manifest.mpd")
    }
}

/// What of the renditions is wanted, when the query says something of it.
///
/// # Errors
/// Fields that are wrong. The streaming service reads the size.
pub fn choice(query: Option<&str>) -> Result<Option<Choice>> {
    let max_resolution = value(query, "max_resolution", MAX_SIZE_BYTES)?.unwrap_or_default();
    let bandwidth = match value(query, "bandwidth", MAX_PART_BYTES)? {
        None => 0,
        Some(text) => {
            text.parse().ok().filter(|most| *most > 0).ok_or_else(|| Error::field("bandwidth", "must be bits in a second"))?
        }
    };
    Ok((!max_resolution.is_empty() || bandwidth > 0).then_some(Choice { max_resolution, bandwidth }))
}

/// The first value of a name; empty counts as absent.
fn value(query: Option<&str>, name: &'static str, most_bytes: usize) -> Result<Option<String>> {
    let mut pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let found = pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).filter(|value| !value.is_empty());
    match found {
        Some(value) if value.len() > most_bytes => Err(Error::field(name, format!("must be at most {most_bytes} bytes"))),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str, query: &str) -> Option<(String, String, String)> {
        Target::of(path, Some(query)).ok().map(|target| (target.playback_id, target.content_id, target.asset))
    }

    fn some(playback_id: &str, content_id: &str, asset: &str) -> Option<(String, String, String)> {
        Some((playback_id.into(), content_id.into(), asset.into()))
    }

    #[test]
    fn a_query_names_a_title_and_an_asset() {
        assert_eq!(target("/api/v1/stream/hls", "playback_id=pbk_1"), some("pbk_1", "", "master.m3u8"));
        assert_eq!(target("/api/v1/stream/dash", "content_id=cnt_1&token=t"), some("", "cnt_1", "manifest.mpd"));
        let segment = "content_id=cnt_1&segment_id=1%2Fv720%2F00001.m4s";
        assert_eq!(target("/api/v1/stream/segment", segment), some("", "cnt_1", "1/v720/00001.m4s"));
        assert_eq!(target("/play/pbk_1/1/v720/init.mp4", "content_id=cnt_1"), some("pbk_1", "", "1/v720/init.mp4"));
    }

    #[test]
    fn what_is_missing_or_too_much_is_refused() {
        for (path, query) in [
            ("/api/v1/stream/hls", ""),
            ("/api/v1/stream/hls", "playback_id="),
            ("/api/v1/stream/hls", "playback_id=a&content_id=b"),
            ("/api/v1/stream/segment", "playback_id=a"),
            ("/api/v1/stream/segment", "playback_id=a&segment_id=master.m3u8"),
            ("/api/v1/stream/other", "playback_id=a"),
        ] {
            assert_eq!(target(path, query), None, "{path} {query}");
        }
        let long = format!("playback_id={}", "a".repeat(MAX_PART_BYTES + 1));
        assert_eq!(target("/api/v1/stream/hls", &long), None);
    }

    #[test]
    fn a_choice_is_read_where_it_is_made() {
        assert_eq!(choice(Some("token=t")).unwrap(), None);
        let made = choice(Some("max_resolution=720p&bandwidth=3000000")).unwrap();
        assert_eq!(made, Some(Choice { max_resolution: "720p".into(), bandwidth: 3_000_000 }));
        for bad in ["bandwidth=0", "bandwidth=-1", "bandwidth=many", "max_resolution=11111111111111111"] {
            assert!(choice(Some(bad)).is_err(), "{bad}");
        }
    }
}
