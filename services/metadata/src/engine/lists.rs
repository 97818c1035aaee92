//! Lists of titles.

use streamgate_core::{Caller, Failure, page::Page};

use super::{
    Content, ContentPage, Engine, Filter, Order,
    filter::{Direction, Sql},
    rows::{self, ContentRow},
};
use crate::Error;

/// What a caller wants of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// Which titles.
    pub filter: Filter,
    /// In which order.
    pub order: Order,
    /// Deleted ones that can still be brought back, instead of live ones.
    pub deleted: bool,
}

impl Default for List {
    fn default() -> Self {
        Self { filter: Filter::default(), order: Order::Created(Direction::Down), deleted: false }
    }
}

impl Engine {
    /// The caller's titles, newest first unless told otherwise; all titles for operators and services.
    ///
    /// # Errors
    /// When the page is not one of this list.
    pub async fn list(&self, caller: &Caller, size: u32, token: &str, list: &List) -> Result<ContentPage, Error> {
        let Some(list) = scoped(caller, list)? else { return Ok(ContentPage::default()) };
        let mark = format!("list {list:?}");
        let page = Page::parse(size, token, &mark)?;
        let sql = query(&list, page.after.as_deref(), i64::from(page.size) + 1)?;
        let rows: Vec<ContentRow> = sql.rows().fetch_all(self.db.pool()).await?;
        let contents = rows.into_iter().map(Content::try_from).collect::<Result<Vec<_>, _>>()?;
        let (contents, next_page_token) = page.cut(contents, |content| key_of(content, list.order), &mark);
        Ok(ContentPage { contents, next_page_token, ..ContentPage::default() })
    }
}

/// The list as far as the caller may see it; absent when that is nothing.
fn scoped(caller: &Caller, list: &List) -> Result<Option<List>, Error> {
    let mut list = list.clone();
    match scope(caller, list.filter.owner.take())? {
        Scope::Nothing => Ok(None),
        Scope::All => Ok(Some(list)),
        Scope::Of(owner) => {
            list.filter.owner = Some(owner);
            Ok(Some(list))
        }
    }
}

/// Whose titles a caller reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Of(String),
    Nothing,
}

/// Whose titles the caller reads when it asks for those of `wanted`: its own, or anybody's as operator or service.
pub(super) fn scope(caller: &Caller, wanted: Option<String>) -> Result<Scope, Error> {
    if caller.is_service() || caller.is_operator() {
        return Ok(wanted.map_or(Scope::All, Scope::Of));
    }
    let own = caller.account().ok_or(Error::NoOwner)?.id.to_string();
    // Somebody else's titles are not there, and that is the answer for accounts that don't exist too.
    Ok(if wanted.is_none_or(|wanted| wanted == own) { Scope::Of(own) } else { Scope::Nothing })
}

/// The rows behind `after`. It reads along the index that leaves the fewest titles: a tag's, a gate's, or the owner's.
pub(super) fn query(list: &List, after: Option<&str>, limit: i64) -> Result<Sql, Failure> {
    let filter = &list.filter;
    let by_time = matches!(list.order, Order::Created(_));
    let mut sql = Sql::new(rows::SELECT);
    let (owner_column, id_column) = match (filter.tags.first(), filter.gate()) {
        _ if list.deleted => {
            sql.push("FROM contents c WHERE c.delete_ms IS NOT NULL AND c.purged = 0");
            ("c.owner", "c.content_id")
        }
        (Some(tag), _) => {
            sql.with("FROM content_tags d JOIN contents c ON c.content_id = d.content_id WHERE d.tag = ", tag.as_str());
            ("d.owner", "d.content_id")
        }
        (None, Some((chain, contract))) => {
            sql.with("FROM content_gates d JOIN contents c ON c.content_id = d.content_id WHERE d.chain = ", chain);
            sql.with(" AND d.contract = ", contract);
            ("d.owner", "d.content_id")
        }
        (None, None) => {
            sql.push("FROM contents c WHERE c.delete_ms IS NULL");
            ("c.owner", "c.content_id")
        }
    };
    if let Some(owner) = &filter.owner {
        sql.push(" AND ").push(owner_column).with(" = ", owner.as_str());
    }
    filter.conditions(&mut sql);
    if let Some(after) = after {
        behind(&mut sql, list.order, id_column, after)?;
    }
    let order = if by_time { format!("{id_column} {}", list.order.direction().sql()) } else { list.order.sql() };
    sql.push(" ORDER BY ").push(&order).with(" LIMIT ", limit);
    Ok(sql)
}

/// The place of a title in an order: its id, and behind it what it is sorted by.
fn key_of(content: &Content, order: Order) -> String {
    match order {
        Order::Created(_) => content.content_id.clone(),
        Order::Updated(_) => format!("{} {}", content.content_id, content.update_ms),
        Order::Title(_) => format!("{} {}", content.content_id, content.title_key),
    }
}

fn behind(sql: &mut Sql, order: Order, id_column: &str, after: &str) -> Result<(), Failure> {
    let refused = || Failure::invalid_field("page_token", "must be the next_page_token of the page before, with the same filter");
    let comparison = order.direction().comparison();
    let (id, value) = after.split_once(' ').unwrap_or((after, ""));
    match order {
        Order::Created(_) => {
            sql.push(" AND ").push(id_column).with(&format!(" {comparison} "), id);
        }
        Order::Updated(_) => {
            let value: i64 = value.parse().map_err(|_| refused())?;
            sql.with(&format!(" AND (c.update_ms, c.content_id) {comparison} ("), value).with(", ", id).push(")");
        }
        Order::Title(_) => {
            sql.with(&format!(" AND (c.title_key, c.content_id) {comparison} ("), value).with(", ", id).push(")");
        }
    }
    Ok(())
}
