//! Conditional and partial requests (RFC 9110, sections 13 and 14).

use http::{HeaderMap, header};
pub use streamgate_proto::streamgate::streaming::v1::ByteRange;

/// Most entity tags that are looked at.
const ENTITY_TAGS: usize = 16;

/// When a range counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfRange {
    /// Always.
    Always,
    /// When the asset still has this tag.
    Tag(String),
    /// Never: the condition can't be met.
    Never,
}

/// The one span of bytes that is wanted. Several spans, other units and nonsense count as none, and
/// the whole asset is sent, as the RFC allows.
#[must_use]
pub fn wanted(headers: &HeaderMap) -> Option<ByteRange> {
    let text = headers.get(header::RANGE)?.to_str().ok()?;
    let (unit, span) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = span.trim().split_once('-')?;
    let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    match (first, last) {
        ("", last) => Some(ByteRange { last_bytes: Some(number(last)?), ..ByteRange::default() }),
        (first, "") => Some(ByteRange { start: Some(number(first)?), ..ByteRange::default() }),
        (first, last) => {
            let (start, end) = (number(first)?, number(last)?);
            (start <= end).then_some(ByteRange { start: Some(start), end: Some(end), last_bytes: None })
        }
    }
}

/// The condition on the range. A date never holds: assets carry tags, not dates.
#[must_use]
pub fn if_range(headers: &HeaderMap) -> IfRange {
    match headers.get(header::IF_RANGE).map(|value| value.to_str()) {
        None => IfRange::Always,
        Some(Ok(tag)) if tag.starts_with('"') && tag.ends_with('"') => IfRange::Tag(tag.to_owned()),
        Some(_) => IfRange::Never,
    }
}

/// Tags that the caller has. Weak ones count as strong here, as `If-None-Match` compares weakly.
#[must_use]
pub fn entity_tags(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(header::IF_NONE_MATCH).into_iter().filter_map(|value| value.to_str().ok());
    let tags = lists.flat_map(|list| list.split(',')).map(|tag| tag.trim().trim_start_matches("W/").to_owned());
    tags.filter(|tag| !tag.is_empty()).take(ENTITY_TAGS).collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn range(text: &'static str) -> Option<ByteRange> {
        wanted(&HeaderMap::from_iter([(header::RANGE, HeaderValue::from_static(text))]))
    }

    #[test]
    fn one_span_is_read_in_its_three_forms() {
        assert_eq!(range("bytes=0-9"), Some(ByteRange { start: Some(0), end: Some(9), last_bytes: None }));
        assert_eq!(range("Bytes=5-"), Some(ByteRange { start: Some(5), end: None, last_bytes: None }));
        assert_eq!(range("bytes=-7"), Some(ByteRange { start: None, end: None, last_bytes: Some(7) }));
    }

    #[test]
    fn nonsense_is_no_range() {
        for text in [
            "bytes=",
            "bytes=-",
            "bytes=9-0",
            "bytes=0-1,5-6",
            "items=0-1",
            "bytes=+1-2",
            "bytes=a-b",
            "bytes=99999999999999999999-",
        ] {
            assert_eq!(range(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_counts_only_for_the_version_it_was_meant_for() {
        let of = |text: &'static str| if_range(&HeaderMap::from_iter([(header::IF_RANGE, HeaderValue::from_static(text))]));
        assert_eq!(if_range(&HeaderMap::new()), IfRange::Always);
        assert_eq!(of("\"a\""), IfRange::Tag("\"a\"".into()));
        assert_eq!(of("W/\"a\""), IfRange::Never);
        assert_eq!(of("Sat, 21 Nov 2026 00:00:00 GMT"), IfRange::Never);
    }
}
