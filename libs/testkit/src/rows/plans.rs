//! Plans of statements, and what is wrong with them.

use std::{collections::HashSet, fmt, path::Path, str::FromStr as _};

use anyhow::{Context as _, Result};
use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection, SqliteConnection, postgres::PgConnectOptions, sqlite::SqliteConnectOptions,
};

/// A table of a few rows would be read whole, so that is made to look dear: where a plan still does it, no index serves.
const ONLY_INDEXES: &str =
    "SET plan_cache_mode = force_generic_plan; SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off";
/// Indexes of a part of a table. Reading one whole is what it is for.
const PARTIAL_INDEXES: &str = "SELECT indexrelid::regclass::text FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid \
                               WHERE indpred IS NOT NULL AND relnamespace = current_schema()::regnamespace";
/// Kinds of parameters that the server can't tell from a statement alone.
const KINDS: [&str; 2] = ["bigint", "text"];
/// The schema of that name, or the only one of a database of its own.
const SCHEMA: &str =
    "SELECT schemaname::text FROM pg_tables WHERE tablename = '_sqlx_migrations' ORDER BY schemaname = $1 DESC LIMIT 1";
/// References whose columns no index begins with: each change of the row that they point to reads their whole table.
const SLOW_REFERENCES: &str = "SELECT c.conrelid::regclass || ': ' || pg_get_constraintdef(c.oid) FROM pg_constraint c \
    WHERE c.contype = 'f' AND c.connamespace = current_schema()::regnamespace AND NOT EXISTS (SELECT 1 FROM pg_index i \
    WHERE i.indrelid = c.conrelid AND i.indpred IS NULL AND (i.indkey::int2[])[0:cardinality(c.conkey) - 1] @> c.conkey)";

/// A statement that reads more than it has to.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) statement: String,
    what: String,
    engine: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in\n{}", self.engine, self.what, self.statement)
    }
}

pub(super) async fn on_postgres(url: &str, schema: &str, statements: &[String]) -> Result<Vec<Fault>> {
    let mut connection = PgConnection::connect_with(&PgConnectOptions::from_str(url)?).await?;
    let schema: String = sqlx::query_scalar(SCHEMA).bind(schema).fetch_one(&mut connection).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("SET search_path = \"{schema}\""))).execute(&mut connection).await?;
    sqlx::raw_sql(ONLY_INDEXES).execute(&mut connection).await?;
    let mut faults = Vec::new();
    for statement in statements {
        let found = explained(&mut connection, statement).await?;
        faults.extend(found.into_iter().map(|what| fault("PostgreSQL", &what, statement)));
    }
    let mut still = Vec::new();
    for fault in faults {
        if !serves_without_others(&mut connection, &fault.statement).await? {
            still.push(fault);
        }
    }
    let slow: Vec<String> = sqlx::query_scalar(SLOW_REFERENCES).fetch_all(&mut connection).await?;
    still.extend(slow.into_iter().map(|statement| fault("PostgreSQL", "has no index for a reference", &statement)));
    Ok(still)
}

/// Whether an index serves once those are away that only look cheap: while there is no row, one of a part of a table seems
/// to cost nothing.
async fn serves_without_others(connection: &mut PgConnection, statement: &str) -> Result<bool> {
    let count = parameters(statement);
    // Before the transaction, which the first kind that is guessed wrongly would abort.
    prepare(connection, statement, count).await?;
    sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
    let partial: Vec<String> = sqlx::query_scalar(PARTIAL_INDEXES).fetch_all(&mut *connection).await?;
    let mut serves = false;
    // A statement that needs an index to be there at all, such as one with ON CONFLICT, fails without it.
    while let Ok(found) = planned(connection, count).await {
        serves = found.is_empty();
        let used = partial.iter().find(|name| found.iter().any(|what| what.contains(&format!("\"{name}\""))));
        let Some(used) = used else { break };
        sqlx::raw_sql(AssertSqlSafe(format!("DROP INDEX {used}"))).execute(&mut *connection).await?;
    }
    sqlx::raw_sql("ROLLBACK; DEALLOCATE looked_at").execute(&mut *connection).await?;
    Ok(serves)
}

/// What is wrong with the plan of a statement that says nothing of its parameters.
async fn explained(connection: &mut PgConnection, statement: &str) -> Result<Vec<String>> {
    let count = parameters(statement);
    prepare(connection, statement, count).await?;
    let found = planned(connection, count).await.with_context(|| statement.to_owned())?;
    sqlx::raw_sql("DEALLOCATE looked_at").execute(connection).await?;
    Ok(found)
}

/// What is wrong with the plan that `looked_at` has now.
async fn planned(connection: &mut PgConnection, count: usize) -> Result<Vec<String>> {
    let partial: Vec<String> = sqlx::query_scalar(PARTIAL_INDEXES).fetch_all(&mut *connection).await?;
    let nothing = if count == 0 { String::new() } else { format!("({})", vec!["NULL"; count].join(", ")) };
    let explain = format!("EXPLAIN (FORMAT JSON) EXECUTE looked_at{nothing}");
    let plan: Value = sqlx::query_scalar(AssertSqlSafe(explain)).persistent(false).fetch_one(connection).await?;
    let mut found = Vec::new();
    look_at(&plan[0]["Plan"], false, &partial, &mut found);
    Ok(found)
}

/// Prepares it as `looked_at`. Where the server can't tell what a parameter is, the kinds that services use are tried.
async fn prepare(connection: &mut PgConnection, statement: &str, count: usize) -> Result<()> {
    let mut guesses = vec![vec!["unknown"; count]];
    for at in 0..count {
        for kind in KINDS {
            let mut guess = vec!["unknown"; count];
            guess[at] = kind;
            guesses.push(guess);
        }
    }
    let mut first = None;
    for guess in guesses {
        let kinds = if count == 0 { String::new() } else { format!("({})", guess.join(", ")) };
        let text = format!("PREPARE looked_at{kinds} AS {statement}");
        match sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut *connection).await {
            Ok(_) => return Ok(()),
            Err(error) => first = first.or(Some(error)),
        }
    }
    first.map_or(Ok(()), |error| Err(error).context(statement.to_owned()))
}

/// Notes what is wrong with a step and those below it. Below a limit, an index may be read from its beginning.
fn look_at(step: &Value, limited: bool, partial: &[String], found: &mut Vec<String>) {
    let (kind, table) = (step["Node Type"].as_str().unwrap_or_default(), &step["Relation Name"]);
    let index = &step["Index Name"];
    let mut limited = limited;
    match kind {
        "Seq Scan" => found.push(format!("reads all of {table}")),
        "Index Scan" | "Index Only Scan" | "Bitmap Index Scan" if step["Index Cond"].is_null() => {
            if !step["Filter"].is_null() {
                found.push(format!("tries each entry of {index}"));
            } else if !limited && !partial.iter().any(|name| index == name.as_str()) {
                found.push(format!("reads all of {index}"));
            }
        }
        // A page far behind would walk over all before it.
        "Index Scan" if limited && step["Filter"].as_str().is_some_and(|filter| filter.contains("IS NULL) OR")) => {
            found.push(format!("begins each page at the start of {index}"));
        }
        "Sort" if limited => found.push(format!("sorts all by {}", step["Sort Key"])),
        "Limit" => limited = true,
        _ => {}
    }
    let keeps_limit =
        matches!(kind, "Limit" | "LockRows" | "Nested Loop" | "Result" | "Append" | "Merge Append" | "Subquery Scan");
    for below in step["Plans"].as_array().into_iter().flatten() {
        look_at(below, limited && keeps_limit, partial, found);
    }
}

pub(super) async fn on_sqlite(path: &Path, statements: &[String]) -> Result<Vec<Fault>> {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await?;
    let tables: Vec<String> =
        sqlx::query_scalar("SELECT name FROM sqlite_master WHERE type = 'table'").fetch_all(&mut connection).await?;
    let tables: HashSet<String> = tables.into_iter().collect();
    let partial = "SELECT name FROM sqlite_master WHERE type = 'index' AND sql LIKE '% WHERE %'";
    let partial: Vec<String> = sqlx::query_scalar(partial).fetch_all(&mut connection).await?;
    let mut faults = Vec::new();
    for statement in statements {
        let explain = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
        let plan: Result<Vec<(i64, i64, i64, String)>, _> = sqlx::query_as(explain).fetch_all(&mut connection).await;
        // What SQLite can't read is written for PostgreSQL alone.
        for (.., step) in plan.unwrap_or_default() {
            if is_slow(&step, statement.contains("LIMIT"), &tables, &partial) {
                faults.push(fault("SQLite", &step, statement));
            }
        }
    }
    Ok(faults)
}

fn is_slow(step: &str, limited: bool, tables: &HashSet<String>, partial: &[String]) -> bool {
    let reads_all = step.strip_prefix("SCAN ").is_some_and(|scanned| {
        let name = scanned.split(' ').next().unwrap_or_default();
        let of_a_part = partial.iter().any(|index| scanned.ends_with(&format!(" INDEX {index}")));
        tables.contains(name) && !of_a_part && !(limited && scanned.contains(" USING "))
    });
    reads_all || step.contains("AUTOMATIC") || (limited && step.contains("TEMP B-TREE FOR ORDER BY"))
}

fn fault(engine: &'static str, what: &str, statement: &str) -> Fault {
    Fault { statement: statement.to_owned(), what: what.to_owned(), engine }
}

/// The highest number of its `$1`, `$2` and so on.
fn parameters(statement: &str) -> usize {
    let numbers = statement.split('$').skip(1).map(|rest| {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().unwrap_or(0)
    });
    numbers.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;
    use crate::engines::Postgres;

    fn faults_of(plan: &Value) -> Vec<String> {
        let mut found = Vec::new();
        look_at(plan, false, &["open".to_owned()], &mut found);
        found
    }

    #[test]
    fn a_plan_that_reads_or_sorts_a_whole_table_is_a_fault() {
        let all = json!({"Node Type": "Seq Scan", "Relation Name": "jobs"});
        assert_eq!(faults_of(&all), ["reads all of \"jobs\""]);
        let sorted = json!({"Node Type": "Limit", "Plans": [{"Node Type": "Sort", "Sort Key": ["a"], "Plans": [
            {"Node Type": "Index Scan", "Index Name": "i", "Index Cond": "(a = $1)"}]}]});
        assert_eq!(faults_of(&sorted), ["sorts all by [\"a\"]"]);
        let walked = json!({"Node Type": "Index Only Scan", "Index Name": "i"});
        assert_eq!(faults_of(&walked), ["reads all of \"i\""]);
        assert!(faults_of(&json!({"Node Type": "Limit", "Plans": [walked]})).is_empty());
        assert!(faults_of(&json!({"Node Type": "Index Scan", "Index Name": "open"})).is_empty());
        let tried =
            json!({"Node Type": "Limit", "Plans": [{"Node Type": "Index Scan", "Index Name": "i", "Filter": "(b = $1)"}]});
        assert_eq!(faults_of(&tried), ["tries each entry of \"i\""]);
    }

    #[tokio::test]
    async fn an_index_is_found_behind_a_cheap_one_though_the_kind_of_a_parameter_must_be_guessed() {
        let postgres = Postgres::start().await.unwrap();
        let mut connection = PgConnection::connect(&postgres.url()).await.unwrap();
        let schema = "CREATE TABLE jobs (id BIGINT, state TEXT, owner TEXT); CREATE INDEX by_owner ON jobs (owner); \
                      CREATE INDEX open_jobs ON jobs (id) WHERE state = 'open'";
        sqlx::raw_sql(schema).execute(&mut connection).await.unwrap();
        sqlx::raw_sql(ONLY_INDEXES).execute(&mut connection).await.unwrap();
        let statement = "SELECT id FROM jobs WHERE state = 'open' AND owner = $1 AND ($2 IS NULL OR id <> 7)";
        assert_eq!(explained(&mut connection, statement).await.unwrap(), ["tries each entry of \"open_jobs\""]);
        assert!(serves_without_others(&mut connection, statement).await.unwrap());
        assert!(!explained(&mut connection, statement).await.unwrap().is_empty(), "all indexes are there again");
        sqlx::raw_sql("DROP INDEX by_owner").execute(&mut connection).await.unwrap();
        assert!(!serves_without_others(&mut connection, statement).await.unwrap());
    }

    #[test]
    fn steps_of_sqlite_are_told_apart() {
        let tables = HashSet::from(["jobs".to_owned()]);
        let partial = ["open".to_owned()];
        assert!(!is_slow("SCAN jobs USING INDEX open", false, &tables, &partial));
        assert!(is_slow("SCAN jobs", true, &tables, &partial));
        assert!(is_slow("SCAN jobs USING INDEX by_time", false, &tables, &partial));
        assert!(!is_slow("SCAN jobs USING INDEX by_time", true, &tables, &partial));
        assert!(!is_slow("SCAN CONSTANT ROW", false, &tables, &partial));
        assert!(!is_slow("SEARCH jobs USING INDEX by_time (time>?)", true, &tables, &partial));
        assert!(is_slow("USE TEMP B-TREE FOR ORDER BY", true, &tables, &partial));
    }

    #[test]
    fn parameters_are_counted_by_their_highest_number() {
        assert_eq!(parameters("SELECT $2, $1, $12::text"), 12);
        assert_eq!(parameters("SELECT 1"), 0);
    }
}
