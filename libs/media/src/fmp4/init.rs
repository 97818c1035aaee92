//! Init segments: what a decoder must know before the first fragment.

use super::boxes::Writer;

/// The unity matrix: pictures are stored upright.
const UNITY: [u32; 9] = [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000];
/// Each file has one track.
const TRACK_ID: u32 = 1;
/// "und", packed in three times five bits.
const UNDETERMINED_LANGUAGE: u16 = 0x55c4;

/// An H.264 track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VideoTrack {
    /// Ticks in a second.
    pub timescale: u32,
    /// Width in square pixels.
    pub width: u16,
    /// Height in square pixels.
    pub height: u16,
    /// `AVCDecoderConfigurationRecord`.
    pub avcc: Vec<u8>,
    /// Ticks by which every composition time is late, so that none comes before its decoding
    /// time. One edit takes them back, as CMAF's `cmfc` brand asks. Negative composition offsets
    /// would need no edit, but widespread players show such pictures late.
    pub reorder_ticks: u32,
}

/// An AAC track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudioTrack {
    /// Samples in a second; also the timescale.
    pub sample_rate_hz: u32,
    /// Channels.
    pub channels: u16,
    /// Bits in a second, as a hint for decoders.
    pub bitrate: u32,
    /// `AudioSpecificConfig`.
    pub config: Vec<u8>,
}

/// The init segment of an H.264 track.
#[must_use]
pub fn video_init(track: &VideoTrack) -> Vec<u8> {
    init(track.timescale, *b"vide", (track.width, track.height), track.reorder_ticks, |w| {
        w.boxed(b"avc1", |w| {
            w.zeros(6);
            w.u16(1); // data reference
            w.zeros(16);
            w.u16(track.width);
            w.u16(track.height);
            w.u32(0x0048_0000); // 72 dpi, both ways
            w.u32(0x0048_0000);
            w.u32(0);
            w.u16(1); // frames in a sample
            w.zeros(32); // compressor's name: none
            w.u16(24); // depth
            w.u16(0xffff);
            w.boxed(b"avcC", |w| w.bytes(&track.avcc));
            w.boxed(b"pasp", |w| {
                w.u32(1);
                w.u32(1);
            });
        });
    })
}

/// The init segment of an AAC track.
#[must_use]
pub fn audio_init(track: &AudioTrack) -> Vec<u8> {
    init(track.sample_rate_hz, *b"soun", (0, 0), 0, |w| {
        w.boxed(b"mp4a", |w| {
            w.zeros(6);
            w.u16(1); // data reference
            w.zeros(8);
            w.u16(track.channels);
            w.u16(16);
            w.zeros(4);
            w.u32(track.sample_rate_hz.min(0xffff) << 16);
            w.full(b"esds", 0, 0, |w| elementary_stream(w, track));
        });
    })
}

/// The descriptor chain of MPEG-4 systems, with one-byte lengths.
fn elementary_stream(w: &mut Writer, track: &AudioTrack) {
    let config = u8::try_from(track.config.len()).unwrap_or(0);
    let decoder = 13 + 2 + config;
    w.u8(0x03); // ES descriptor
    w.u8(3 + 2 + decoder + 3);
    w.u16(0);
    w.u8(0);
    w.u8(0x04); // decoder configuration
    w.u8(decoder);
    w.u8(0x40); // MPEG-4 audio
    w.u8(0x15); // audio stream
    w.zeros(3); // buffer size: unknown
    w.u32(track.bitrate);
    w.u32(track.bitrate);
    w.u8(0x05); // decoder specific info
    w.u8(config);
    w.bytes(&track.config[..usize::from(config)]);
    w.u8(0x06); // SL configuration: MP4
    w.u8(1);
    w.u8(2);
}

fn init(timescale: u32, handler: [u8; 4], size: (u16, u16), media_time: u32, sample_entry: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::with_capacity(1024);
    w.boxed(b"ftyp", |w| {
        w.bytes(b"iso6");
        w.u32(0);
        w.bytes(b"iso6cmfcmp41dash");
    });
    w.boxed(b"moov", |w| {
        movie_header(w);
        w.boxed(b"trak", |w| {
            track_header(w, handler, size);
            if media_time > 0 {
                w.boxed(b"edts", |w| {
                    w.full(b"elst", 0, 0, |w| {
                        w.u32(1);
                        w.u32(0); // to the end
                        w.u32(media_time);
                        w.u32(0x0001_0000);
                    });
                });
            }
            w.boxed(b"mdia", |w| {
                media_header(w, timescale, handler);
                w.boxed(b"minf", |w| media_information(w, handler, sample_entry));
            });
        });
        w.boxed(b"mvex", |w| {
            w.full(b"trex", 0, 0, |w| {
                w.u32(TRACK_ID);
                w.u32(1); // sample description
                w.zeros(12); // defaults: every fragment says its own
            });
        });
    });
    w.finish()
}

fn movie_header(w: &mut Writer) {
    w.full(b"mvhd", 0, 0, |w| {
        w.zeros(8); // times of making: nobody's business
        w.u32(1000);
        w.u32(0); // duration: in fragments
        w.u32(0x0001_0000);
        w.u16(0x0100);
        w.zeros(10);
        UNITY.iter().for_each(|cell| w.u32(*cell));
        w.zeros(24);
        w.u32(TRACK_ID + 1);
    });
}

fn track_header(w: &mut Writer, handler: [u8; 4], (width, height): (u16, u16)) {
    // Enabled, in the movie, in the preview.
    w.full(b"tkhd", 0, 7, |w| {
        w.zeros(8);
        w.u32(TRACK_ID);
        w.zeros(4);
        w.u32(0);
        w.zeros(8);
        w.u16(0);
        w.u16(0);
        w.u16(if handler == *b"soun" { 0x0100 } else { 0 });
        w.u16(0);
        UNITY.iter().for_each(|cell| w.u32(*cell));
        w.u32(u32::from(width) << 16);
        w.u32(u32::from(height) << 16);
    });
}

fn media_header(w: &mut Writer, timescale: u32, handler: [u8; 4]) {
    w.full(b"mdhd", 0, 0, |w| {
        w.zeros(8);
        w.u32(timescale);
        w.u32(0);
        w.u16(UNDETERMINED_LANGUAGE);
        w.u16(0);
    });
    w.full(b"hdlr", 0, 0, |w| {
        w.u32(0);
        w.bytes(&handler);
        w.zeros(12);
        w.u8(0); // name: none
    });
}

fn media_information(w: &mut Writer, handler: [u8; 4], sample_entry: impl FnOnce(&mut Writer)) {
    if handler == *b"soun" {
        w.full(b"smhd", 0, 0, |w| w.zeros(4));
    } else {
        w.full(b"vmhd", 0, 1, |w| w.zeros(8));
    }
    w.boxed(b"dinf", |w| {
        w.full(b"dref", 0, 0, |w| {
            w.u32(1);
            w.full(b"url ", 0, 1, |_| {}); // in this file
        });
    });
    w.boxed(b"stbl", |w| {
        w.full(b"stsd", 0, 0, |w| {
            w.u32(1);
            sample_entry(w);
        });
        w.full(b"stts", 0, 0, |w| w.u32(0));
        w.full(b"stsc", 0, 0, |w| w.u32(0));
        w.full(b"stsz", 0, 0, |w| w.zeros(8));
        w.full(b"stco", 0, 0, |w| w.u32(0));
    });
}
