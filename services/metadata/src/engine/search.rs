//! Search over titles, best first.

use streamgate_core::{Caller, Failure, page::Page};
use streamgate_store::DatabaseKind;

use super::{
    Content, ContentPage, Engine,
    lists::owner_scope,
    rows::{ContentRow, select_contents},
};
use crate::Error;

/// Weights of the columns owner, title, description, tags: a word in the title says more than one in the text.
pub(super) const SEARCH: &str = select_contents!(
    "FROM contents_fts f JOIN contents c ON c.id = f.rowid \
     WHERE contents_fts MATCH $1 AND c.delete_ms IS NULL \
     ORDER BY bm25(contents_fts, 0.0, 10.0, 2.0, 5.0), f.rowid LIMIT $2 OFFSET $3"
);

/// The same on PostgreSQL, where the weights are those of the column.
pub(super) const SEARCH_POSTGRES: &str = select_contents!(
    "FROM contents c WHERE c.delete_ms IS NULL AND c.words @@ to_tsquery('simple', $1) AND ($4 = '' OR c.owner = $4) \
     ORDER BY ts_rank(c.words, to_tsquery('simple', $1)) DESC, c.id LIMIT $2 OFFSET $3"
);

/// Words of a search at the most; each costs a look into the index.
const MAX_WORDS: usize = 16;

impl Engine {
    /// The caller's titles that hold every word, or a word that begins with it, best first.
    ///
    /// # Errors
    /// When the page is not one of this search.
    pub async fn search(&self, caller: &Caller, words: &str, size: u32, token: &str) -> Result<ContentPage, Error> {
        let owner = owner_scope(caller)?;
        let filter = format!("search owner={owner:?} words={words:?}");
        let page = Page::parse(size, token, &filter)?;
        self.metrics.searches.inc();
        let expression = match self.db.kind() {
            DatabaseKind::Sqlite => match_expression(words, owner.as_deref()),
            DatabaseKind::Postgres => tsquery(words),
        };
        let Some(expression) = expression else {
            return Ok(ContentPage { contents: Vec::new(), next_page_token: String::new() });
        };
        // The rank of a row moves with every other row, so a place in the order is a number, and bounded.
        let offset = read_offset(page.after.as_deref())?;
        let left = self.config.max_search_results.saturating_sub(offset);
        let query = match self.db.kind() {
            DatabaseKind::Sqlite => SEARCH,
            DatabaseKind::Postgres => SEARCH_POSTGRES,
        };
        let mut query = sqlx::query_as(query).bind(expression).bind(i64::from((page.size + 1).min(left))).bind(i64::from(offset));
        if self.db.kind() == DatabaseKind::Postgres {
            query = query.bind(owner.unwrap_or_default());
        }
        let rows: Vec<ContentRow> = query.fetch_all(self.db.pool()).await?;
        let contents = rows.into_iter().map(Content::try_from).collect::<Result<Vec<_>, _>>()?;
        let (contents, next_page_token) = page.cut(contents, |_| (offset + page.size).to_string(), &filter);
        Ok(ContentPage { contents, next_page_token })
    }
}

fn read_offset(after: Option<&str>) -> Result<u32, Failure> {
    let refused = |_| Failure::invalid_field("page_token", "must be the next_page_token of the page before, with the same query");
    after.map_or(Ok(0), |text| text.parse().map_err(refused))
}

/// The FTS5 expression for what a user typed: each word a quoted prefix, so that nothing of it is
/// syntax. Absent when there is no word in it.
pub(super) fn match_expression(words: &str, owner: Option<&str>) -> Option<String> {
    let quoted: Vec<String> = split(words).map(|word| format!("{} *", quote(word))).collect();
    if quoted.is_empty() {
        return None;
    }
    let wanted = format!("{{title description tags}} : ({})", quoted.join(" AND "));
    Some(owner.map_or_else(|| wanted.clone(), |owner| format!("(owner : {}) AND ({wanted})", quote(owner))))
}

/// The same for PostgreSQL.
pub(super) fn tsquery(words: &str) -> Option<String> {
    let quoted: Vec<String> = split(words).map(|word| format!("'{}':*", word.replace('\\', " ").replace('\'', "''"))).collect();
    (!quoted.is_empty()).then(|| quoted.join(" & "))
}

fn split(words: &str) -> impl Iterator<Item = &str> {
    let parts = words.split(|c: char| c.is_whitespace() || c.is_control());
    parts.filter(|word| word.chars().any(char::is_alphanumeric)).take(MAX_WORDS)
}

fn quote(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_user_types_is_never_syntax() {
        assert_eq!(
            match_expression("a\"b OR owner:x", None).unwrap(),
            "{title description tags} : (\"a\"\"b\" * AND \"OR\" * AND \"owner:x\" *)"
        );
        assert_eq!(
            match_expression("cat", Some("acc_1")).unwrap(),
            "(owner : \"acc_1\") AND ({title description tags} : (\"cat\" *))"
        );
        assert_eq!(match_expression("* ^ \" \0 ()", None), None);
    }
}
