//! Steps that bring a schema up to date, for each engine.

use std::borrow::Cow;

use sqlx::migrate::{Migration, Migrator};

use super::DatabaseKind;

/// The same schema for both engines, step by step: forward only, each step in a transaction.
#[derive(Debug)]
pub struct Migrations {
    sqlite: Migrator,
    postgres: Migrator,
}

impl Migrations {
    /// Steps for each engine. Services say [`migrations!`](crate::migrations).
    #[must_use]
    pub const fn new(sqlite: Migrator, postgres: Migrator) -> Self {
        Self { sqlite, postgres }
    }

    /// No steps: a database with events only.
    #[must_use]
    pub fn none() -> Self {
        Self { sqlite: Migrator::with_migrations(Vec::new()), postgres: Migrator::with_migrations(Vec::new()) }
    }

    /// The steps for one engine.
    #[must_use]
    pub const fn of(&self, kind: DatabaseKind) -> &Migrator {
        match kind {
            DatabaseKind::Sqlite => &self.sqlite,
            DatabaseKind::Postgres => &self.postgres,
        }
    }

    /// The first `count` steps, for a test that upgrades from there.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let cut = |all: &Migrator| Migrator {
            migrations: Cow::Owned(all.iter().take(count).cloned().collect::<Vec<Migration>>()),
            ..Migrator::DEFAULT
        };
        Self { sqlite: cut(&self.sqlite), postgres: cut(&self.postgres) }
    }

    /// How many steps there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sqlite.iter().count().max(self.postgres.iter().count())
    }
}

/// The steps of the tables of events, which every database has, counted apart from the service's own.
pub(super) fn of_events(kind: DatabaseKind) -> Migrator {
    let steps = match kind {
        DatabaseKind::Sqlite => sqlx::migrate!("src/events/migrations/sqlite"),
        DatabaseKind::Postgres => sqlx::migrate!("src/events/migrations/postgres"),
    };
    Migrator { table_name: "_event_migrations".into(), ..steps }
}

/// The steps in `migrations/sqlite` and `migrations/postgres` of the crate that says it.
#[macro_export]
macro_rules! migrations {
    () => {
        $crate::Migrations::new(::sqlx::migrate!("./migrations/sqlite"), ::sqlx::migrate!("./migrations/postgres"))
    };
}
