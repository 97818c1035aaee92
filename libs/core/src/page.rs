//! Pages of lists: a bounded size and an opaque token.

use crate::error::Failure;

/// Rows of a page when the caller names no number.
pub const DEFAULT_PAGE_SIZE: u32 = 25;
/// Rows of a page at the most.
pub const MAX_PAGE_SIZE: u32 = 100;

/// Which page a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows, 1 to [`MAX_PAGE_SIZE`].
    pub size: u32,
    /// Key of the last row of the page before; absent for the first page.
    pub after: Option<String>,
}

impl Page {
    /// Reads the wire's `page_size` and `page_token`. `filter` must be the same text for
    /// every page of one list: a token made for another filter is refused.
    ///
    /// # Errors
    /// A size over the limit, or a token that was not made here.
    pub fn parse(size: u32, token: &str, filter: &str) -> Result<Self, Failure> {
        if size > MAX_PAGE_SIZE {
            return Err(Failure::invalid_field("page_size", format!("must be at most {MAX_PAGE_SIZE}")));
        }
        let size = if size == 0 { DEFAULT_PAGE_SIZE } else { size };
        let after = if token.is_empty() { None } else { Some(open(token, filter)?) };
        Ok(Self { size, after })
    }

    /// The token of the page that follows the row with `key`.
    #[must_use]
    pub fn token(key: &str, filter: &str) -> String {
        hex::encode(format!("{}\n{key}", fingerprint(filter)))
    }

    /// Cuts `rows`, read with one more than the size, to the page, and gives the token of the next one.
    #[must_use]
    pub fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> String, filter: &str) -> (Vec<T>, String) {
        if rows.len() <= self.size as usize {
            return (rows, String::new());
        }
        rows.truncate(self.size as usize);
        let next = rows.last().map_or_else(String::new, |row| Self::token(&key(row), filter));
        (rows, next)
    }
}

fn open(token: &str, filter: &str) -> Result<String, Failure> {
    let refused = || Failure::invalid_field("page_token", "must be the next_page_token of the page before, with the same filter");
    let text = hex::decode(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(refused)?;
    match text.split_once('\n') {
        Some((mark, key)) if mark == fingerprint(filter) => Ok(key.to_owned()),
        _ => Err(refused()),
    }
}

fn fingerprint(filter: &str) -> String {
    use sha2::{Digest, Sha256};
    hex::encode(&Sha256::digest(filter.as_bytes())[..6])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_leads_to_the_next_page_of_the_same_list_only() {
        let page = Page::parse(2, "", "status=ready").unwrap();
        let (rows, next) = page.cut(vec!["a", "b", "c"], |row| (*row).to_owned(), "status=ready");
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(Page::parse(2, &next, "status=ready").unwrap().after.as_deref(), Some("b"));
        assert!(Page::parse(2, &next, "status=errored").is_err());
        assert!(Page::parse(2, "zz", "status=ready").is_err());
        assert!(Page::parse(101, "", "").is_err());
    }
}
