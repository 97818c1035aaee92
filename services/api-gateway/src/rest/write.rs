//! Writes an answer as JSON straight from its wire bytes, by the proto3 JSON mapping: proto field names, absent values
//! as their defaults, 64-bit numbers as texts. No message is built in between.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use serde::Serialize;

use crate::{
    error::{Error, Result},
    rest::{
        json,
        shape::{Field, Holds, Label, Place, Shapes},
        wire::{Broken, Fields, Form, Raw, take},
    },
};

/// Messages inside messages, at the most.
const DEEPEST: usize = 100;
/// Years 1 to 9999, as seconds since 1970.
const TIMES: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About 10,000 years, as seconds.
const DURATIONS: std::ops::RangeInclusive<i64> = -315_576_000_000..=315_576_000_000;

impl From<Broken> for Error {
    fn from(_: Broken) -> Self {
        Self::Contract("a message is not what its contract says".into())
    }
}

/// Writes the message at `place` that `message` holds.
///
/// # Errors
/// `Contract` when it is no such message.
pub fn write(shapes: &Shapes, place: Place, message: &[u8]) -> Result<Vec<u8>> {
    // Names and defaults take about as much again.
    let mut out = Vec::with_capacity(message.len() * 2 + 256);
    Writer { shapes, out: &mut out }.message(place, message, 0)?;
    Ok(out)
}

/// The tag of the object in an answer: of the answer itself, or of the one object in it.
///
/// # Errors
/// `Contract` when it is no such message.
pub fn etag<'a>(shapes: &Shapes, place: Place, message: &'a [u8]) -> Result<Option<&'a str>> {
    let shape = shapes.get(place);
    if let Some(number) = shape.etag {
        return text_at(message, number);
    }
    for field in &shape.fields {
        let (Holds::Message(inner), Label::Once) = (&field.holds, &field.label) else { continue };
        let Some(number) = shapes.get(*inner).etag else { continue };
        if let Some(inner) = bytes_at(message, field.number)? {
            return text_at(inner, number);
        }
    }
    Ok(None)
}

/// The last value of a field that holds bytes.
///
/// # Errors
/// `Contract` when `message` is none.
pub fn bytes_at(message: &[u8], number: u32) -> Result<Option<&[u8]>> {
    let mut found = None;
    for field in Fields::of(message) {
        match field? {
            (here, Raw::Bytes(bytes)) if here == number => found = Some(bytes),
            _ => {}
        }
    }
    Ok(found)
}

fn text_at(message: &[u8], number: u32) -> Result<Option<&str>> {
    let Some(bytes) = bytes_at(message, number)? else { return Ok(None) };
    Ok(Some(text(bytes)?).filter(|text| !text.is_empty()))
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Broken.into())
}

struct Writer<'a> {
    shapes: &'a Shapes,
    out: &'a mut Vec<u8>,
}

impl Writer<'_> {
    fn message(&mut self, place: Place, message: &[u8], depth: usize) -> Result<()> {
        if depth > DEEPEST {
            return Err(Broken.into());
        }
        let shapes = self.shapes;
        let fields = &shapes.get(place).fields;
        let values = sorted(fields, message)?;
        self.out.push(b'{');
        let mut rest = values.as_slice();
        let mut is_first = true;
        for (index, field) in fields.iter().enumerate() {
            let own = rest.iter().take_while(|(place, _)| *place == index).count();
            let (values, others) = rest.split_at(own);
            rest = others;
            if values.is_empty() && field.default.is_none() {
                continue;
            }
            if !std::mem::replace(&mut is_first, false) {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&field.key);
            self.field(field, values, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn field(&mut self, field: &Field, values: &[(usize, Raw<'_>)], depth: usize) -> Result<()> {
        let Some((_, last)) = values.last() else {
            self.out.extend_from_slice(field.default.as_deref().unwrap_or("null").as_bytes());
            return Ok(());
        };
        match &field.label {
            Label::Once if values.len() > 1 && matches!(field.holds, Holds::Message(_) | Holds::Timestamp | Holds::Duration) => {
                // Parts of one message in pieces are the message.
                let mut whole = Vec::new();
                for (_, value) in values {
                    let Raw::Bytes(bytes) = value else { return Err(Broken.into()) };
                    whole.extend_from_slice(bytes);
                }
                self.value(&field.holds, Raw::Bytes(&whole), depth)
            }
            Label::Once => self.value(&field.holds, *last, depth),
            Label::List => self.list(&field.holds, values, depth),
            Label::Map(keys) => self.map(keys, &field.holds, values, depth),
        }
    }

    fn list(&mut self, holds: &Holds, values: &[(usize, Raw<'_>)], depth: usize) -> Result<()> {
        let is_number = holds.form() != Form::Bytes;
        let begin = self.out.len();
        for (_, value) in values {
            match value {
                Raw::Bytes(packed) if is_number => {
                    let mut packed = *packed;
                    while !packed.is_empty() {
                        self.out.push(b',');
                        let one = take(&mut packed, holds.form())?;
                        self.value(holds, one, depth)?;
                    }
                }
                value => {
                    self.out.push(b',');
                    self.value(holds, *value, depth)?;
                }
            }
        }
        if self.out.len() == begin {
            self.out.push(b'[');
        } else {
            self.out[begin] = b'[';
        }
        self.out.push(b']');
        Ok(())
    }

    /// Entries come in any order; they are written in order of their keys, so that equal answers are equal bytes.
    fn map(&mut self, keys: &Holds, holds: &Holds, values: &[(usize, Raw<'_>)], depth: usize) -> Result<()> {
        let mut entries: Vec<(Vec<u8>, Option<Raw<'_>>)> = Vec::with_capacity(values.len());
        for (_, value) in values {
            let Raw::Bytes(entry) = value else { return Err(Broken.into()) };
            let (mut key, mut value) = (None, None);
            for field in Fields::of(entry) {
                match field? {
                    (1, found) => key = Some(found),
                    (2, found) => value = Some(found),
                    _ => {}
                }
            }
            entries.push((self.key(keys, key)?, value));
        }
        // The last entry of a key counts: the order among them is kept, and all but it are left out.
        entries.sort_by(|one, other| one.0.cmp(&other.0));
        let last = |index: usize| entries.get(index + 1).is_none_or(|(next, _)| *next != entries[index].0);
        let entries = entries.iter().enumerate().filter(|(index, _)| last(*index)).map(|(_, entry)| entry);
        self.out.push(b'{');
        for (index, (key, value)) in entries.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            self.out.extend_from_slice(key);
            self.out.push(b':');
            match (value, holds) {
                (Some(value), _) => self.value(holds, *value, depth)?,
                (None, Holds::Message(_)) => self.value(holds, Raw::Bytes(&[]), depth)?,
                (None, _) => self.out.extend_from_slice(holds.default().as_bytes()),
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    /// A key of a map, in quotes.
    fn key(&mut self, keys: &Holds, key: Option<Raw<'_>>) -> Result<Vec<u8>> {
        let mut written = Vec::new();
        match key {
            Some(key) => Writer { shapes: self.shapes, out: &mut written }.value(keys, key, 0)?,
            None => written.extend_from_slice(keys.default().as_bytes()),
        }
        if written.first() != Some(&b'"') {
            written.insert(0, b'"');
            written.push(b'"');
        }
        Ok(written)
    }

    fn value(&mut self, holds: &Holds, value: Raw<'_>, depth: usize) -> Result<()> {
        match (holds, value) {
            (Holds::Bool, Raw::Varint(value)) => self.json(&(value != 0)),
            (Holds::Int32, Raw::Varint(value)) => self.json(&(value as i32)),
            (Holds::Sint32, Raw::Varint(value)) => self.json(&(unzigzag(value) as i32)),
            (Holds::Uint32, Raw::Varint(value)) => self.json(&(value as u32)),
            (Holds::Fixed32, Raw::Narrow(value)) => self.json(&value),
            (Holds::Sfixed32, Raw::Narrow(value)) => self.json(&value.cast_signed()),
            (Holds::Int64, Raw::Varint(value)) => self.quoted(&value.cast_signed()),
            (Holds::Sint64, Raw::Varint(value)) => self.quoted(&unzigzag(value)),
            (Holds::Uint64, Raw::Varint(value)) => self.quoted(&value),
            (Holds::Fixed64, Raw::Wide(value)) => self.quoted(&value),
            (Holds::Sfixed64, Raw::Wide(value)) => self.quoted(&value.cast_signed()),
            (Holds::Float, Raw::Narrow(value)) => self.float(f32::from_bits(value), f32::from_bits(value).into()),
            (Holds::Double, Raw::Wide(value)) => self.float(f64::from_bits(value), f64::from_bits(value)),
            (Holds::Text, Raw::Bytes(bytes)) => self.json(text(bytes)?),
            (Holds::Bytes, Raw::Bytes(bytes)) => self.json(&STANDARD.encode(bytes)),
            (Holds::Words(words), Raw::Varint(value)) => self.word(words, value as i32),
            (Holds::Message(place), Raw::Bytes(bytes)) => self.message(*place, bytes, depth + 1),
            (Holds::Timestamp, Raw::Bytes(bytes)) => self.timestamp(bytes),
            (Holds::Duration, Raw::Bytes(bytes)) => self.duration(bytes),
            (Holds::Special(descriptor), Raw::Bytes(bytes)) => {
                let message = DynamicMessage::decode(descriptor.clone(), bytes).map_err(|_| Broken)?;
                self.out.extend_from_slice(&json::write(&message)?);
                Ok(())
            }
            _ => Err(Broken.into()),
        }
    }

    fn word(&mut self, words: &[(i32, String)], number: i32) -> Result<()> {
        match words.iter().find(|(known, _)| *known == number) {
            Some((_, name)) => {
                self.out.extend_from_slice(name.as_bytes());
                Ok(())
            }
            None => self.json(&number),
        }
    }

    fn timestamp(&mut self, bytes: &[u8]) -> Result<()> {
        let time = prost_reflect::prost_types::Timestamp::decode(bytes).map_err(|_| Broken)?;
        if !TIMES.contains(&time.seconds) || !(0..1_000_000_000).contains(&time.nanos) {
            return Err(Error::Contract("a time lies outside the years that JSON can tell".into()));
        }
        self.json(&time.to_string())
    }

    fn duration(&mut self, bytes: &[u8]) -> Result<()> {
        let duration = prost_reflect::prost_types::Duration::decode(bytes).map_err(|_| Broken)?;
        if !DURATIONS.contains(&duration.seconds) || !(-999_999_999..1_000_000_000).contains(&duration.nanos) {
            return Err(Error::Contract("a duration is longer than JSON can tell".into()));
        }
        self.json(&duration.to_string())
    }

    fn float(&mut self, value: impl Serialize, wide: f64) -> Result<()> {
        match wide {
            _ if wide.is_finite() => self.json(&value),
            _ if wide.is_nan() => self.json("NaN"),
            _ if wide > 0.0 => self.json("Infinity"),
            _ => self.json("-Infinity"),
        }
    }

    fn quoted(&mut self, number: &impl Serialize) -> Result<()> {
        self.out.push(b'"');
        self.json(number)?;
        self.out.push(b'"');
        Ok(())
    }

    fn json(&mut self, value: &(impl Serialize + ?Sized)) -> Result<()> {
        serde_json::to_writer(&mut *self.out, value).map_err(|error| Error::Contract(error.to_string()))
    }
}

/// The values of `message`, in order of their fields, without those that another of the same choice has replaced.
fn sorted<'a>(fields: &[Field], message: &'a [u8]) -> Result<Vec<(usize, Raw<'a>)>> {
    let mut values: Vec<(usize, Raw<'a>)> = Vec::with_capacity(fields.len());
    let mut is_sorted = true;
    for value in Fields::of(message) {
        let (number, raw) = value?;
        // What a newer service says beside what we know is not shown.
        let Ok(index) = fields.binary_search_by_key(&number, |field| field.number) else { continue };
        if let Some(choice) = fields[index].oneof {
            values.retain(|(other, _)| *other == index || fields[*other].oneof != Some(choice));
        }
        is_sorted &= values.last().is_none_or(|(last, _)| *last <= index);
        values.push((index, raw));
    }
    if !is_sorted {
        values.sort_by_key(|(index, _)| *index);
    }
    Ok(values)
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests;
