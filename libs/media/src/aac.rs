//! AAC: reads the `AudioSpecificConfig` (ISO/IEC 14496-3).

/// Samples of one channel in an AAC-LC frame.
pub const SAMPLES_PER_FRAME: u32 = 1024;

const RATES: [u32; 13] = [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

/// What a decoder is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// MPEG-4 audio object type; 2 is AAC-LC.
    pub object_type: u8,
    /// Samples in a second.
    pub sample_rate_hz: u32,
    /// Channels; 0 when the stream itself says so.
    pub channels: u8,
}

impl AudioSpecificConfig {
    /// Reads the record. Absent when it is cut off or uses escape codes, which AAC-LC never needs.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head = u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]);
        let object_type = u8::try_from(head >> 11).ok()?;
        let rate = usize::from((head >> 7) & 0xf);
        let channels = u8::try_from((head >> 3) & 0xf).ok()?;
        let sample_rate_hz = *RATES.get(rate)?;
        (object_type != 0 && object_type != 31).then_some(Self { object_type, sample_rate_hz, channels })
    }

    /// RFC 6381 codec string, such as `mp4a.40.2`.
    #[must_use]
    pub fn codecs(&self) -> String {
        format!("mp4a.40.{}", self.object_type)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn reading_never_panics_and_gives_real_rates_only(bytes in proptest::collection::vec(any::<u8>(), 0..8)) {
            if let Some(config) = AudioSpecificConfig::parse(&bytes) {
                prop_assert!(RATES.contains(&config.sample_rate_hz));
            }
        }
    }

    #[test]
    fn the_config_of_stereo_at_48_khz_is_read() {
        let config = AudioSpecificConfig::parse(&[0x11, 0x90]);
        assert_eq!(config, Some(AudioSpecificConfig { object_type: 2, sample_rate_hz: 48_000, channels: 2 }));
        assert_eq!(config.map(|c| c.codecs()).as_deref(), Some("mp4a.40.2"));
    }

    #[test]
    fn a_cut_or_escaped_config_is_refused() {
        assert_eq!(AudioSpecificConfig::parse(&[0x11]), None);
        assert_eq!(AudioSpecificConfig::parse(&[0xff, 0xff]), None);
    }
}
