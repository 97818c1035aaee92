//! Paths below `/play/`.

use crate::rest::template::decode_part;

/// A playback id and the asset below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssetPath {
    playback_id: String,
    asset: String,
}

impl AssetPath {
    /// Reads `/play/{id}.m3u8`, `/play/{id}.mpd` or `/play/{id}/{asset}`. Absent for anything else, and
    /// for parts that could lead out of the title's folder.
    #[must_use]
    pub fn parse(path: &str) -> Option<Self> {
        let parts: Vec<String> = path.strip_prefix("/play/")?.split('/').map(decode_part).collect::<Option<_>>()?;
        if parts.iter().any(|part| !is_plain(part)) {
            return None;
        }
        let (first, rest) = parts.split_first()?;
        if !rest.is_empty() {
            return is_id(first).then(|| Self { playback_id: first.clone(), asset: rest.join("/") });
        }
        let (id, asset) = match first.rsplit_once('.')? {
            (id, "m3u8") => (id, "master.m3u8"),
            (id, "mpd") => (id, "manifest.mpd"),
            _ => return None,
        };
        is_id(id).then(|| Self { playback_id: id.to_owned(), asset: asset.to_owned() })
    }

    /// The playback id.
    #[must_use]
    pub fn playback_id(&self) -> &str {
        &self.playback_id
    }

    /// The path below it.
    #[must_use]
    pub fn asset(&self) -> &str {
        &self.asset
    }
}

fn is_plain(part: &str) -> bool {
    !part.is_empty() && part != "." && part != ".." && !part.contains(['/', '\\', '\0'])
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_assets_are_read() {
        let read = |path| AssetPath::parse(path).map(|path| (path.playback_id, path.asset));
        assert_eq!(read("/play/pbk_1.m3u8"), Some(("pbk_1".into(), "master.m3u8".into())));
        assert_eq!(read("/play/pbk_1.mpd"), Some(("pbk_1".into(), "manifest.mpd".into())));
        assert_eq!(read("/play/pbk_1/v720/00001.m4s"), Some(("pbk_1".into(), "v720/00001.m4s".into())));
    }

    #[test]
    fn nothing_leads_out_of_a_title() {
        let paths = [
            "/play/",
            "/play/pbk_1",
            "/play/pbk_1/",
            "/play/pbk_1/../x",
            "/play/pbk_1/%2e%2e/x",
            "/play/pbk_1/a%2f..%2fb",
            "/play/pbk_1/a%5c..",
            "/play/pbk_1//x",
            "/play/pbk_1/./x",
            "/play/../x.m3u8",
            "/play/.m3u8",
            "/play/a%00.m3u8",
            "/play/a%2fb.m3u8",
            "/play/pbk_1.exe",
        ];
        for path in paths {
            assert_eq!(AssetPath::parse(path), None, "{path}");
        }
    }
}
