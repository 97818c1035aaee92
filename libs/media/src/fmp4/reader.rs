//! Reads back what the writer wrote, without trusting it.

/// A file that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("damaged segment: {0}")]
pub struct Damaged(pub &'static str);

/// One box.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoxRef<'a> {
    /// Its four letters.
    pub name: [u8; 4],
    /// What it holds.
    pub body: &'a [u8],
}

/// What a media segment says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentFacts {
    /// From `mfhd`.
    pub sequence: u32,
    /// First decoding time, in ticks.
    pub start: u64,
    /// Sum of the samples, in ticks.
    pub duration: u64,
    /// Samples.
    pub samples: usize,
    /// Whether the first sample can be decoded alone.
    pub starts_with_sync: bool,
    /// Earliest presentation time, in ticks, before the track's edit.
    pub first_presentation: i64,
}

/// What an init segment says of its track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFacts {
    /// Ticks in a second.
    pub timescale: u32,
    /// Width from `tkhd`; 0 for audio.
    pub width: u32,
    /// Height from `tkhd`; 0 for audio.
    pub height: u32,
    /// Transformation from `tkhd`.
    pub matrix: [u32; 9],
    /// Four letters of the sample entry.
    pub sample_entry: [u8; 4],
}

/// The boxes that `bytes` holds, one after the other.
///
/// # Errors
/// A size that does not fit.
pub fn boxes(mut bytes: &[u8]) -> Result<Vec<BoxRef<'_>>, Damaged> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let size = u32_at(bytes, 0)? as usize;
        let name = bytes.get(4..8).and_then(|b| b.try_into().ok()).ok_or(Damaged("box without a name"))?;
        let body = bytes.get(8..size).ok_or(Damaged("box larger than the file"))?;
        found.push(BoxRef { name, body });
        bytes = &bytes[size..];
    }
    Ok(found)
}

/// Reads a media segment's times.
///
/// # Errors
/// A box that is missing or cut off.
pub fn segment_facts(bytes: &[u8]) -> Result<SegmentFacts, Damaged> {
    let moof = child(bytes, b"moof")?;
    let traf = child(moof, b"traf")?;
    let sequence = u32_at(child(moof, b"mfhd")?, 4)?;
    let tfdt = child(traf, b"tfdt")?;
    let start = (u64::from(u32_at(tfdt, 4)?) << 32) | u64::from(u32_at(tfdt, 8)?);
    let trun = child(traf, b"trun")?;
    if u32_at(trun, 0)? != 0x0100_0f01 {
        return Err(Damaged("run of another shape"));
    }
    let samples = u32_at(trun, 4)? as usize;
    if samples == 0 {
        return Err(Damaged("run without a sample"));
    }
    let (mut duration, mut first_presentation, mut payload) = (0_u64, i64::MAX, 0_usize);
    let mut starts_with_sync = false;
    for index in 0..samples {
        let row = 12 + index * 16;
        let offset = u32_at(trun, row + 12)?.cast_signed();
        let decode = i64::try_from(start + duration).map_err(|_| Damaged("time out of range"))?;
        let presented = decode.checked_add(i64::from(offset)).ok_or(Damaged("time out of range"))?;
        first_presentation = first_presentation.min(presented);
        if index == 0 {
            starts_with_sync = u32_at(trun, row + 8)? & 0x0001_0000 == 0;
        }
        payload += u32_at(trun, row + 4)? as usize;
        duration += u64::from(u32_at(trun, row)?);
    }
    if child(bytes, b"mdat")?.len() != payload {
        return Err(Damaged("other bytes than the run names"));
    }
    Ok(SegmentFacts { sequence, start, duration, samples, starts_with_sync, first_presentation })
}

/// Reads an init segment's track.
///
/// # Errors
/// A box that is missing or cut off.
pub fn init_facts(bytes: &[u8]) -> Result<TrackFacts, Damaged> {
    let trak = child(child(bytes, b"moov")?, b"trak")?;
    let tkhd = child(trak, b"tkhd")?;
    let mdia = child(trak, b"mdia")?;
    let stbl = child(child(mdia, b"minf")?, b"stbl")?;
    let entries = child(stbl, b"stsd")?.get(8..).ok_or(Damaged("no sample entry"))?;
    let sample_entry = boxes(entries)?.first().ok_or(Damaged("no sample entry"))?.name;
    let mut matrix = [0; 9];
    for (index, cell) in matrix.iter_mut().enumerate() {
        *cell = u32_at(tkhd, 40 + index * 4)?;
    }
    Ok(TrackFacts {
        timescale: u32_at(child(mdia, b"mdhd")?, 12)?,
        width: u32_at(tkhd, 76)? >> 16,
        height: u32_at(tkhd, 80)? >> 16,
        matrix,
        sample_entry,
    })
}

fn child<'a>(bytes: &'a [u8], name: &[u8; 4]) -> Result<&'a [u8], Damaged> {
    boxes(bytes)?.into_iter().find(|b| &b.name == name).map(|b| b.body).ok_or(Damaged("a box is missing"))
}

fn u32_at(bytes: &[u8], at: usize) -> Result<u32, Damaged> {
    let field = bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).ok_or(Damaged("cut off"))?;
    Ok(u32::from_be_bytes(field))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;
    use crate::fmp4::{AudioTrack, Sample, VideoTrack, audio_init, media_segment, video_init};

    fn sample(offset: i32, sync: bool, data: &'static [u8]) -> Sample<&'static [u8]> {
        Sample { duration: 1001, composition_offset: offset, sync, data }
    }

    #[test]
    fn a_segment_says_its_times_and_points_at_its_bytes() {
        let made = media_segment(7, 12_000, &[sample(0, true, b"idr"), sample(1001, false, b"pp"), sample(-1001, false, b"b")]);
        let facts = segment_facts(&made).unwrap();
        assert_eq!(facts.sequence, 7);
        assert_eq!((facts.start, facts.duration, facts.samples), (12_000, 3003, 3));
        assert!(facts.starts_with_sync);
        assert_eq!(facts.first_presentation, 12_000);

        let moof = made.windows(4).position(|w| w == b"moof").unwrap() - 4;
        let trun = made.windows(4).position(|w| w == b"trun").unwrap();
        let offset = u32_at(&made, trun + 12).unwrap() as usize;
        assert_eq!(&made[moof + offset..], b"idrppb");
    }

    #[test]
    fn a_segment_claims_only_the_brands_that_it_keeps() {
        let made = media_segment(1, 0, &[sample(0, true, b"idr")]);
        assert_eq!(&made[..24], b"\x00\x00\x00\x18stypmsdh\x00\x00\x00\x00msdhcmfs");
        assert!(!made.windows(4).any(|name| name == b"sidx"), "a segment with an index is an indexed one, of the brand msix");
    }

    #[test]
    fn a_video_init_is_upright_and_takes_back_the_reordering() {
        let init = video_init(&VideoTrack {
            timescale: 30_000,
            width: 640,
            height: 360,
            avcc: vec![1, 100, 0, 30],
            reorder_ticks: 2002,
        });
        let facts = init_facts(&init).unwrap();
        assert_eq!((facts.timescale, facts.width, facts.height), (30_000, 640, 360));
        assert_eq!(facts.matrix, [0x1_0000, 0, 0, 0, 0x1_0000, 0, 0, 0, 0x4000_0000]);
        assert_eq!(&facts.sample_entry, b"avc1");
        let edit = init.windows(4).position(|w| w == b"elst").unwrap();
        assert_eq!(u32_at(&init, edit + 16), Ok(2002));
        for unwanted in [b"udta", b"meta", b"loci"] {
            assert!(!init.windows(4).any(|w| w == unwanted), "{unwanted:?}");
        }
    }

    #[test]
    fn an_audio_init_names_its_codec() {
        let init = audio_init(&AudioTrack { sample_rate_hz: 48_000, channels: 2, bitrate: 128_000, config: vec![0x11, 0x90] });
        let facts = init_facts(&init).unwrap();
        assert_eq!((facts.timescale, facts.width), (48_000, 0));
        assert_eq!(&facts.sample_entry, b"mp4a");
    }

    #[test]
    fn a_time_at_the_end_of_all_times_is_damage_and_no_overflow() {
        let last = u64::try_from(i64::MAX).unwrap();
        for (start, offset) in [(u64::MAX, 0), (last, i32::MAX), (last, 1)] {
            let made = media_segment(1, start, &[sample(offset, true, b"idr")]);
            assert_eq!(segment_facts(&made), Err(Damaged("time out of range")), "{start} {offset}");
        }
    }

    #[test]
    fn a_run_without_samples_is_damage() {
        assert_eq!(segment_facts(&media_segment::<&[u8]>(1, 0, &[])), Err(Damaged("run without a sample")));
    }

    #[test]
    fn a_segment_cut_before_its_bytes_is_damage() {
        // Once read as whole: the cut lay between the moof and the mdat.
        let made = media_segment(1, 5, &[sample(0, true, b"abc"), sample(0, false, b"defgh")]);
        let mdat = made.windows(4).position(|w| w == b"mdat").unwrap() - 4;
        assert_eq!(segment_facts(&made[..mdat]), Err(Damaged("a box is missing")));
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = segment_facts(&bytes);
            let _ = init_facts(&bytes);
        }

        #[test]
        fn no_four_bytes_of_a_segment_make_reading_panic(at in 0_usize..160, with in any::<[u8; 4]>()) {
            let mut made = media_segment(1, 5, &[sample(0, true, b"abc"), sample(0, false, b"defgh")]);
            if let Some(field) = made.get_mut(at..at + 4) {
                field.copy_from_slice(&with);
            }
            let _ = segment_facts(&made);
        }

        #[test]
        fn any_cut_of_a_segment_is_an_error_or_the_truth(cut in 0_usize..200) {
            let made = media_segment(1, 5, &[sample(0, true, b"abc"), sample(0, false, b"defgh")]);
            let short = &made[..cut.min(made.len())];
            prop_assert!(segment_facts(short).is_err() || short.len() == made.len());
        }
    }
}
