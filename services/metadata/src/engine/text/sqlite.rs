//! SQLite: FTS5 with BM25, and trigrams of FTS5 for mistyped words.

use std::collections::BTreeSet;

use async_trait::async_trait;
use sqlx::AnyConnection;
use streamgate_store::Transaction;

use super::{Term, TextIndex, Wanted, Words};
use crate::Error;

/// The full-text index of SQLite.
#[derive(Debug)]
pub(super) struct SqliteText;

#[async_trait]
impl TextIndex for SqliteText {
    async fn put(&self, tx: &mut Transaction, content_id: &str, words: &Words) -> Result<(), Error> {
        self.remove(tx, content_id).await?;
        sqlx::query(
            "INSERT INTO contents_fts (rowid, owner, title, tags, description) \
             SELECT id, $2, $3, $4, $5 FROM contents WHERE content_id = $1",
        )
        .bind(content_id)
        .bind(&words.owner)
        .bind(words.title.join(" "))
        .bind(words.tags.join(" "))
        .bind(words.description.join(" "))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn remove(&self, tx: &mut Transaction, content_id: &str) -> Result<(), Error> {
        sqlx::query("DELETE FROM contents_fts WHERE rowid = (SELECT id FROM contents WHERE content_id = $1)")
            .bind(content_id)
            .execute(&mut **tx)
            .await?;
        Ok(())
    }

    async fn forget(&self, tx: &mut Transaction, words: &BTreeSet<String>) -> Result<(), Error> {
        for word in words {
            let forget = "DELETE FROM search_words WHERE word = $1 \
                          AND NOT EXISTS (SELECT 1 FROM contents_fts WHERE contents_fts MATCH $2)";
            let wanted = format!("{{title tags}} : {}", quote(word));
            sqlx::query(forget).bind(word).bind(wanted).execute(&mut **tx).await?;
        }
        Ok(())
    }

    async fn candidates(&self, connection: &mut AnyConnection, word: &str, limit: i64) -> Result<Vec<String>, Error> {
        let padded: Vec<char> = format!("  {word} ").chars().collect();
        let parts: Vec<String> = padded.windows(3).map(|part| quote(&part.iter().collect::<String>())).collect();
        let candidates = "SELECT w.word FROM (SELECT rowid AS id, rank AS score FROM search_parts WHERE search_parts MATCH $1 \
                          ORDER BY rank LIMIT $2) f JOIN search_words w ON w.id = f.id ORDER BY f.score, w.word";
        Ok(sqlx::query_scalar(candidates).bind(parts.join(" OR ")).bind(limit).fetch_all(connection).await?)
    }

    fn expression(&self, wanted: &Wanted) -> String {
        let groups: Vec<String> = wanted.groups.iter().map(|group| any_of(group)).collect();
        let words = format!("{{title tags description}} : ({})", groups.join(" AND "));
        match &wanted.owner {
            Some(owner) => format!("(owner : {}) AND ({words})", quote(owner)),
            None => words,
        }
    }

    fn ranking(&self, _wanted: &Wanted) -> Option<String> {
        None
    }

    fn matches(&self) -> &'static str {
        "FROM contents_fts f JOIN contents c ON c.id = f.rowid WHERE contents_fts MATCH $1"
    }

    fn best_first(&self) -> &'static str {
        "f.rank, c.id DESC"
    }

    fn best_page(&self) -> &'static str {
        "FROM (SELECT rowid AS id, rank AS score FROM contents_fts WHERE contents_fts MATCH $1 \
         ORDER BY rank, rowid DESC LIMIT $2 OFFSET $3) f JOIN contents c ON c.id = f.id ORDER BY f.score, f.id DESC"
    }
}

fn any_of(group: &[Term]) -> String {
    let term = |term: &Term| if term.is_prefix { format!("{} *", quote(&term.word)) } else { quote(&term.word) };
    format!("({})", group.iter().map(term).collect::<Vec<_>>().join(" OR "))
}

/// A string of FTS5: nothing in it is syntax.
fn quote(word: &str) -> String {
    format!("\"{}\"", word.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_quoted_words_in_the_callers_titles() {
        let wanted = Wanted::of("Cat OR \"dog", Some("acc_01")).unwrap();
        assert_eq!(
            SqliteText.expression(&wanted),
            "(owner : \"acc01\") AND ({title tags description} : ((\"cat\" *) AND (\"or\" *) AND (\"dog\" *)))"
        );
    }
}
