//! The wire form of a message, field by field, without a copy.

use prost::encoding::decode_varint;

/// The value of one field as it stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raw<'a> {
    /// A number of variable length.
    Varint(u64),
    /// Eight bytes.
    Wide(u64),
    /// Four bytes.
    Narrow(u32),
    /// A text, bytes, a message, or a packed list.
    Bytes(&'a [u8]),
}

/// How a value stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A number of variable length.
    Varint,
    /// Eight bytes.
    Wide,
    /// Four bytes.
    Narrow,
    /// A length, and so many bytes.
    Bytes,
}

/// The bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// The fields of a message, in the order they were written in.
#[derive(Debug, Clone)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of these bytes.
    #[must_use]
    pub const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn read(&mut self) -> Result<(u32, Raw<'a>), Broken> {
        let key = decode_varint(&mut self.rest).map_err(|_| Broken)?;
        let number = u32::try_from(key >> 3).map_err(|_| Broken)?;
        let form = match key & 7 {
            0 => Form::Varint,
            1 => Form::Wide,
            2 => Form::Bytes,
            5 => Form::Narrow,
            // Groups are not part of proto3.
            _ => return Err(Broken),
        };
        Ok((number, take(&mut self.rest, form)?))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Raw<'a>), Broken>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = self.read();
        if read.is_err() {
            self.rest = &[];
        }
        Some(read)
    }
}

/// Takes one value off the front of `bytes`.
///
/// # Errors
/// `Broken` when it is not whole.
pub fn take<'a>(bytes: &mut &'a [u8], form: Form) -> Result<Raw<'a>, Broken> {
    Ok(match form {
        Form::Varint => Raw::Varint(decode_varint(bytes).map_err(|_| Broken)?),
        Form::Wide => Raw::Wide(u64::from_le_bytes(*chunk(bytes)?)),
        Form::Narrow => Raw::Narrow(u32::from_le_bytes(*chunk(bytes)?)),
        Form::Bytes => {
            let length = usize::try_from(decode_varint(bytes).map_err(|_| Broken)?).map_err(|_| Broken)?;
            let (value, rest) = bytes.split_at_checked(length).ok_or(Broken)?;
            *bytes = rest;
            Raw::Bytes(value)
        }
    })
}

fn chunk<'a, const N: usize>(bytes: &mut &'a [u8]) -> Result<&'a [u8; N], Broken> {
    let (value, rest) = bytes.split_first_chunk().ok_or(Broken)?;
    *bytes = rest;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_read() {
        let message = [0x08, 0x96, 0x01, 0x12, 2, b'h', b'i', 0x1d, 1, 0, 0, 0, 0x21, 2, 0, 0, 0, 0, 0, 0, 0];
        let fields: Vec<_> = Fields::of(&message).collect::<Result<_, _>>().unwrap();
        assert_eq!(fields, [(1, Raw::Varint(150)), (2, Raw::Bytes(b"hi")), (3, Raw::Narrow(1)), (4, Raw::Wide(2))]);
    }

    #[test]
    fn what_is_cut_off_is_broken_and_ends_there() {
        for message in [&[0x08][..], &[0x12, 5, b'h'], &[0x1d, 1], &[0x21, 1], &[0x0b], &[0xff; 11]] {
            let fields: Vec<_> = Fields::of(message).collect();
            assert_eq!(fields, [Err(Broken)], "{message:?}");
        }
    }
}
