//! Lists of titles, newest first.

use streamgate_core::{Caller, page::Page};

use super::{
    Content, ContentPage, Engine, Status,
    rows::{ContentRow, select_contents},
};
use crate::Error;

/// The four shapes of a list. Ids are ordered by time, so the id is the key of the page.
pub(super) const LIST_ALL: &str =
    select_contents!("FROM contents c WHERE c.delete_ms IS NULL AND c.content_id < $1 ORDER BY c.content_id DESC LIMIT $2");
pub(super) const LIST_BY_STATUS: &str = select_contents!(
    "FROM contents c WHERE c.delete_ms IS NULL AND c.content_id < $1 AND c.status = $3 ORDER BY c.content_id DESC LIMIT $2"
);
pub(super) const LIST_BY_OWNER: &str = select_contents!(
    "FROM contents c WHERE c.delete_ms IS NULL AND c.content_id < $1 AND c.owner = $3 ORDER BY c.content_id DESC LIMIT $2"
);
pub(super) const LIST_BY_OWNER_STATUS: &str = select_contents!(
    "FROM contents c WHERE c.delete_ms IS NULL AND c.content_id < $1 AND c.owner = $3 AND c.status = $4 \
     ORDER BY c.content_id DESC LIMIT $2"
);

/// Sorts behind every id.
const BEHIND_EVERY_ID: &str = "~";

impl Engine {
    /// The caller's titles, newest first; all titles for operators and services.
    ///
    /// # Errors
    /// When the page is not one of this list.
    pub async fn list(&self, caller: &Caller, size: u32, token: &str, status: Option<Status>) -> Result<ContentPage, Error> {
        let owner = owner_scope(caller)?;
        let filter = format!("list owner={owner:?} status={status:?}");
        let page = Page::parse(size, token, &filter)?;
        let query = match (&owner, status) {
            (None, None) => LIST_ALL,
            (None, Some(_)) => LIST_BY_STATUS,
            (Some(_), None) => LIST_BY_OWNER,
            (Some(_), Some(_)) => LIST_BY_OWNER_STATUS,
        };
        let mut query = sqlx::query_as::<_, ContentRow>(query)
            .bind(page.after.clone().unwrap_or_else(|| BEHIND_EVERY_ID.to_owned()))
            .bind(i64::from(page.size) + 1);
        if let Some(owner) = owner {
            query = query.bind(owner);
        }
        if let Some(status) = status {
            query = query.bind(status.as_str());
        }
        let rows = query.fetch_all(self.db.pool()).await?;
        let contents = rows.into_iter().map(Content::try_from).collect::<Result<Vec<_>, _>>()?;
        let (contents, next_page_token) = page.cut(contents, |content| content.content_id.clone(), &filter);
        Ok(ContentPage { contents, next_page_token })
    }
}

/// Whose titles the caller may list: its own, or all.
pub(super) fn owner_scope(caller: &Caller) -> Result<Option<String>, Error> {
    if caller.is_service() || caller.is_operator() {
        return Ok(None);
    }
    let account = caller.account().ok_or(Error::NoOwner)?;
    Ok(Some(account.id.to_string()))
}
