//! HLS playlists (RFC 8216bis) over CMAF segments.

use std::fmt::Write as _;

use streamgate_proto::streamgate::media::v1::{AudioRendition, Presentation, Track, VideoRendition};

use crate::{
    bandwidth::Bandwidth,
    presentation::{Links, Rendition, is_playable, seconds, segment_file},
};

/// Media type of every HLS playlist.
pub const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";

const AUDIO_GROUP: &str = "audio";

/// The playlist that lists all renditions. Absent until each has its first segment.
#[must_use]
pub fn multivariant(presentation: &Presentation, links: &Links<'_>) -> Option<String> {
    if !is_playable(presentation) {
        return None;
    }
    let mut text = String::from("#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n");
    let audio = presentation.audio.as_ref();
    if presentation.video.is_empty() {
        audio_only(&mut text, audio?, links);
        return Some(text);
    }
    if let Some(audio) = audio {
        audio_group(&mut text, audio, links);
    }
    for video in in_offered_order(&presentation.video) {
        variant(&mut text, video, audio, links);
    }
    Some(text)
}

/// Players begin with the first variant: a middle one starts fast and looks decent. The rest follow from the best down.
fn in_offered_order(video: &[VideoRendition]) -> Vec<&VideoRendition> {
    let mut ordered: Vec<_> = video.iter().collect();
    ordered.sort_by_key(|rendition| {
        std::cmp::Reverse((u64::from(rendition.width) * u64::from(rendition.height), measured(rendition.track.as_ref()).average))
    });
    let first = ordered.remove(ordered.len() / 2);
    ordered.insert(0, first);
    ordered
}

fn variant(text: &mut String, video: &VideoRendition, audio: Option<&AudioRendition>, links: &Links<'_>) {
    let mut needed = measured(video.track.as_ref());
    let mut codecs = video.codecs.clone();
    if let Some(audio) = audio {
        needed = needed.and(measured(audio.track.as_ref()));
        codecs = format!("{codecs},{}", audio.codecs);
    }
    stream_inf(text, needed, &codecs);
    let rate = seconds(u64::from(video.frame_rate_num), video.frame_rate_den);
    let _ = write!(text, ",RESOLUTION={}x{},FRAME-RATE={rate:.3}", video.width, video.height);
    if audio.is_some() {
        let _ = write!(text, ",AUDIO=\"{AUDIO_GROUP}\"");
    }
    let _ = writeln!(text, "\n{}", links.to(&playlist_name(&video.name)));
}

fn audio_only(text: &mut String, audio: &AudioRendition, links: &Links<'_>) {
    stream_inf(text, measured(audio.track.as_ref()), &audio.codecs);
    let _ = writeln!(text, "\n{}", links.to(&playlist_name(&audio.name)));
}

fn audio_group(text: &mut String, audio: &AudioRendition, links: &Links<'_>) {
    let _ = write!(text, "#EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"{AUDIO_GROUP}\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES");
    if !audio.language.is_empty() {
        let _ = write!(text, ",LANGUAGE=\"{}\"", quotable(&audio.language));
    }
    let uri = links.to(&playlist_name(&audio.name));
    let _ = writeln!(text, ",CHANNELS=\"{}\",URI=\"{uri}\"", audio.channels);
}

fn stream_inf(text: &mut String, needed: Bandwidth, codecs: &str) {
    let _ = write!(text, "#EXT-X-STREAM-INF:BANDWIDTH={},AVERAGE-BANDWIDTH={}", needed.peak, needed.average);
    let _ = write!(text, ",CODECS=\"{}\"", quotable(codecs));
}

fn measured(track: Option<&Track>) -> Bandwidth {
    track.map(Bandwidth::of).unwrap_or_default()
}

fn playlist_name(rendition: &str) -> String {
    format!("{rendition}/index.m3u8")
}

/// A quoted string of a playlist can't hold quotes or line ends.
fn quotable(text: &str) -> String {
    text.chars().filter(|c| *c != '"' && !c.is_control()).collect()
}

/// The playlist of one rendition: an event while segments are still being added, else video on demand.
/// Its URIs are relative to `{name}/`. Absent until the first segment is there.
#[must_use]
pub fn media_playlist(presentation: &Presentation, rendition: Rendition<'_>, links: &Links<'_>) -> Option<String> {
    let track = rendition.track().filter(|track| !track.segments.is_empty() && track.timescale > 0)?;
    track.init.as_ref()?;
    let mut text = String::with_capacity(256 + track.segments.len() * (40 + links.query.map_or(0, str::len)));
    let target = target_seconds(rendition, track);
    let kind = if presentation.complete { "VOD" } else { "EVENT" };
    let _ = writeln!(
        text,
        "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:{target}\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:{kind}"
    );
    text.push_str("#EXT-X-INDEPENDENT-SEGMENTS\n");
    if !presentation.complete {
        // A growing title is watched from its beginning, where players would join a live one at its end.
        text.push_str("#EXT-X-START:TIME-OFFSET=0,PRECISE=YES\n");
    }
    let _ = writeln!(text, "#EXT-X-MAP:URI=\"{}\"", links.to("init.mp4"));
    for segment in &track.segments {
        let (whole, micros) = rounded_micros(segment.duration, track.timescale);
        let _ = writeln!(text, "#EXTINF:{whole}.{micros:06},\n{}", links.to(&segment_file(segment.number)));
    }
    if presentation.complete {
        text.push_str("#EXT-X-ENDLIST\n");
    }
    Some(text)
}

/// The longest segment in whole seconds, rounded up. It must never change while a playlist grows, and AAC segments
/// of whole frames differ by a frame or two, so sound gets that much room from the start.
fn target_seconds(rendition: Rendition<'_>, track: &Track) -> u64 {
    let longest = track.segments.iter().map(|segment| segment.duration).max().unwrap_or(0);
    let room = match rendition {
        Rendition::Audio(audio) => u64::from(track.timescale) * 2 * 1024 / u64::from(audio.sample_rate_hz.max(1)),
        Rendition::Video(_) => 0,
    };
    (longest + room).div_ceil(u64::from(track.timescale)).max(1)
}

/// Whole seconds and microseconds, rounded to the nearest.
fn rounded_micros(ticks: u64, timescale: u32) -> (u128, u128) {
    let scale = u128::from(timescale);
    let micros = (u128::from(ticks) * 1_000_000 + scale / 2) / scale;
    (micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::samples::{audio, title, track, video};

    const TOKEN: Links<'static> = Links { base: "/play/pbk_1/", query: Some("token=abc") };

    #[test]
    fn the_multivariant_playlist_carries_what_was_measured() {
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-INDEPENDENT-SEGMENTS\n\
            #EXT-X-MEDIA:TYPE=AUDIO,GROUP-ID=\"audio\",NAME=\"Audio\",DEFAULT=YES,AUTOSELECT=YES,CHANNELS=\"2\",URI=\"/play/pbk_1/a128/index.m3u8?token=abc\"\n\
            #EXT-X-STREAM-INF:BANDWIDTH=1728021,AVERAGE-BANDWIDTH=1509259,CODECS=\"avc1.4d400d,mp4a.40.2\",RESOLUTION=853x480,FRAME-RATE=29.970,AUDIO=\"audio\"\n\
            /play/pbk_1/v480/index.m3u8?token=abc\n";
        let text = multivariant(&title(), &TOKEN).unwrap();
        let head: String = text.lines().take(6).map(|line| format!("{line}\n")).collect();
        assert_eq!(numbers_out(&head), numbers_out(expected));
        assert_eq!(text.lines().filter(|line| line.contains("token=abc")).count(), 4);
        let order: Vec<_> = text.lines().filter(|line| line.starts_with("/play")).collect();
        assert!(order[1].contains("v720") && order[2].contains("v360"), "{order:?}");
    }

    /// The measured rates have tests of their own, in `bandwidth`.
    fn numbers_out(text: &str) -> String {
        let mut kept = String::new();
        for part in text.split("BANDWIDTH=") {
            kept.push_str(part.trim_start_matches(|c: char| c.is_ascii_digit()));
        }
        kept
    }

    #[test]
    fn the_bandwidth_of_a_variant_includes_its_sound() {
        let with = multivariant(&title(), &Links::default()).unwrap();
        let without = multivariant(&Presentation { audio: None, ..title() }, &Links::default()).unwrap();
        let first = |text: &str| -> u64 { text.split("BANDWIDTH=").nth(1).unwrap().split(',').next().unwrap().parse().unwrap() };
        let sound = Bandwidth::of(audio().track.as_ref().unwrap()).peak;
        assert_eq!(first(&with), first(&without) + sound);
        assert!(!without.contains("AUDIO"), "{without}");
    }

    #[test]
    fn a_title_of_sound_alone_is_one_variant_without_a_group() {
        let text = multivariant(&Presentation { video: vec![], ..title() }, &Links::default()).unwrap();
        assert!(text.contains("CODECS=\"mp4a.40.2\"\na128/index.m3u8\n"), "{text}");
        assert!(!text.contains("EXT-X-MEDIA:"));
    }

    #[test]
    fn nothing_is_offered_before_every_rendition_has_a_segment() {
        let mut growing = Presentation { complete: false, ..title() };
        growing.video.push(VideoRendition { track: Some(track("v240", 1000, 0, &[], 0)), ..video(240, 1) });
        assert_eq!(multivariant(&growing, &Links::default()), None);
        assert_eq!(media_playlist(&growing, Rendition::Video(&growing.video[3]), &Links::default()), None);
    }

    #[test]
    fn a_whole_title_has_an_exact_playlist_with_an_end() {
        let title = title();
        let text =
            media_playlist(&title, Rendition::Video(&title.video[0]), &Links { base: "", query: Some("token=abc") }).unwrap();
        let expected = "#EXTM3U\n#EXT-X-VERSION:7\n#EXT-X-TARGETDURATION:3\n#EXT-X-MEDIA-SEQUENCE:1\n#EXT-X-PLAYLIST-TYPE:VOD\n\
            #EXT-X-INDEPENDENT-SEGMENTS\n#EXT-X-MAP:URI=\"init.mp4?token=abc\"\n#EXTINF:2.002000,\n00001.m4s?token=abc\n\
            #EXTINF:2.002000,\n00002.m4s?token=abc\n#EXTINF:0.500500,\n00003.m4s?token=abc\n#EXT-X-ENDLIST\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_growing_title_is_an_event_that_starts_at_its_beginning() {
        let growing = Presentation { complete: false, ..title() };
        let text = media_playlist(&growing, Rendition::Video(&growing.video[0]), &Links::default()).unwrap();
        assert!(text.contains("#EXT-X-PLAYLIST-TYPE:EVENT\n") && text.contains("#EXT-X-START:TIME-OFFSET=0"));
        assert!(!text.contains("ENDLIST"));
    }

    proptest! {
        #[test]
        fn the_written_lengths_add_up_and_fit_the_target(durations in proptest::collection::vec(1_u64..400_000, 1..50), timescale in 600_u32..100_000) {
            let mut title = title();
            title.video[0].track = Some(track("v720", timescale, 0, &durations, 10));
            let text = media_playlist(&title, Rendition::Video(&title.video[0]), &Links::default()).unwrap();
            let target: f64 = text.split("TARGETDURATION:").nth(1).unwrap().lines().next().unwrap().parse().unwrap();
            let lengths: Vec<f64> = text.lines().filter_map(|l| l.strip_prefix("#EXTINF:")).map(|l| l.trim_end_matches(',').parse().unwrap()).collect();
            prop_assert_eq!(lengths.len(), durations.len());
            prop_assert!(lengths.iter().all(|length| *length <= target + 1e-6));
            let whole = seconds(durations.iter().sum(), timescale);
            prop_assert!((lengths.iter().sum::<f64>() - whole).abs() < 1e-6 * durations.len() as f64);
        }
    }
}
