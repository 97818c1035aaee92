//! Media segments: one fragment each.

use super::boxes::Writer;

/// `sample_depends_on = 2`: an IDR frame, or any audio frame.
const SYNC: u32 = 0x0200_0000;
/// `sample_depends_on = 1`, and not a sync sample.
const NOT_SYNC: u32 = 0x0101_0000;

/// One access unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample<B> {
    /// Length in ticks.
    pub duration: u32,
    /// Presentation minus decoding time, in ticks, before the track's edit.
    pub composition_offset: i32,
    /// Whether decoding can begin here.
    pub sync: bool,
    /// The coded bytes.
    pub data: B,
}

/// One segment, `styp moof mdat`. `sequence` counts from 1; `start` is the first sample's
/// decoding time in ticks.
#[must_use]
pub fn media_segment<B: AsRef<[u8]>>(sequence: u32, start: u64, samples: &[Sample<B>]) -> Vec<u8> {
    let payload: usize = samples.iter().map(|s| s.data.as_ref().len()).sum();
    let mut w = Writer::with_capacity(payload + 128 + samples.len() * 16);
    w.boxed(b"styp", |w| {
        w.bytes(b"msdh");
        w.u32(0);
        // Not `msix`: that promises an index in the segment.
        w.bytes(b"msdhcmfs");
    });
    let moof = w.position();
    let mut data_offset = 0;
    w.boxed(b"moof", |w| {
        w.full(b"mfhd", 0, 0, |w| w.u32(sequence));
        w.boxed(b"traf", |w| {
            // Offsets count from the moof.
            w.full(b"tfhd", 0, 0x02_0000, |w| w.u32(1));
            w.full(b"tfdt", 1, 0, |w| w.u64(start));
            data_offset = run(w, samples);
        });
    });
    let body = w.position() - moof + 8;
    w.patch_u32(data_offset, u32::try_from(body).unwrap_or(u32::MAX));
    w.boxed(b"mdat", |w| samples.iter().for_each(|s| w.bytes(s.data.as_ref())));
    w.finish()
}

/// Writes the `trun` and gives the place of its data offset.
fn run<B: AsRef<[u8]>>(w: &mut Writer, samples: &[Sample<B>]) -> usize {
    let mut place = 0;
    // Data offset, then per sample: duration, size, flags, signed composition offset.
    w.full(b"trun", 1, 0x0f01, |w| {
        w.u32(u32::try_from(samples.len()).unwrap_or(u32::MAX));
        place = w.position();
        w.u32(0);
        for sample in samples {
            w.u32(sample.duration);
            w.u32(u32::try_from(sample.data.as_ref().len()).unwrap_or(u32::MAX));
            w.u32(if sample.sync { SYNC } else { NOT_SYNC });
            w.bytes(&sample.composition_offset.to_be_bytes());
        }
    });
    place
}
