//! The statements that a service sends, heard in the log of the database client.

use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    subscriber::DefaultGuard,
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry,
};

/// Where the client logs each statement.
const TARGET: &str = "sqlx::query";
/// What rows are read and changed with.
const VERBS: [&str; 5] = ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"];
/// Marks of statements that keep the schema, or that only take a lock.
const HOUSEKEEPING: [&str; 5] = ["_sqlx_migrations", "_event_migrations", "pg_namespace", "pg_advisory", "current_database()"];

/// Every statement heard, once.
#[derive(Debug, Clone, Default)]
pub(super) struct Statements {
    heard: Arc<Mutex<BTreeSet<String>>>,
}

impl Statements {
    /// Listens on this thread until the guard is dropped.
    pub(super) fn listen() -> (Self, DefaultGuard) {
        let statements = Self::default();
        let guard = tracing::subscriber::set_default(registry().with(statements.clone()));
        (statements, guard)
    }

    /// Those that don't stand in the sources of the tests.
    pub(super) fn of_the_service(&self, tests: &Path) -> io::Result<Vec<String>> {
        let mut sources = String::new();
        read_all(tests, &mut sources)?;
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(heard.iter().filter(|statement| !sources.contains(&squeezed(statement))).cloned().collect())
    }
}

fn read_all(folder: &Path, into: &mut String) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            read_all(&path, into)?;
        } else if path.extension().is_some_and(|name| name == "rs") {
            into.push_str(&squeezed(&fs::read_to_string(&path)?));
        }
    }
    Ok(())
}

/// Without what a literal over several lines adds to it.
fn squeezed(text: &str) -> String {
    text.chars().filter(|char| !char.is_whitespace() && *char != '\\').collect()
}

impl<S: Subscriber> Layer<S> for Statements {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() != TARGET {
            return;
        }
        let mut text = Text::default();
        event.record(&mut text);
        // The summary is the statement when that is short.
        let statement = if text.statement.trim().is_empty() { text.summary } else { text.statement };
        let statement = statement.trim();
        let is_ours =
            VERBS.iter().any(|verb| statement.starts_with(verb)) && !HOUSEKEEPING.iter().any(|mark| statement.contains(mark));
        if is_ours {
            self.heard.lock().unwrap_or_else(PoisonError::into_inner).insert(statement.to_owned());
        }
    }
}

#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}
