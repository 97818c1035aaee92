//! Looks at a source and decides what is made of it, or refuses it by name.

use std::{
    fs::File,
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use gstreamer::{self as gst, glib};
use gstreamer_pbutils::{self as pbutils, prelude::*};
use gstreamer_video as gst_video;
use streamgate_media::{
    encoder_protocol::{EncodeSpec, Limits, Report},
    ladder::{self, FrameRate, Rung},
};

use crate::refusal::Refusal;

/// What is made of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Duration that the source claims, in milliseconds; 0 when it does not say.
    pub claimed_ms: u64,
    /// Pictures, if there are any.
    pub picture: Option<Picture>,
    /// Whether there is sound.
    pub has_audio: bool,
    /// BCP 47 language of the sound, empty when unknown.
    pub language: String,
    /// Bits in a second of the sound, in thousands.
    pub audio_kbps: u32,
}

/// Size and rate of what is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// Width as shown: upright, in square pixels.
    pub width: u32,
    /// Height as shown.
    pub height: u32,
    /// Frame rate of all rungs.
    pub rate: FrameRate,
    /// Renditions, largest first.
    pub rungs: Vec<Rung>,
}

impl Plan {
    /// Names of the renditions that will be made.
    pub fn tracks(&self) -> Vec<String> {
        let rungs = self.picture.iter().flat_map(|picture| &picture.rungs).map(|rung| rung.name.clone());
        rungs.chain(self.has_audio.then(|| format!("a{}", self.audio_kbps))).collect()
    }

    /// The first line of the child.
    pub fn report(&self) -> Report {
        let picture = self.picture.as_ref();
        Report::Probed {
            duration_ms: self.claimed_ms,
            width: picture.map_or(0, |p| p.width),
            height: picture.map_or(0, |p| p.height),
            frame_rate: picture.map(|p| p.rate),
            has_video: picture.is_some(),
            has_audio: self.has_audio,
            tracks: self.tracks(),
        }
    }
}

/// Looks at `input`.
///
/// # Errors
/// The reason why nothing can be made of it.
pub fn plan(input: &Path, spec: &EncodeSpec) -> Result<Plan, Refusal> {
    let size = input.metadata().map_err(|error| Refusal::of_io("open the source", &error))?.len();
    if size == 0 {
        return Err(Refusal::new("empty_file", "the file is empty; the upload may have been cut off before it began"));
    }
    let info = discover(input, &spec.limits).map_err(|refusal| explained(input, refusal))?;
    let claimed_ms = info.duration().map_or(0, gst::ClockTime::mseconds);
    if claimed_ms > spec.limits.max_duration_ms {
        let hours = spec.limits.max_duration_ms / 3_600_000;
        return Err(Refusal::new("too_long", format!("the file runs for longer than the {hours} hours that are taken here")));
    }
    let video = info.video_streams().into_iter().find(|stream| !stream.is_image());
    let audio = info.audio_streams().into_iter().next();
    if video.is_none() && audio.is_none() {
        return Err(explained(input, no_streams()));
    }
    let picture = video.map(|stream| picture(&info, &stream, spec)).transpose()?;
    let language = audio.as_ref().and_then(pbutils::DiscovererAudioInfo::language).map_or_else(String::new, Into::into);
    Ok(Plan { claimed_ms, picture, has_audio: audio.is_some(), language, audio_kbps: spec.audio_kbps })
}

fn no_streams() -> Refusal {
    Refusal::new("no_media_streams", "the file holds neither a video nor an audio track; check that it was exported whole")
}

fn cut_off() -> Refusal {
    Refusal::new(
        "truncated",
        "the end of the file is missing, and with it the index; copy or export it again and upload the whole file",
    )
}

fn discover(input: &Path, limits: &Limits) -> Result<pbutils::DiscovererInfo, Refusal> {
    let timeout = gst::ClockTime::from_mseconds(limits.probe_timeout_ms);
    let discoverer = pbutils::Discoverer::new(timeout).map_err(|error| Refusal::internal(error.message()))?;
    let uri = glib::filename_to_uri(input, None).map_err(|error| Refusal::internal(error.message()))?;
    let info = discoverer.discover_uri(&uri).map_err(|error| Refusal::of_gst(&error))?;
    match info.result() {
        pbutils::DiscovererResult::Ok => Ok(info),
        pbutils::DiscovererResult::MissingPlugins if !info.video_streams().is_empty() || !info.audio_streams().is_empty() => {
            Ok(info)
        }
        pbutils::DiscovererResult::MissingPlugins => Err(Refusal::new(
            "unsupported_codec",
            "the file uses a format that can't be decoded here; export it as H.264 and AAC",
        )),
        pbutils::DiscovererResult::Timeout => Err(Refusal::damaged("it could not be understood in time")),
        _ => Err(Refusal::damaged("it can't be read")),
    }
}

fn picture(info: &pbutils::DiscovererInfo, stream: &pbutils::DiscovererVideoInfo, spec: &EncodeSpec) -> Result<Picture, Refusal> {
    if stream.caps().is_some_and(|caps| is_hdr(&caps)) {
        return Err(hdr());
    }
    let (coded_width, coded_height) = (stream.width(), stream.height());
    if coded_width == 0 || coded_height == 0 {
        return Err(Refusal::damaged("the size of its picture is not known"));
    }
    let side = spec.limits.max_side;
    if coded_width > side || coded_height > side {
        let said = format!("the picture is {coded_width}x{coded_height}; at most {side} pixels a side are taken here");
        return Err(Refusal::new("too_large_dimensions", said));
    }
    let par = stream.par();
    let (num, den) = (u64::from(par.numer().max(1).unsigned_abs()), u64::from(par.denom().max(1).unsigned_abs()));
    let shown = u32::try_from((u64::from(coded_width) * num + den / 2) / den).unwrap_or(coded_width).clamp(1, side);
    let turned = [stream.tags(), info.tags()].into_iter().flatten().any(|tags| is_turned(&tags));
    let (width, height) = if turned { (coded_height, shown) } else { (shown, coded_height) };
    let fraction = stream.framerate();
    let rate = FrameRate::standard(u32::try_from(fraction.numer()).unwrap_or(0), u32::try_from(fraction.denom()).unwrap_or(0));
    Ok(Picture { width, height, rate, rungs: ladder::rungs(width, height, &spec.steps) })
}

/// Whether the picture stands on its side.
fn is_turned(tags: &gst::TagList) -> bool {
    let turned = ["rotate-90", "rotate-270", "flip-rotate-90", "flip-rotate-270"];
    tags.get::<gst::tags::ImageOrientation>().is_some_and(|tag| turned.contains(&tag.get()))
}

/// The refusal of a source that 8-bit SDR can't show rightly.
pub fn hdr() -> Refusal {
    Refusal::new(
        "hdr_not_supported",
        "the video is HDR (PQ or HLG), whose colours would come out wrong; export it as SDR (BT.709)",
    )
}

/// Whether the transfer function is PQ or HLG.
pub fn is_hdr(caps: &gst::CapsRef) -> bool {
    use gst_video::VideoTransferFunction as T;
    let colorimetry = caps.structure(0).and_then(|s| s.get::<&str>("colorimetry").ok());
    let parsed = colorimetry.and_then(|text| text.parse::<gst_video::VideoColorimetry>().ok());
    parsed.is_some_and(|c| matches!(c.transfer(), T::Smpte2084 | T::AribStdB67))
}

/// A better reason, where an MP4's outermost boxes give one.
fn explained(input: &Path, refusal: Refusal) -> Refusal {
    match File::open(input).ok().and_then(walk_mp4) {
        Some(Mp4::CutOff) => cut_off(),
        Some(Mp4::NoTracks) if refusal.reason == "damaged" => no_streams(),
        _ => refusal,
    }
}

/// What an MP4's outermost boxes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mp4 {
    /// The index is missing, or the last box runs past the end.
    CutOff,
    /// The index names no track.
    NoTracks,
    /// Nothing is wrong there.
    Whole,
}

/// How much of an index is searched for tracks.
const INDEX_BYTES: u64 = 64 * 1024;

/// Walks the outermost boxes. Absent when it is no MP4.
fn walk_mp4(mut file: File) -> Option<Mp4> {
    let length = file.metadata().ok()?.len();
    let (mut at, mut tracks) = (0_u64, None);
    // A real file has a handful; a hostile one may have millions.
    for _ in 0..1000 {
        if at >= length {
            break;
        }
        file.seek(SeekFrom::Start(at)).ok()?;
        let mut head = [0_u8; 16];
        if file.read(&mut head).ok()? < 8 {
            return Some(Mp4::CutOff);
        }
        let name = [head[4], head[5], head[6], head[7]];
        if at == 0 && &name != b"ftyp" || !name.iter().all(|letter| letter.is_ascii_graphic() || *letter == b' ') {
            return None;
        }
        let size = match u32::from_be_bytes([head[0], head[1], head[2], head[3]]) {
            0 => length - at,
            1 => u64::from_be_bytes(head[8..16].try_into().ok()?),
            size => u64::from(size),
        };
        if size < 8 {
            return None;
        }
        if &name == b"moov" {
            let mut index = Vec::new();
            file.by_ref().take(size.min(INDEX_BYTES)).read_to_end(&mut index).ok()?;
            tracks = Some(index.windows(4).any(|word| word == b"trak") || size > INDEX_BYTES);
        }
        at = at.checked_add(size)?;
    }
    Some(match tracks {
        _ if at > length => Mp4::CutOff,
        None => Mp4::CutOff,
        Some(false) => Mp4::NoTracks,
        Some(true) => Mp4::Whole,
    })
}
