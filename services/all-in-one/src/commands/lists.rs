//! `streamgate contents`, `sessions` and `jobs`.

use reqwest::Method;
use serde_json::Value;
use url::form_urlencoded;

use crate::{
    CliError,
    api::Api,
    cli::{EndSession, List, Search},
};

/// Most rows that the server gives at once.
const PAGE: usize = 100;

/// What is shown of a title.
const TITLE: &[&str] = &["/content_id", "/status", "/playback_ids/0", "/title"];

/// A list of the server.
struct Shown {
    /// With what is looked for, where there is something.
    path: String,
    /// The field of the answer that holds the rows.
    rows: &'static str,
    /// The fields of a row that people see, as JSON pointers.
    columns: &'static [&'static str],
}

/// Prints the caller's titles.
pub(crate) async fn contents(arguments: List) -> Result<(), CliError> {
    print(&arguments, &Shown { path: "/api/v1/contents".to_owned(), rows: "contents", columns: TITLE }).await
}

/// Prints titles that words are found in.
pub(crate) async fn search(arguments: Search) -> Result<(), CliError> {
    let words = form_urlencoded::Serializer::new(String::new()).append_pair("query", &arguments.words).finish();
    print(&arguments.list, &Shown { path: format!("/api/v1/metadata/search?{words}"), rows: "contents", columns: TITLE }).await
}

/// Prints playback sessions.
pub(crate) async fn sessions(arguments: List) -> Result<(), CliError> {
    let columns = &["/session_id", "/state", "/playback_id"];
    print(&arguments, &Shown { path: "/api/v1/sessions".to_owned(), rows: "sessions", columns }).await
}

/// Prints transcode jobs.
pub(crate) async fn jobs(arguments: List) -> Result<(), CliError> {
    let columns = &["/job_id", "/state", "/content_id"];
    print(&arguments, &Shown { path: "/api/v1/transcode/list".to_owned(), rows: "jobs", columns }).await
}

/// Ends a playback session.
pub(crate) async fn end_session(arguments: EndSession) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    api.json(Method::DELETE, &format!("/api/v1/sessions/{}", arguments.session_id), None).await?;
    println!("ended {}", arguments.session_id);
    Ok(())
}

async fn print(arguments: &List, list: &Shown) -> Result<(), CliError> {
    let api = Api::new(&arguments.server)?;
    let (mut left, mut token) = (arguments.limit, String::new());
    while left > 0 {
        let joint = if list.path.contains('?') { '&' } else { '?' };
        let path = format!("{}{joint}page_size={}&page_token={token}", list.path, left.min(PAGE));
        let answer = api.json(Method::GET, &path, None).await?;
        let rows = answer[list.rows].as_array().cloned().unwrap_or_default();
        for row in &rows {
            println!("{}", if arguments.json { row.to_string() } else { line(row, list.columns) });
        }
        token = answer["next_page_token"].as_str().unwrap_or_default().to_owned();
        if token.is_empty() || rows.is_empty() {
            return Ok(());
        }
        left = left.saturating_sub(rows.len());
    }
    eprintln!("There are more; ask for them with --limit.");
    Ok(())
}

fn line(row: &Value, columns: &[&str]) -> String {
    let texts = columns.iter().map(|column| match row.pointer(column) {
        Some(Value::String(text)) => plain(text),
        _ => "-".to_owned(),
    });
    texts.collect::<Vec<_>>().join("  ")
}

/// The text without what a terminal would obey, and words of the contract without their prefix.
fn plain(text: &str) -> String {
    let word = text.split_once("_STATE_").filter(|_| text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'));
    let clean = word.map_or_else(|| text.to_owned(), |(_, word)| word.to_ascii_lowercase());
    clean.chars().filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_row_is_one_line_that_a_terminal_can_not_be_led_by() {
        let row = json!({"job_id": "job_1", "state": "JOB_STATE_RUNNING", "content_id": "a\u{1b}[2J\nb"});
        assert_eq!(line(&row, &["/job_id", "/state", "/content_id", "/nothing"]), "job_1  running  a[2Jb  -");
    }
}
