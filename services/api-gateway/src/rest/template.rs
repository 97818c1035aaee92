//! Path templates of `google.api.http`: literal parts and `{field.path}` variables of one part each.

/// One part of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Stands as it is.
    Literal(String),
    /// Any one part; its text goes into this field.
    Variable(Vec<String>),
}

/// A path template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its parts, in order.
    pub parts: Vec<Part>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// A sentence, for what this edge does not serve: wildcards, patterns inside variables, verbs.
    pub fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix('/').ok_or_else(|| format!("{text:?} does not begin with a slash"))?;
        let parts = path.split('/').map(|part| parse_part(text, part)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { parts })
    }

    /// The paths of the fields its variables fill, in order.
    pub fn variables(&self) -> impl Iterator<Item = &[String]> {
        self.parts.iter().filter_map(|part| match part {
            Part::Variable(field) => Some(field.as_slice()),
            Part::Literal(_) => None,
        })
    }

    /// The template as OpenAPI writes it.
    #[must_use]
    pub fn openapi(&self) -> String {
        self.parts.iter().fold(String::new(), |path, part| match part {
            Part::Literal(text) => path + "/" + text,
            Part::Variable(field) => path + "/{" + &field.join(".") + "}",
        })
    }
}

fn parse_part(whole: &str, part: &str) -> Result<Part, String> {
    let refuse = |why: &str| Err(format!("{whole:?}: {why}"));
    if part.is_empty() {
        return refuse("has an empty part");
    }
    let Some(inner) = part.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) else {
        if part.contains(['{', '}', '*', ':', '%']) {
            return refuse("wildcards, verbs and escapes are not served");
        }
        return Ok(Part::Literal(part.to_owned()));
    };
    let field: Vec<String> = inner.split('.').map(str::to_owned).collect();
    let is_name = |name: &String| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if field.iter().all(is_name) { Ok(Part::Variable(field)) } else { refuse("a variable is a plain field path") }
}

/// Decodes one part of a request's path. Absent when it is no UTF-8 or holds a control character.
#[must_use]
pub fn decode_part(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = tail;
            continue;
        }
        let (digits, tail) = tail.split_at_checked(2)?;
        let high = char::from(digits[0]).to_digit(16)?;
        let low = char::from(digits[1]).to_digit(16)?;
        bytes.push(u8::try_from(high * 16 + low).ok()?);
        rest = tail;
    }
    String::from_utf8(bytes).ok().filter(|text| !text.chars().any(char::is_control))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_literals_and_variables() {
        let template = Template::parse("/api/v1/contents/{content_id}/gate").unwrap();
        assert_eq!(template.openapi(), "/api/v1/contents/{content_id}/gate");
        assert_eq!(template.variables().collect::<Vec<_>>(), [["content_id".to_owned()]]);
    }

    #[test]
    fn what_is_not_served_is_refused_by_name() {
        for text in ["no/slash", "/a//b", "/a/*", "/a/{b=**}", "/a/{b}:verb", "/a/b:verb", "/a/{}", "/a/"] {
            assert!(Template::parse(text).unwrap_err().contains(text), "{text}");
        }
    }

    #[test]
    fn a_part_is_decoded_once_and_strictly() {
        assert_eq!(decode_part("a%2Fb%25").as_deref(), Some("a/b%"));
        assert_eq!(decode_part("%E2%82%AC").as_deref(), Some("€"));
        for bad in ["%", "%2", "%zz", "%ff", "%00", "a%0a"] {
            assert_eq!(decode_part(bad), None, "{bad}");
        }
    }
}
