//! H.264: reads the decoder configuration and its sequence parameter set (ITU-T H.264, 7.3.2.1.1).

/// What a sequence parameter set says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sps {
    /// `profile_idc`.
    pub profile: u8,
    /// Constraint flags.
    pub constraints: u8,
    /// `level_idc`.
    pub level: u8,
    /// Width after cropping.
    pub width: u32,
    /// Height after cropping.
    pub height: u32,
}

impl Sps {
    /// Reads the first parameter set of an `AVCDecoderConfigurationRecord`.
    #[must_use]
    pub fn of_avcc(avcc: &[u8]) -> Option<Self> {
        if *avcc.first()? != 1 || *avcc.get(5)? & 0x1f == 0 {
            return None;
        }
        let size = usize::from(u16::from_be_bytes([*avcc.get(6)?, *avcc.get(7)?]));
        Self::parse(avcc.get(8..8 + size)?)
    }

    /// Reads a NAL unit of type 7, its header included.
    #[must_use]
    pub fn parse(nal: &[u8]) -> Option<Self> {
        if *nal.first()? & 0x1f != 7 {
            return None;
        }
        let (profile, constraints, level) = (*nal.get(1)?, *nal.get(2)?, *nal.get(3)?);
        let body = unescape(nal.get(4..)?);
        let mut bits = Bits { bytes: &body, at: 0 };
        bits.ue()?; // seq_parameter_set_id
        let chroma = chroma_format(&mut bits, profile)?;
        skip_to_size(&mut bits)?;
        let width_mbs = bits.ue()?.checked_add(1)?;
        let height_units = bits.ue()?.checked_add(1)?;
        let frame_only = bits.take(1)?;
        if frame_only == 0 {
            bits.take(1)?;
        }
        bits.take(1)?; // direct_8x8_inference_flag
        let fields = 2 - frame_only;
        let (crop_x, crop_y) = cropping(&mut bits)?;
        let (unit_x, unit_y) = (if matches!(chroma, 1 | 2) { 2 } else { 1 }, if chroma == 1 { 2 } else { 1 } * fields);
        let width = width_mbs.checked_mul(16)?.checked_sub(crop_x.checked_mul(unit_x)?)?;
        let height = height_units.checked_mul(16 * fields)?.checked_sub(crop_y.checked_mul(unit_y)?)?;
        Some(Self { profile, constraints, level, width, height })
    }

    /// RFC 6381 codec string, such as `avc1.64001f`.
    #[must_use]
    pub fn codecs(&self) -> String {
        format!("avc1.{:02x}{:02x}{:02x}", self.profile, self.constraints, self.level)
    }
}

/// Reads the fields that only the high profiles have, and gives the chroma format.
fn chroma_format(bits: &mut Bits<'_>, profile: u8) -> Option<u32> {
    if !matches!(profile, 44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 138 | 139 | 134 | 135 | 244) {
        return Some(1);
    }
    let chroma = bits.ue().filter(|chroma| *chroma <= 3)?;
    if chroma == 3 {
        bits.take(1)?;
    }
    bits.ue()?; // bit depths
    bits.ue()?;
    bits.take(1)?;
    if bits.take(1)? == 1 {
        for list in 0..if chroma == 3 { 12 } else { 8 } {
            if bits.take(1)? == 1 {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma)
}

fn skip_scaling_list(bits: &mut Bits<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i64, 8_i64);
    for _ in 0..size {
        if next != 0 {
            next = (last + bits.se()?).rem_euclid(256);
        }
        if next != 0 {
            last = next;
        }
    }
    Some(())
}

/// Skips frame numbering, picture order and reference frames.
fn skip_to_size(bits: &mut Bits<'_>) -> Option<()> {
    bits.ue()?;
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.take(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.take(1)?;
    Some(())
}

/// Cropped units, sideways and down.
fn cropping(bits: &mut Bits<'_>) -> Option<(u32, u32)> {
    if bits.take(1)? == 0 {
        return Some((0, 0));
    }
    let (left, right) = (bits.ue()?, bits.ue()?);
    let (top, bottom) = (bits.ue()?, bits.ue()?);
    Some((left.checked_add(right)?, top.checked_add(bottom)?))
}

/// Takes out the bytes that keep start codes from appearing inside.
fn unescape(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut zeros = 0;
    for &byte in bytes {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value = (value << 1) | u32::from((byte >> (7 - self.at % 8)) & 1);
            self.at += 1;
        }
        Some(value)
    }

    /// An Exp-Golomb number.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }

    /// A signed Exp-Golomb number.
    fn se(&mut self) -> Option<i64> {
        let code = i64::from(self.ue()?);
        Some(if code % 2 == 0 { -(code / 2) } else { (code + 1) / 2 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// High profile, level 3.1, 1280x720, as x264 writes it.
    const SPS_720: [u8; 25] = [
        0x67, 0x64, 0x00, 0x1f, 0xac, 0xd9, 0x40, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00, 0x03,
        0x03, 0x20, 0xf1, 0x83, 0x19,
    ];

    #[test]
    fn size_and_codec_are_read_from_the_bitstream() {
        let sps = Sps::parse(&SPS_720);
        assert_eq!(sps.map(|s| (s.width, s.height)), Some((1280, 720)));
        assert_eq!(sps.map(|s| s.codecs()).as_deref(), Some("avc1.64001f"));
    }

    #[test]
    fn a_decoder_configuration_leads_to_its_parameter_set() {
        let mut avcc = vec![1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 25];
        avcc.extend_from_slice(&SPS_720);
        assert_eq!(Sps::of_avcc(&avcc).map(|s| s.level), Some(0x1f));
        assert_eq!(Sps::of_avcc(&avcc[..20]), None);
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut nal = vec![0x67];
            nal.extend(bytes);
            let _ = Sps::parse(&nal);
        }
    }
}
