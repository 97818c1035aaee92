//! Entity tags as callers list them (RFC 9110, section 8.8.3).

use http::{HeaderMap, HeaderName};

/// A tag that a caller names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tag {
    /// `*`: whatever there is.
    Any,
    /// The same bytes.
    Strong(String),
    /// As good as the same.
    Weak(String),
}

impl Tag {
    /// Whether it stands for what is tagged `text`, compared weakly.
    #[must_use]
    pub fn means(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Strong(known) | Self::Weak(known) => known == text,
        }
    }

    /// The etag that an object must have for this tag, compared strongly: one that no object has for a weak tag.
    #[must_use]
    pub fn wanted(self) -> String {
        match self {
            Self::Any => "*".into(),
            Self::Strong(text) if text.is_empty() || text == "*" => format!("\"{text}\""),
            Self::Strong(text) => text,
            Self::Weak(text) => format!("W/\"{text}\""),
        }
    }
}

/// The tags of all headers with this name.
#[must_use]
pub fn of(headers: &HeaderMap, name: HeaderName) -> Vec<Tag> {
    let mut tags = Vec::new();
    for mut rest in headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok()) {
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                break;
            }
            let (tag, left) = first(rest);
            tags.push(tag);
            rest = left;
        }
    }
    tags
}

/// The tag at the beginning of a list, and what comes after it. Quotes are often forgotten, so a word without them counts.
fn first(list: &str) -> (Tag, &str) {
    let (kind, rest) = list.strip_prefix("W/").map_or((Tag::Strong as fn(String) -> Tag, list), |rest| (Tag::Weak, rest));
    if let Some((text, left)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
        return (kind(text.to_owned()), left);
    }
    let (text, left) = rest.split_once(',').unwrap_or((rest, ""));
    let text = text.trim_end();
    (if list.starts_with('*') && text == "*" { Tag::Any } else { kind(text.to_owned()) }, left)
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header::IF_MATCH};

    use super::*;

    fn read(lines: &[&'static str]) -> Vec<Tag> {
        of(&lines.iter().map(|line| (IF_MATCH, HeaderValue::from_static(line))).collect(), IF_MATCH)
    }

    #[test]
    fn tags_are_listed_in_one_header_or_several() {
        let (strong, weak) = (|text: &str| Tag::Strong(text.into()), |text: &str| Tag::Weak(text.into()));
        assert_eq!(read(&["W/\"a\", \"b,c\" ,,\td", "*"]), [weak("a"), strong("b,c"), strong("d"), Tag::Any]);
        assert_eq!(read(&["\"*\"", "\"\"", "\"open"]), [strong("*"), strong(""), strong("\"open")]);
        assert_eq!(read(&[" , "]), []);
    }

    #[test]
    fn only_a_strong_tag_can_be_wanted_of_an_object() {
        let wanted: Vec<_> = read(&["\"a\", W/\"a\", *, \"*\", \"\""]).into_iter().map(Tag::wanted).collect();
        assert_eq!(wanted, ["a", "W/\"a\"", "*", "\"*\"", "\"\""]);
        assert!(Tag::Weak("a".into()).means("a") && Tag::Any.means("a") && !Tag::Strong("b".into()).means("a"));
    }
}
