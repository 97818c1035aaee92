//! Search in words: one contract, and each engine's own full-text index behind it.

pub mod fold;
mod postgres;
mod sqlite;
mod typos;

use std::{collections::BTreeSet, fmt};

use async_trait::async_trait;
use sqlx::AnyConnection;
use streamgate_store::{DatabaseKind, Transaction};

use self::{postgres::PostgresText, sqlite::SqliteText};
use super::Content;
use crate::Error;

/// Words of a search at the most; each costs a look into the index.
const MAX_WORDS: usize = 16;
/// Words that look like a mistyped one, at the most.
const MAX_ALIKE: usize = 8;
/// Words with common parts that are looked at for them.
const MAX_CANDIDATES: i64 = 60;

/// The words of a title by where they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words {
    /// Account that owns it, as a word.
    pub owner: String,
    /// Of the title.
    pub title: Vec<String>,
    /// Of its tags.
    pub tags: Vec<String>,
    /// Of the description.
    pub description: Vec<String>,
}

impl Words {
    /// The words of `content`.
    #[must_use]
    pub fn of(content: &Content) -> Self {
        Self {
            owner: owner_word(&content.owner),
            title: fold::words(&content.title),
            tags: content.tags.iter().flat_map(|tag| fold::words(tag)).collect(),
            description: fold::words(&content.description),
        }
    }

    /// Those that mistyped ones are compared with.
    #[must_use]
    pub fn vocabulary(&self) -> BTreeSet<String> {
        self.title.iter().chain(&self.tags).filter(|word| typos::allowed(word) > 0).cloned().collect()
    }
}

/// An account as a word: letters and digits only.
fn owner_word(owner: &str) -> String {
    owner.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// One way to match: a word, or all words that begin with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// Letters and digits only.
    pub word: String,
    /// Whether longer words match too.
    pub is_prefix: bool,
}

/// What a search wants: of each group, one term.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Whose titles; absent for everybody's.
    pub owner: Option<String>,
    /// Every group must match.
    pub groups: Vec<Vec<Term>>,
}

impl Wanted {
    /// Each word as it is typed, or a longer one. Absent when there is no word in the text.
    #[must_use]
    pub fn of(text: &str, owner: Option<&str>) -> Option<Self> {
        let words = fold::words(text).into_iter().take(MAX_WORDS);
        let groups: Vec<Vec<Term>> = words.map(|word| vec![Term { word, is_prefix: true }]).collect();
        (!groups.is_empty()).then(|| Self { owner: owner.map(owner_word), groups })
    }
}

/// A full-text index. Its words are those of [`fold::words`]; it never parses what a user typed.
#[async_trait]
pub trait TextIndex: fmt::Debug + Send + Sync + 'static {
    /// Puts a title's words in place of what was there.
    async fn put(&self, tx: &mut Transaction, content_id: &str, words: &Words) -> Result<(), Error>;
    /// Takes a title's words out.
    async fn remove(&self, tx: &mut Transaction, content_id: &str) -> Result<(), Error>;
    /// Adds words to those that mistyped ones are compared with.
    async fn learn(&self, tx: &mut Transaction, words: &BTreeSet<String>) -> Result<(), Error> {
        for word in words {
            let learn = sqlx::query("INSERT INTO search_words (word) VALUES ($1) ON CONFLICT DO NOTHING");
            learn.bind(word).execute(&mut **tx).await?;
        }
        Ok(())
    }
    /// Takes those out again that no title has.
    async fn forget(&self, tx: &mut Transaction, words: &BTreeSet<String>) -> Result<(), Error>;
    /// Known words that share parts with `word`, the likeliest first.
    async fn candidates(&self, connection: &mut AnyConnection, word: &str, limit: i64) -> Result<Vec<String>, Error>;
    /// What is wanted, in the engine's language; bound as `$1`.
    fn expression(&self, wanted: &Wanted) -> String;
    /// What ranks the matches, bound as `$2` where they are ordered; absent when `$1` does that too.
    fn ranking(&self, wanted: &Wanted) -> Option<String>;
    /// `FROM …` with the matches of `$1` as titles `c` and what ranks them as `f`.
    fn matches(&self) -> &'static str;
    /// What matches are ordered by, best first.
    fn best_first(&self) -> &'static str;
    /// A page of the matches of `$1`, best first, as titles `c` in order; for a search without filters, which need not
    /// look at each match's row. Behind what ranks them, its length and the number of matches before it are bound.
    fn best_page(&self) -> &'static str;
}

/// The index of an engine.
#[must_use]
pub fn index_of(kind: DatabaseKind) -> Box<dyn TextIndex> {
    match kind {
        DatabaseKind::Sqlite => Box::new(SqliteText),
        DatabaseKind::Postgres => Box::new(PostgresText),
    }
}

/// The same search with words that look alike beside each word; absent when none do.
pub(super) async fn corrected(
    index: &dyn TextIndex,
    connection: &mut AnyConnection,
    wanted: &Wanted,
) -> Result<Option<Wanted>, Error> {
    let mut wider = wanted.clone();
    let mut has_more = false;
    for group in &mut wider.groups {
        let Some(typed) = group.first().map(|term| term.word.clone()) else { continue };
        if typos::allowed(&typed) == 0 {
            continue;
        }
        let candidates = index.candidates(connection, &typed, MAX_CANDIDATES).await?;
        let alike = candidates.into_iter().filter(|word| *word != typed && typos::is_alike(&typed, word));
        group.extend(alike.take(MAX_ALIKE).map(|word| Term { word, is_prefix: false }));
        has_more |= group.len() > 1;
    }
    Ok(has_more.then_some(wider))
}
