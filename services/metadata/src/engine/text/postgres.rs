//! PostgreSQL: a weighed `tsvector` under GIN, and `pg_trgm` for mistyped words.

use std::{collections::BTreeSet, fmt::Write as _};

use async_trait::async_trait;
use sqlx::{AnyConnection, Connection as _};
use streamgate_store::Transaction;

use super::{Term, TextIndex, Wanted, Words};
use crate::Error;

/// Positions of a `tsvector` end here; words behind it are found, but not told apart by place.
const LAST_POSITION: usize = 16_383;

/// Share of parts in common from which a word is looked at; what is alike is decided letter by letter.
const SET_SIMILARITY: &str = "SET LOCAL pg_trgm.similarity_threshold = 0.1";

/// The full-text index of PostgreSQL.
#[derive(Debug)]
pub(super) struct PostgresText;

#[async_trait]
impl TextIndex for PostgresText {
    async fn put(&self, tx: &mut Transaction, content_id: &str, words: &Words) -> Result<(), Error> {
        sqlx::query(
            "INSERT INTO content_words (content_id, words) VALUES ($1, CAST(CAST($2 AS TEXT) AS TSVECTOR)) \
             ON CONFLICT (content_id) DO UPDATE SET words = EXCLUDED.words",
        )
        .bind(content_id)
        .bind(vector(words))
        .execute(&mut **tx)
        .await?;
        Ok(())
    }

    async fn remove(&self, tx: &mut Transaction, content_id: &str) -> Result<(), Error> {
        sqlx::query("DELETE FROM content_words WHERE content_id = $1").bind(content_id).execute(&mut **tx).await?;
        Ok(())
    }

    async fn forget(&self, tx: &mut Transaction, words: &BTreeSet<String>) -> Result<(), Error> {
        for word in words {
            let forget = "DELETE FROM search_words WHERE word = $1 \
                          AND NOT EXISTS (SELECT 1 FROM content_words WHERE words @@ CAST(CAST($2 AS TEXT) AS TSQUERY))";
            sqlx::query(forget).bind(word).bind(format!("{}:AB", quote(word))).execute(&mut **tx).await?;
        }
        Ok(())
    }

    async fn candidates(&self, connection: &mut AnyConnection, word: &str, limit: i64) -> Result<Vec<String>, Error> {
        // Two changed places in a short word leave few parts in common: the usual bound would miss it.
        let mut tx = connection.begin().await?;
        sqlx::query(SET_SIMILARITY).execute(&mut *tx).await?;
        let candidates = "SELECT word FROM search_words WHERE word OPERATOR(public.%) $1 \
                          ORDER BY public.similarity(word, $1) DESC, word LIMIT $2";
        let words = sqlx::query_scalar(candidates).bind(word).bind(limit).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(words)
    }

    fn expression(&self, wanted: &Wanted) -> String {
        // A weight after each word: the owner, which has none of them, is no word that can be found.
        let groups = wanted.groups.iter().map(|group| any_of(group));
        let owner = wanted.owner.iter().map(|owner| format!("{}:D", quote(owner)));
        owner.chain(groups).collect::<Vec<_>>().join(" & ")
    }

    fn ranking(&self, wanted: &Wanted) -> Option<String> {
        // Without the owner: words that must all match are ranked in pairs, and with a word without weight each pair is nothing.
        Some(self.expression(&Wanted { owner: None, ..wanted.clone() }))
    }

    fn matches(&self) -> &'static str {
        "FROM content_words f JOIN contents c ON c.content_id = f.content_id WHERE f.words @@ CAST(CAST($1 AS TEXT) AS TSQUERY)"
    }

    fn best_first(&self) -> &'static str {
        "ts_rank('{0, 0.2, 0.5, 1}', f.words, CAST(CAST($2 AS TEXT) AS TSQUERY), 1) DESC, c.content_id DESC"
    }

    fn best_page(&self) -> &'static str {
        "FROM (SELECT content_id, ts_rank('{0, 0.2, 0.5, 1}', words, CAST(CAST($2 AS TEXT) AS TSQUERY), 1) AS score FROM content_words \
         WHERE words @@ CAST(CAST($1 AS TEXT) AS TSQUERY) ORDER BY score DESC, content_id DESC LIMIT $3 OFFSET $4) f \
         JOIN contents c ON c.content_id = f.content_id ORDER BY f.score DESC, f.content_id DESC"
    }
}

/// The words with their places and weights. They hold letters and digits only, so nothing needs to be escaped.
fn vector(words: &Words) -> String {
    let mut out = format!("{}:1D", quote(&words.owner));
    let mut position = 1;
    for (words, weight) in [(&words.title, 'A'), (&words.tags, 'B'), (&words.description, 'C')] {
        for word in words {
            position += 1;
            // Writing to a string can't fail.
            let _ = write!(out, " {}:{}{weight}", quote(word), position.min(LAST_POSITION));
        }
    }
    out
}

fn any_of(group: &[Term]) -> String {
    let term = |term: &Term| format!("{}:{}ABC", quote(&term.word), if term.is_prefix { "*" } else { "" });
    format!("({})", group.iter().map(term).collect::<Vec<_>>().join(" | "))
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "''").replace('\\', "\\\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_is_quoted_words_in_the_callers_titles() {
        let wanted = Wanted::of("Cat & 'dog", Some("acc_01")).unwrap();
        assert_eq!(PostgresText.expression(&wanted), "'acc01':D & ('cat':*ABC) & ('dog':*ABC)");
        assert_eq!(PostgresText.ranking(&wanted).unwrap(), "('cat':*ABC) & ('dog':*ABC)");
    }

    #[test]
    fn words_are_kept_with_place_and_weight() {
        let words = Words {
            owner: "acc1".into(),
            title: vec!["red".into(), "cat".into()],
            tags: vec!["pet".into()],
            description: vec!["cat".into()],
        };
        assert_eq!(vector(&words), "'acc1':1D 'red':2A 'cat':3A 'pet':4B 'cat':5C");
    }
}
