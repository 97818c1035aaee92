//! Search over titles, best first.

use sqlx::{Any, pool::PoolConnection};
use streamgate_core::{Caller, Failure, page::Page};

use super::{
    Content, ContentPage, Engine, Filter, Order,
    filter::Sql,
    lists::{Scope, scope},
    rows::{self, ContentRow},
    text::{self, TextIndex, Wanted},
};
use crate::Error;

/// Values of a facet at the most, the most frequent ones.
const MAX_FACET_VALUES: i64 = 20;

/// What a caller looks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Search {
    /// What was typed.
    pub words: String,
    /// Among which titles.
    pub filter: Filter,
    /// In which order; best first when absent.
    pub order: Option<Order>,
    /// What to count among the matches.
    pub facets: Vec<FacetName>,
}

/// What can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FacetName {
    /// Where titles stand.
    Status,
    /// Their tags, as they are compared.
    Tag,
    /// Their owners.
    Owner,
    /// Chains that their gates ask.
    GateChain,
}

impl FacetName {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Tag => "tag",
            Self::Owner => "owner",
            Self::GateChain => "gate_chain",
        }
    }

    /// The value, and how it is joined to titles `c`.
    const fn sql(self) -> (&'static str, &'static str) {
        match self {
            Self::Status => ("c.status", ""),
            Self::Owner => ("c.owner", ""),
            Self::Tag => ("v.tag", "JOIN content_tags v ON v.content_id = c.content_id "),
            Self::GateChain => {
                ("v.chain", "JOIN content_gates v ON v.content_id = c.content_id AND v.contract = '' AND v.chain <> '' ")
            }
        }
    }
}

/// How often each value occurs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facet {
    /// What was counted.
    pub name: FacetName,
    /// The values, the most frequent first.
    pub values: Vec<(String, u64)>,
}

/// A place in the matches: a number, since the rank of a title moves with every other title.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    offset: u32,
    is_corrected: bool,
}

impl Engine {
    /// The caller's titles that hold every word, or one that begins with it. When there are none, those with words that
    /// look alike.
    ///
    /// # Errors
    /// When the page is not one of this search.
    pub async fn search(&self, caller: &Caller, size: u32, token: &str, search: &Search) -> Result<ContentPage, Error> {
        let mut search = search.clone();
        search.filter.owner = match scope(caller, search.filter.owner.take())? {
            Scope::Nothing => return Ok(ContentPage::default()),
            Scope::All => None,
            Scope::Of(owner) => Some(owner),
        };
        let mark = format!("search {search:?}");
        let page = Page::parse(size, token, &mark)?;
        let mut place = page.after.as_deref().map_or(Ok(Place::default()), Place::read)?;
        self.metrics.searches.inc();
        let Some(mut wanted) = Wanted::of(&search.words, search.filter.owner.as_deref()) else {
            return Ok(ContentPage::default());
        };
        let mut connection = self.reader().await?;
        let mut rows = Vec::new();
        if !place.is_corrected {
            rows = self.matches(&mut connection, &search, &wanted, place, page.size).await?;
        }
        if (place.is_corrected || rows.is_empty() && place.offset == 0)
            && let Some(wider) = text::corrected(self.text.as_ref(), &mut connection, &wanted).await?
        {
            (wanted, place.is_corrected) = (wider, true);
            rows = self.matches(&mut connection, &search, &wanted, place, page.size).await?;
        }
        let facets = self.facets(&mut connection, &search, &wanted).await?;
        let contents = rows.into_iter().map(Content::try_from).collect::<Result<Vec<_>, _>>()?;
        let is_corrected = place.is_corrected && !contents.is_empty();
        let (contents, next_page_token) = page.cut(contents, |_| place.after(page.size).write(), &mark);
        Ok(ContentPage { contents, next_page_token, facets, is_corrected })
    }

    async fn matches(
        &self,
        connection: &mut PoolConnection<Any>,
        search: &Search,
        wanted: &Wanted,
        place: Place,
        size: u32,
    ) -> Result<Vec<ContentRow>, Error> {
        let left = self.config.max_search_results.saturating_sub(place.offset);
        let limit = i64::from((size + 1).min(left));
        let sql = query(self.text.as_ref(), search, wanted, limit, i64::from(place.offset));
        Ok(sql.rows().fetch_all(&mut **connection).await?)
    }

    async fn facets(&self, connection: &mut PoolConnection<Any>, search: &Search, wanted: &Wanted) -> Result<Vec<Facet>, Error> {
        let mut facets = Vec::new();
        for name in &search.facets {
            let sql = facet_query(self.text.as_ref(), search, wanted, *name);
            let rows: Vec<(String, i64)> = sql.rows().fetch_all(&mut **connection).await?;
            let values = rows.into_iter().map(|(value, count)| (value, u64::try_from(count).unwrap_or(0))).collect();
            facets.push(Facet { name: *name, values });
        }
        Ok(facets)
    }
}

/// The matches in order, from a place on.
pub(super) fn query(index: &dyn TextIndex, search: &Search, wanted: &Wanted, limit: i64, offset: i64) -> Sql {
    let mut sql = Sql::new(rows::SELECT);
    if search.order.is_none() && search.filter.is_plain() {
        sql.push(index.best_page()).bind(index.expression(wanted));
        bind_ranking(&mut sql, index, wanted);
        sql.bind(limit).bind(offset);
        return sql;
    }
    sql.push(index.matches()).bind(index.expression(wanted));
    if search.order.is_none() {
        bind_ranking(&mut sql, index, wanted);
    }
    search.filter.conditions(&mut sql);
    let order = search.order.map_or_else(|| index.best_first().to_owned(), Order::sql);
    sql.push(" ORDER BY ").push(&order).with(" LIMIT ", limit).with(" OFFSET ", offset);
    sql
}

fn bind_ranking(sql: &mut Sql, index: &dyn TextIndex, wanted: &Wanted) {
    if let Some(ranking) = index.ranking(wanted) {
        sql.bind(ranking);
    }
}

/// How often each value of a facet occurs among the matches.
fn facet_query(index: &dyn TextIndex, search: &Search, wanted: &Wanted, name: FacetName) -> Sql {
    let (value, join) = name.sql();
    let mut sql = Sql::new("SELECT ");
    // The join stands before the condition: the matches' own words end in it.
    let (tables, condition) = index.matches().split_once("WHERE ").unwrap_or((index.matches(), "1 = 1"));
    sql.push(value).push(" AS value, CAST(count(*) AS BIGINT) AS matches ");
    sql.push(tables).push(join).push("WHERE ").push(condition).bind(index.expression(wanted));
    search.filter.conditions(&mut sql);
    sql.push(" GROUP BY ").push(value).push(" ORDER BY matches DESC, value").with(" LIMIT ", MAX_FACET_VALUES);
    sql
}

impl Place {
    fn read(text: &str) -> Result<Self, Failure> {
        let refused =
            || Failure::invalid_field("page_token", "must be the next_page_token of the page before, with the same query");
        let (kind, offset) = text.split_at_checked(1).ok_or_else(refused)?;
        let is_corrected = match kind {
            "=" => false,
            "~" => true,
            _ => return Err(refused()),
        };
        Ok(Self { offset: offset.parse().map_err(|_| refused())?, is_corrected })
    }

    fn write(self) -> String {
        format!("{}{}", if self.is_corrected { '~' } else { '=' }, self.offset)
    }

    const fn after(self, size: u32) -> Self {
        Self { offset: self.offset + size, ..self }
    }
}
