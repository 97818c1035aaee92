//! Reads playlists and manifests the way a player does: every URI they name, resolved.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use quick_xml::{
    Reader,
    events::{BytesStart, Event},
};
use url::Url;

/// What an HLS multivariant playlist names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multivariant {
    /// Media playlists of the variants, in order.
    pub variants: Vec<Url>,
    /// Media playlists of audio and other renditions.
    pub renditions: Vec<Url>,
}

/// What an HLS media playlist names.
#[derive(Debug, Clone, PartialEq)]
pub struct MediaPlaylist {
    /// Init segment.
    pub init: Url,
    /// Media segments with their lengths in seconds.
    pub segments: Vec<(Url, f64)>,
    /// Nothing will be added.
    pub ended: bool,
}

/// What a DASH manifest names: init and media segments of every representation, by its id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dash {
    /// `(id, init, segments)`.
    pub representations: Vec<(String, Url, Vec<Url>)>,
}

/// Reads a multivariant playlist that came from `base`.
///
/// # Errors
/// When it is none.
pub fn multivariant(text: &str, base: &Url) -> Result<Multivariant> {
    let mut found = Multivariant { variants: Vec::new(), renditions: Vec::new() };
    let mut lines = hls_lines(text)?;
    while let Some(line) = lines.next() {
        if line.starts_with("#EXT-X-STREAM-INF:") {
            found.variants.push(base.join(lines.next().context("a variant without URI")?)?);
        } else if let Some(uri) = quoted_uri(line) {
            found.renditions.push(base.join(uri)?);
        }
    }
    if found.variants.is_empty() {
        bail!("a multivariant playlist without variants: {text}");
    }
    Ok(found)
}

/// Reads a media playlist that came from `base`.
///
/// # Errors
/// When it is none.
pub fn media_playlist(text: &str, base: &Url) -> Result<MediaPlaylist> {
    let (mut init, mut segments, mut ended) = (None, Vec::new(), false);
    let mut lines = hls_lines(text)?;
    while let Some(line) = lines.next() {
        if line.starts_with("#EXT-X-MAP:") {
            init = Some(base.join(quoted_uri(line).context("EXT-X-MAP without URI")?)?);
        } else if let Some(seconds) = line.strip_prefix("#EXTINF:") {
            let seconds = seconds.split(',').next().unwrap_or_default().parse()?;
            segments.push((base.join(lines.next().context("a segment without URI")?)?, seconds));
        } else if line == "#EXT-X-ENDLIST" {
            ended = true;
        }
    }
    Ok(MediaPlaylist { init: init.context("a media playlist without init segment")?, segments, ended })
}

fn hls_lines(text: &str) -> Result<impl Iterator<Item = &str>> {
    let mut lines = text.lines().filter(|line| !line.is_empty());
    if lines.next() != Some("#EXTM3U") {
        bail!("not a playlist: {text}");
    }
    Ok(lines)
}

fn quoted_uri(line: &str) -> Option<&str> {
    line.strip_prefix("#EXT-X-")?.split_once("URI=\"")?.1.split('"').next()
}

/// Reads a DASH manifest that came from `base`.
///
/// # Errors
/// When it is none, or names segments in a way that this reader does not know.
pub fn dash(text: &str, base: &Url) -> Result<Dash> {
    let mut reader = Reader::from_str(text);
    let mut found = Dash::default();
    let mut here = DashPlace::new(base);
    loop {
        match reader.read_event()? {
            Event::Start(element) | Event::Empty(element) => here.begin(&element)?,
            Event::End(element) if element.name().as_ref() == "Representation" => {
                found.representations.push(here.representation()?);
            }
            Event::Eof => break,
            _ => {}
        }
    }
    if found.representations.is_empty() {
        bail!("a manifest without representations: {text}");
    }
    Ok(found)
}

/// Where in a manifest the reader is.
struct DashPlace {
    base: Url,
    id: String,
    bandwidth: String,
    template: HashMap<String, String>,
    /// Start times of the timeline's segments.
    times: Vec<u64>,
}

impl DashPlace {
    fn new(base: &Url) -> Self {
        Self { base: base.clone(), id: String::new(), bandwidth: String::new(), template: HashMap::new(), times: Vec::new() }
    }

    fn begin(&mut self, element: &BytesStart<'_>) -> Result<()> {
        match element.name().as_ref() {
            "Representation" => {
                let mut attributes = attributes(element)?;
                self.id = attributes.remove("id").context("a representation without id")?;
                self.bandwidth = attributes.remove("bandwidth").unwrap_or_default();
            }
            "SegmentTemplate" => {
                self.template = attributes(element)?;
                self.times.clear();
            }
            "S" => self.add_times(&attributes(element)?)?,
            "BaseURL" | "SegmentList" | "SegmentBase" => bail!("this reader knows SegmentTemplate alone"),
            _ => {}
        }
        Ok(())
    }

    fn add_times(&mut self, attributes: &HashMap<String, String>) -> Result<()> {
        let number = |name: &str| attributes.get(name).map(|text| text.parse::<u64>()).transpose();
        let length = number("d")?.context("S without d")?;
        let mut start = number("t")?.or_else(|| self.template_end()).unwrap_or_default();
        for _ in 0..=number("r")?.unwrap_or_default() {
            self.times.push(start);
            start += length;
        }
        self.template.insert("end".into(), start.to_string());
        Ok(())
    }

    fn template_end(&self) -> Option<u64> {
        self.template.get("end")?.parse().ok()
    }

    fn representation(&self) -> Result<(String, Url, Vec<Url>)> {
        let template = |name: &str| self.template.get(name).with_context(|| format!("SegmentTemplate without {name}"));
        let first: u64 = self.template.get("startNumber").map_or(Ok(1), |text| text.parse())?;
        let init = self.base.join(&self.filled(template("initialization")?, 0, 0))?;
        let media = template("media")?;
        let segments =
            self.times.iter().zip(first..).map(|(time, number)| Ok(self.base.join(&self.filled(media, number, *time))?));
        Ok((self.id.clone(), init, segments.collect::<Result<_>>()?))
    }

    /// A URI template with its identifiers filled in.
    fn filled(&self, template: &str, number: u64, time: u64) -> String {
        let mut uri = String::new();
        for (index, part) in template.split('$').enumerate() {
            // Odd parts stand between two dollar signs.
            if index % 2 == 0 {
                uri.push_str(part);
                continue;
            }
            let (name, format) = part.split_once("%0").unwrap_or((part, "1d"));
            let width = format.trim_end_matches('d').parse().unwrap_or(1);
            match name {
                "RepresentationID" => uri.push_str(&self.id),
                "Bandwidth" => uri.push_str(&self.bandwidth),
                "Number" => uri.push_str(&format!("{number:0width$}")),
                "Time" => uri.push_str(&format!("{time:0width$}")),
                _ => uri.push('$'),
            }
        }
        uri
    }
}

fn attributes(element: &BytesStart<'_>) -> Result<HashMap<String, String>> {
    let pairs = element.attributes().map(|attribute| {
        let attribute = attribute?;
        let value = attribute.value.into_owned();
        let name = attribute.key.as_ref().to_owned();
        Ok((name, value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_uri_of_a_playlist_is_found_and_resolved() {
        let base: Url = "http://h/play/p/v720/index.m3u8?token=t".parse().unwrap();
        let text = "#EXTM3U\n#EXT-X-MAP:URI=\"init.mp4?token=t\"\n#EXTINF:2.0,\n00001.m4s?token=t\n#EXT-X-ENDLIST\n";
        let playlist = media_playlist(text, &base).unwrap();
        assert_eq!(playlist.init.as_str(), "http://h/play/p/v720/init.mp4?token=t");
        assert_eq!(playlist.segments[0].0.as_str(), "http://h/play/p/v720/00001.m4s?token=t");
        assert!(playlist.ended);
    }

    #[test]
    fn a_template_with_a_timeline_names_every_segment() {
        let base: Url = "http://h/play/p.mpd".parse().unwrap();
        let text = r#"<MPD><Period><AdaptationSet><Representation id="v1" bandwidth="5">
            <SegmentTemplate initialization="p/$RepresentationID$/init.mp4?a=1&amp;b=2" media="p/$RepresentationID$/$Number%05d$.m4s" startNumber="1">
            <SegmentTimeline><S t="0" d="4" r="1"/><S d="2"/></SegmentTimeline></SegmentTemplate>
            </Representation></AdaptationSet></Period></MPD>"#;
        let (id, init, segments) = dash(text, &base).unwrap().representations.remove(0);
        assert_eq!(id, "v1");
        assert_eq!(init.as_str(), "http://h/play/p/v1/init.mp4?a=1&b=2");
        assert_eq!(segments.len(), 3);
        assert_eq!(segments[2].as_str(), "http://h/play/p/v1/00003.m4s");
    }
}
