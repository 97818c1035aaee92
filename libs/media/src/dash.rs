//! The DASH manifest (ISO/IEC 23009-1, live profile) over the same CMAF segments.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};
use streamgate_proto::streamgate::media::v1::{AudioRendition, Presentation, Segment, Track, VideoRendition};

use crate::{
    bandwidth::Bandwidth,
    presentation::{Links, Rendition, is_playable, renditions, span_seconds},
};

/// Media type of the manifest.
pub const CONTENT_TYPE: &str = "application/dash+xml";

const CHANNELS_SCHEME: &str = "urn:mpeg:dash:23003:3:audio_channel_configuration:2011";

/// Clock of a title that is still growing. The first two stay the same for as long as it grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Growing<'a> {
    /// Where this version goes on: a player that has begun with it stays with it, whatever is made of the title meanwhile.
    pub location: &'a str,
    /// When the beginning of the title counts as available, RFC 3339 text is written from it. Milliseconds since 1970.
    pub available_from_ms: i64,
    /// How far behind the newest segment players should begin: all of it, so that they begin at the beginning.
    pub delay_ms: u64,
    /// The time now. Milliseconds since 1970.
    pub now_ms: i64,
}

/// The manifest of all renditions: static when the title is whole, else dynamic by the clock of `growing`.
/// Absent until every rendition has its first segment.
#[must_use]
pub fn manifest(presentation: &Presentation, links: &Links<'_>, growing: Growing<'_>) -> Option<String> {
    if !is_playable(presentation) {
        return None;
    }
    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 1);
    // Writing into memory can't fail.
    write_manifest(&mut xml, presentation, links, growing).ok()?;
    String::from_utf8(xml.into_inner()).ok()
}

type Xml = Writer<Vec<u8>>;

fn write_manifest(xml: &mut Xml, presentation: &Presentation, links: &Links<'_>, growing: Growing<'_>) -> io::Result<()> {
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let mut attributes = vec![
        ("xmlns", "urn:mpeg:dash:schema:mpd:2011".to_owned()),
        ("profiles", "urn:mpeg:dash:profile:isoff-live:2011".to_owned()),
        ("minBufferTime", "PT2S".to_owned()),
    ];
    if presentation.complete {
        attributes.push(("type", "static".to_owned()));
        attributes.push(("mediaPresentationDuration", format!("PT{:.3}S", span_seconds(presentation))));
    } else {
        attributes.push(("type", "dynamic".to_owned()));
        attributes.push(("minimumUpdatePeriod", "PT2S".to_owned()));
        attributes.push(("availabilityStartTime", rfc3339(growing.available_from_ms)));
        attributes.push(("publishTime", rfc3339(growing.now_ms)));
        attributes.push(("suggestedPresentationDelay", format!("PT{}.{:03}S", growing.delay_ms / 1000, growing.delay_ms % 1000)));
    }
    let root = xml.create_element("MPD").with_attributes(borrowed(&attributes));
    root.write_inner_content(|xml| {
        if !presentation.complete {
            xml.create_element("Location").write_text_content(BytesText::new(growing.location))?;
        }
        let period = xml.create_element("Period").with_attributes([("id", "0"), ("start", "PT0S")]);
        period.write_inner_content(|xml| write_sets(xml, presentation, links))?;
        if !presentation.complete {
            let clock = rfc3339(growing.now_ms);
            let timing = [("schemeIdUri", "urn:mpeg:dash:utc:direct:2014"), ("value", clock.as_str())];
            xml.create_element("UTCTiming").with_attributes(timing).write_empty()?;
        }
        Ok(())
    })?;
    Ok(())
}

fn write_sets(xml: &mut Xml, presentation: &Presentation, links: &Links<'_>) -> io::Result<()> {
    let offset = earliest(presentation);
    if !presentation.video.is_empty() {
        let set = xml.create_element("AdaptationSet").with_attributes(set_attributes("0", "video"));
        set.write_inner_content(|xml| {
            for video in &presentation.video {
                write_video(xml, video, links, offset)?;
            }
            Ok(())
        })?;
    }
    if let Some(audio) = &presentation.audio {
        let mut attributes = set_attributes("1", "audio").to_vec();
        if !audio.language.is_empty() {
            attributes.push(("lang", &audio.language));
        }
        let set = xml.create_element("AdaptationSet").with_attributes(attributes);
        set.write_inner_content(|xml| write_audio(xml, audio, links, offset))?;
    }
    Ok(())
}

fn set_attributes<'a>(id: &'a str, kind: &'a str) -> [(&'a str, &'a str); 5] {
    let mime = if kind == "video" { "video/mp4" } else { "audio/mp4" };
    [("id", id), ("contentType", kind), ("mimeType", mime), ("segmentAlignment", "true"), ("startWithSAP", "1")]
}

fn write_video(xml: &mut Xml, video: &VideoRendition, links: &Links<'_>, offset: Start) -> io::Result<()> {
    let rendition = Rendition::Video(video);
    let mut attributes = representation_attributes(rendition);
    attributes.push(("width", video.width.to_string()));
    attributes.push(("height", video.height.to_string()));
    attributes.push(("frameRate", frame_rate(video)));
    attributes.push(("sar", "1:1".to_owned()));
    let representation = xml.create_element("Representation").with_attributes(borrowed(&attributes));
    representation.write_inner_content(|xml| write_template(xml, rendition, links, offset))?;
    Ok(())
}

fn write_audio(xml: &mut Xml, audio: &AudioRendition, links: &Links<'_>, offset: Start) -> io::Result<()> {
    let rendition = Rendition::Audio(audio);
    let mut attributes = representation_attributes(rendition);
    attributes.push(("audioSamplingRate", audio.sample_rate_hz.to_string()));
    let representation = xml.create_element("Representation").with_attributes(borrowed(&attributes));
    representation.write_inner_content(|xml| {
        let channels = audio.channels.to_string();
        let configuration = [("schemeIdUri", CHANNELS_SCHEME), ("value", channels.as_str())];
        xml.create_element("AudioChannelConfiguration").with_attributes(configuration).write_empty()?;
        write_template(xml, rendition, links, offset)
    })?;
    Ok(())
}

fn representation_attributes(rendition: Rendition<'_>) -> Vec<(&'static str, String)> {
    let bandwidth = rendition.track().map(Bandwidth::of).unwrap_or_default();
    vec![
        ("id", rendition.name().to_owned()),
        ("codecs", rendition.codecs().to_owned()),
        ("bandwidth", bandwidth.peak.to_string()),
    ]
}

/// Each representation has its own timeline: rungs may have their own timescale, and while a title grows, their own end.
fn write_template(xml: &mut Xml, rendition: Rendition<'_>, links: &Links<'_>, offset: Start) -> io::Result<()> {
    let Some(track) = rendition.track() else { return Ok(()) };
    let number = track.segments.first().map_or(1, |segment| segment.number);
    let mut attributes = vec![
        ("timescale", track.timescale.to_string()),
        ("startNumber", number.to_string()),
        ("initialization", template_uri(links, &format!("{}/init.mp4", rendition.name()))),
        ("media", template_uri(links, &format!("{}/\u{1}.m4s", rendition.name())).replace('\u{1}', "$Number%05d$")),
    ];
    let shift = offset.in_ticks(track.timescale);
    if shift > 0 {
        attributes.push(("presentationTimeOffset", shift.to_string()));
    }
    let template = xml.create_element("SegmentTemplate").with_attributes(borrowed(&attributes));
    template.write_inner_content(|xml| {
        xml.create_element("SegmentTimeline").write_inner_content(|xml| write_timeline(xml, &track.segments))?;
        Ok(())
    })?;
    Ok(())
}

/// A dollar sign of a URI is doubled inside a template.
fn template_uri(links: &Links<'_>, name: &str) -> String {
    links.to(name).replace('$', "$$")
}

/// One `S` for each run of equal lengths without a gap.
fn write_timeline(xml: &mut Xml, segments: &[Segment]) -> io::Result<()> {
    let mut expected = None;
    let mut rest = segments;
    while let Some(first) = rest.first() {
        let mut run = 1;
        while rest.get(run).is_some_and(|s| s.duration == first.duration && s.start == first.start + first.duration * run as u64)
        {
            run += 1;
        }
        let mut attributes = Vec::new();
        if expected != Some(first.start) {
            attributes.push(("t", first.start.to_string()));
        }
        attributes.push(("d", first.duration.to_string()));
        if run > 1 {
            attributes.push(("r", (run - 1).to_string()));
        }
        xml.create_element("S").with_attributes(borrowed(&attributes)).write_empty()?;
        expected = Some(first.start + first.duration * run as u64);
        rest = &rest[run..];
    }
    Ok(())
}

/// A moment as a fraction of a second.
#[derive(Debug, Clone, Copy)]
struct Start {
    ticks: u64,
    timescale: u32,
}

impl Start {
    /// Rounded down, so that nothing begins before the period.
    fn in_ticks(self, timescale: u32) -> u64 {
        let ticks = u128::from(self.ticks) * u128::from(timescale) / u128::from(self.timescale.max(1));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    fn is_before(self, other: Self) -> bool {
        u128::from(self.ticks) * u128::from(other.timescale) < u128::from(other.ticks) * u128::from(self.timescale)
    }
}

/// Where the first of all tracks begins. All tracks are shifted by it, which keeps sound and picture together.
fn earliest(presentation: &Presentation) -> Start {
    let starts = renditions(presentation).filter_map(Rendition::track).filter_map(start_of);
    starts.reduce(|best, start| if start.is_before(best) { start } else { best }).unwrap_or(Start { ticks: 0, timescale: 1 })
}

fn start_of(track: &Track) -> Option<Start> {
    Some(Start { ticks: track.segments.first()?.start, timescale: track.timescale })
}

fn frame_rate(video: &VideoRendition) -> String {
    match video.frame_rate_den {
        0 | 1 => video.frame_rate_num.to_string(),
        den if video.frame_rate_num.is_multiple_of(den) => (video.frame_rate_num / den).to_string(),
        den => format!("{}/{den}", video.frame_rate_num),
    }
}

fn borrowed<'a>(attributes: &'a [(&'static str, String)]) -> impl Iterator<Item = (&'a str, &'a str)> {
    attributes.iter().map(|(name, value)| (*name, value.as_str()))
}

/// UTC with milliseconds.
fn rfc3339(unix_ms: i64) -> String {
    let (days, ms) = (unix_ms.div_euclid(86_400_000), unix_ms.rem_euclid(86_400_000));
    let (year, month, day) = civil(days);
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60, ms % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Days since 1970 as a date of the Gregorian calendar: years are counted from March, so a leap day comes last.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{title, track};

    const CLOCK: Growing<'static> = Growing {
        location: "/play/pbk_1/1/manifest.mpd?a=b&token=abc",
        available_from_ms: 1_709_164_800_000,
        delay_ms: 4_500,
        now_ms: 1_709_164_804_500,
    };

    #[test]
    fn a_whole_title_is_a_static_manifest() {
        let text = manifest(&title(), &Links { base: "/play/pbk_1/", query: Some("token=abc") }, CLOCK).unwrap();
        for expected in [
            "type=\"static\"",
            "mediaPresentationDuration=\"PT4.505S\"",
            "profiles=\"urn:mpeg:dash:profile:isoff-live:2011\"",
            "<Representation id=\"v720\" codecs=\"avc1.4d4014\" bandwidth=\"",
            "width=\"1280\" height=\"720\" frameRate=\"30000/1001\"",
            "initialization=\"/play/pbk_1/v720/init.mp4?token=abc\" media=\"/play/pbk_1/v720/$Number%05d$.m4s?token=abc\"",
            "<S t=\"0\" d=\"60060\" r=\"1\"/>",
            "<S d=\"15015\"/>",
            "audioSamplingRate=\"48000\"",
            "<AudioChannelConfiguration schemeIdUri=\"urn:mpeg:dash:23003:3:audio_channel_configuration:2011\" value=\"2\"/>",
            "<SegmentTemplate timescale=\"48000\" startNumber=\"1\"",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("presentationTimeOffset") && !text.contains("UTCTiming") && !text.contains("<Location>"));
    }

    #[test]
    fn a_growing_title_is_a_dynamic_manifest_with_a_clock() {
        let text = manifest(&Presentation { complete: false, ..title() }, &Links::default(), CLOCK).unwrap();
        for expected in [
            "type=\"dynamic\"",
            "<Location>/play/pbk_1/1/manifest.mpd?a=b&amp;token=abc</Location>",
            "minimumUpdatePeriod=\"PT2S\"",
            "availabilityStartTime=\"2024-02-29T00:00:00.000Z\"",
            "suggestedPresentationDelay=\"PT4.500S\"",
            "<UTCTiming schemeIdUri=\"urn:mpeg:dash:utc:direct:2014\" value=\"2024-02-29T00:00:04.500Z\"/>",
        ] {
            assert!(text.contains(expected), "{expected}\n{text}");
        }
        assert!(!text.contains("mediaPresentationDuration"));
    }

    #[test]
    fn a_late_start_shifts_all_tracks_by_the_same_time() {
        let mut late = title();
        late.video.truncate(1);
        late.video[0].track = Some(track("v720", 30_000, 1_000, &[60_000], 9));
        if let Some(audio) = &mut late.audio {
            audio.track = Some(track("a128", 48_000, 2_016, &[96_000], 9));
        }
        let text = manifest(&late, &Links::default(), CLOCK).unwrap();
        assert!(text.contains("presentationTimeOffset=\"1000\"") && text.contains("presentationTimeOffset=\"1600\""), "{text}");
        assert!(text.contains("<S t=\"2016\" d=\"96000\"/>"), "{text}");
    }

    #[test]
    fn what_came_from_outside_is_escaped() {
        let mut odd = title();
        odd.video[0].codecs = "a\"<&".into();
        let text = manifest(&odd, &Links { base: "", query: Some("token=a&b=$1") }, CLOCK).unwrap();
        assert!(text.contains("init.mp4?token=a&amp;b=$$1\""), "{text}");
        assert!(text.contains("codecs=\"a&quot;&lt;&amp;\""), "{text}");
    }

    #[test]
    fn a_gap_starts_a_new_time() {
        let mut gap = title();
        let mut holed = track("v720", 1000, 0, &[2000, 2000, 2000], 9);
        holed.segments[2].start += 5;
        gap.video = vec![VideoRendition { track: Some(holed), ..gap.video[0].clone() }];
        let text = manifest(&gap, &Links::default(), CLOCK).unwrap();
        assert!(text.contains("<S t=\"0\" d=\"2000\" r=\"1\"/>") && text.contains("<S t=\"4005\" d=\"2000\"/>"), "{text}");
    }

    #[test]
    fn nothing_is_offered_before_the_first_segments() {
        assert_eq!(manifest(&Presentation::default(), &Links::default(), CLOCK), None);
    }

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(951_782_400_123), "2000-02-29T00:00:00.123Z");
        assert_eq!(rfc3339(1_798_761_599_999), "2026-12-31T23:59:59.999Z");
    }
}
