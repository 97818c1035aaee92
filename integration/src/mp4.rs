//! The little that tests need to know of ISO media files: whole boxes, in order.

use anyhow::{Context as _, Result, bail};

/// Names of the boxes at the top of `file`; fails unless they cover it to the last byte.
///
/// # Errors
/// When a box is cut off or has an impossible size.
pub fn top_boxes(file: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = file;
    while !rest.is_empty() {
        let header = rest.get(..8).context("a box header is cut off")?;
        let (size, name) = header.split_at(4);
        let mut length = u64::from(u32::from_be_bytes(size.try_into()?));
        if length == 1 {
            length = u64::from_be_bytes(rest.get(8..16).context("a box header is cut off")?.try_into()?);
        }
        let name = String::from_utf8_lossy(name).into_owned();
        let length = usize::try_from(length)?;
        if length < 8 {
            bail!("box {name} claims {length} bytes");
        }
        rest = rest.get(length..).with_context(|| format!("box {name} is cut off"))?;
        names.push(name);
    }
    Ok(names)
}

/// Fails unless `file` is a whole init segment.
///
/// # Errors
/// When it is not.
pub fn check_init(file: &[u8]) -> Result<()> {
    let boxes = top_boxes(file)?;
    if boxes.first().is_none_or(|name| name != "ftyp") || !boxes.iter().any(|name| name == "moov") {
        bail!("an init segment needs ftyp and moov, this has {boxes:?}");
    }
    Ok(())
}

/// Fails unless `file` is a whole media segment.
///
/// # Errors
/// When it is not.
pub fn check_segment(file: &[u8]) -> Result<()> {
    let boxes = top_boxes(file)?;
    if !boxes.iter().any(|name| name == "moof") || boxes.last().is_none_or(|name| name != "mdat") {
        bail!("a media segment needs moof and mdat, this has {boxes:?}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;

    fn boxed(name: &[u8; 4], body: &[u8]) -> Vec<u8> {
        let mut bytes = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
        bytes.extend(name);
        bytes.extend(body);
        bytes
    }

    #[test]
    fn a_whole_segment_passes_and_a_cut_one_does_not() {
        let whole = [boxed(b"moof", b"1234"), boxed(b"mdat", b"media")].concat();
        check_segment(&whole).unwrap();
        check_segment(&whole[..whole.len() - 1]).unwrap_err();
        check_init(&whole).unwrap_err();
    }
}
