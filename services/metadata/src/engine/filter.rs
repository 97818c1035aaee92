//! Which titles a list or a search wants, and in which order; and the SQL of it.

use std::fmt::Write as _;

use sqlx::{
    Any,
    any::AnyArguments,
    query::{Query, QueryAs},
};
use streamgate_core::time::UnixMillis;

use super::Status;

/// Order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By the time a title was made.
    Created(Direction),
    /// By the time of its last edit or change of status.
    Updated(Direction),
    /// By its words.
    Title(Direction),
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest first.
    Up,
    /// Largest first.
    Down,
}

impl Direction {
    pub(super) const fn sql(self) -> &'static str {
        match self {
            Self::Up => "ASC",
            Self::Down => "DESC",
        }
    }

    pub(super) const fn comparison(self) -> &'static str {
        match self {
            Self::Up => ">",
            Self::Down => "<",
        }
    }
}

impl Order {
    pub(super) const fn direction(self) -> Direction {
        match self {
            Self::Created(direction) | Self::Updated(direction) | Self::Title(direction) => direction,
        }
    }

    /// `ORDER BY` of titles `c`; the id makes it total.
    pub(super) fn sql(self) -> String {
        let direction = self.direction().sql();
        match self {
            Self::Created(_) => format!("c.content_id {direction}"),
            Self::Updated(_) => format!("c.update_ms {direction}, c.content_id {direction}"),
            Self::Title(_) => format!("c.title_key {direction}, c.content_id {direction}"),
        }
    }
}

/// Which titles are wanted. All of it must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Where they stand.
    pub status: Option<Status>,
    /// All of these.
    pub tags: Vec<String>,
    /// Whose they are.
    pub owner: Option<String>,
    /// Made at or after.
    pub created_after: Option<UnixMillis>,
    /// Made before.
    pub created_before: Option<UnixMillis>,
    /// The gate asks for something on this chain.
    pub gate_chain: Option<String>,
    /// The gate asks for something of this contract, in lower case.
    pub gate_contract: Option<String>,
}

impl Filter {
    /// Whether nothing but the owner is asked for.
    pub(super) fn is_plain(&self) -> bool {
        *self == Self { owner: self.owner.clone(), ..Self::default() }
    }

    /// Adds ` AND …` for each wish, over titles `c`. The owner is left to the caller, who knows the best place for it.
    pub(super) fn conditions(&self, sql: &mut Sql) {
        if let Some(status) = self.status {
            sql.with(" AND c.status = ", status.as_str());
        }
        if let Some(after) = self.created_after {
            sql.with(" AND c.content_id >= ", first_id_at(after));
        }
        if let Some(before) = self.created_before {
            sql.with(" AND c.content_id < ", first_id_at(before));
        }
        for tag in &self.tags {
            sql.with(" AND EXISTS (SELECT 1 FROM content_tags t WHERE t.content_id = c.content_id AND t.tag = ", tag.as_str());
            sql.push(")");
        }
        if let Some((chain, contract)) = self.gate() {
            sql.with(" AND EXISTS (SELECT 1 FROM content_gates g WHERE g.content_id = c.content_id AND g.chain = ", chain);
            sql.with(" AND g.contract = ", contract);
            sql.push(")");
        }
    }

    /// Chain and contract as they stand in the index; empty for any.
    pub(super) fn gate(&self) -> Option<(&str, &str)> {
        let (chain, contract) = (self.gate_chain.as_deref(), self.gate_contract.as_deref());
        (chain.is_some() || contract.is_some()).then(|| (chain.unwrap_or_default(), contract.unwrap_or_default()))
    }
}

/// The smallest id that a title made at that moment can have: ids are UUIDs of version 7, which begin with the time.
pub(super) fn first_id_at(at: UnixMillis) -> String {
    // 48 bits are what a UUID has for the time: the year 10889.
    let ms = u64::try_from(at).unwrap_or(0).min(0xffff_ffff_ffff);
    format!("cnt_{ms:012x}{:020}", 0)
}

/// A value that is bound.
#[derive(Debug, Clone)]
enum Value {
    Text(String),
    Number(i64),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A query that is put together from our own words and numbered values. What a user gave is only ever a value.
#[derive(Debug, Default, Clone)]
pub(super) struct Sql {
    text: String,
    values: Vec<Value>,
}

impl Sql {
    pub(super) fn new(text: &'static str) -> Self {
        Self { text: text.to_owned(), values: Vec::new() }
    }

    /// Adds words of ours.
    pub(super) fn push(&mut self, text: &str) -> &mut Self {
        self.text.push_str(text);
        self
    }

    /// Adds words of ours and a value behind them.
    #[allow(private_bounds, reason = "what can be bound is decided here")]
    pub(super) fn with(&mut self, text: &str, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self.text.push_str(text);
        // Writing to a string can't fail.
        let _ = write!(self.text, "${}", self.values.len());
        self
    }

    /// Binds a value that the words name by its number already.
    #[allow(private_bounds, reason = "what can be bound is decided here")]
    pub(super) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        self
    }

    #[cfg(test)]
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The query, for rows.
    pub(super) fn rows<T>(&self) -> QueryAs<'_, Any, T, AnyArguments>
    where
        T: for<'r> sqlx::FromRow<'r, sqlx::any::AnyRow>,
    {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(self.text.clone()));
        self.values.iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Number(number) => query.bind(*number),
        })
    }

    /// The query that asks for the database's plan of this one.
    pub(super) fn plan(&self, explain: &'static str) -> Query<'_, Any, AnyArguments> {
        let query = sqlx::query(sqlx::AssertSqlSafe(format!("{explain} {}", self.text)));
        self.values.iter().fold(query, |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Number(number) => query.bind(*number),
        })
    }
}

#[cfg(test)]
mod tests {
    use streamgate_core::ids::ContentId;

    use super::*;

    #[test]
    fn ids_begin_with_the_time_they_were_made_at() {
        let before = streamgate_core::time::now_ms();
        let id = ContentId::new().to_string();
        let after = streamgate_core::time::now_ms() + 1;
        assert!(first_id_at(before) <= id && id < first_id_at(after));
        assert!(first_id_at(-5).parse::<ContentId>().is_ok() && first_id_at(i64::MAX).parse::<ContentId>().is_ok());
    }

    #[test]
    fn what_a_user_gives_is_never_a_part_of_the_query() {
        let evil = "x' OR 1=1 --".to_owned();
        let filter = Filter { tags: vec![evil.clone()], gate_contract: Some(evil.clone()), ..Filter::default() };
        let mut sql = Sql::new("SELECT 1 WHERE 1 = 1");
        filter.conditions(&mut sql);
        assert!(!sql.text().contains(&evil) && sql.text().contains("$3"));
    }
}
