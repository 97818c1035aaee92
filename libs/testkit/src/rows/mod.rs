//! The same tests on SQLite and on PostgreSQL, and a look at the plan of every statement they run.
//!
//! [`on_both_engines!`](crate::on_both_engines) runs each case by itself on SQLite, and all after each other on one
//! PostgreSQL server: starting one takes longer than most cases.

mod plans;
mod statements;

use std::{
    cell::RefCell,
    collections::hash_map::DefaultHasher,
    hash::{Hash as _, Hasher as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;
use tracing::subscriber::DefaultGuard;

use self::statements::Statements;
use crate::engines::Postgres;

thread_local! {
    /// The server that cases of this thread keep their rows on; absent for SQLite.
    static SERVER: RefCell<Option<Arc<Postgres>>> = const { RefCell::new(None) };
}

/// What a test keeps its rows in, instead of a SQLite file.
#[derive(Debug)]
pub struct OnServer {
    server: Arc<Postgres>,
    name: String,
}

impl OnServer {
    /// What stands for the SQLite file `path` while cases run on PostgreSQL; absent while they run on SQLite.
    #[must_use]
    pub fn instead_of(path: &Path) -> Option<Self> {
        SERVER.with_borrow(Clone::clone).map(|server| Self::new(server, path))
    }

    fn new(server: Arc<Postgres>, path: &Path) -> Self {
        let mut hash = DefaultHasher::new();
        path.hash(&mut hash);
        Self { server, name: format!("rows_{:016x}", hash.finish()) }
    }

    /// Address of the database that all cases share.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// A schema of its own there.
    #[must_use]
    pub fn schema(&self) -> &str {
        &self.name
    }

    /// Address of a database of its own, for a service that names its schema itself.
    ///
    /// # Errors
    /// When the server refuses to make it.
    pub fn own_database(&self) -> Result<String> {
        if self.has_own_database()? { Ok(self.server.url_of(&self.name)) } else { self.server.create_database(&self.name) }
    }

    fn has_own_database(&self) -> Result<bool> {
        let found = self.server.query(&format!("SELECT 1 FROM pg_database WHERE datname = '{}'", self.name))?;
        Ok(!found.is_empty())
    }
}

/// A run of cases on one PostgreSQL server, which listens to their statements.
#[derive(Debug)]
pub struct PostgresRun {
    server: Arc<Postgres>,
    statements: Statements,
    folder: TempDir,
    _listening: DefaultGuard,
}

impl PostgresRun {
    /// Starts a server; from now on the rows of this thread's cases are kept there.
    ///
    /// # Errors
    /// When there is no server to start.
    pub async fn start() -> Result<Self> {
        let server = Arc::new(Postgres::start().await?);
        SERVER.set(Some(Arc::clone(&server)));
        let (statements, listening) = Statements::listen();
        Ok(Self { server, statements, folder: tempfile::tempdir()?, _listening: listening })
    }

    /// Where a service's schema is to be made, on the server or on SQLite, to look at plans there.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("plans.db")
    }

    /// From now on the rows of this thread are kept on SQLite again.
    pub fn leave(&self) {
        SERVER.set(None);
    }

    /// Checks that the statements of the service found their rows through an index, on both engines. A schema must have been
    /// made at [`path`](Self::path) on each. What stands in `known`, as a part of a statement and the reason, is passed over,
    /// and so are statements that stand in `tests`, the folder of the test sources.
    ///
    /// # Errors
    /// All that don't, each with its plan.
    pub async fn check_plans(&self, tests: &Path, known: &[(&str, &str)]) -> Result<()> {
        let statements = self.statements.of_the_service(tests)?;
        let at = OnServer::new(Arc::clone(&self.server), &self.path());
        let url = if at.has_own_database()? { at.own_database()? } else { at.url() };
        let mut faults = plans::on_postgres(&url, at.schema(), &statements).await.context("plans of PostgreSQL")?;
        faults.extend(plans::on_sqlite(&self.path(), &statements).await.context("plans of SQLite")?);
        faults.retain(|fault| !known.iter().any(|(part, _)| fault.statement.contains(part)));
        let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
        ensure!(told.is_empty(), "{} of {} statements:\n\n{}", told.len(), statements.len(), told.join("\n\n"));
        Ok(())
    }
}

impl Drop for PostgresRun {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The rows of a service at a path, or on the server that stands for it, with the schema that these migrations make: what a
/// service's `open(&Path)` gives. Its tests depend on `streamgate-store`; this crate, which that one is tested with, does not.
#[macro_export]
macro_rules! open_rows {
    ($path:expr, $migrations:expr) => {
        match $crate::rows::OnServer::instead_of($path) {
            None => ::streamgate_store::Database::open($path, $migrations).await.unwrap(),
            Some(at) => {
                let server = ::streamgate_store::PostgresServer::parse(&at.url()).unwrap();
                ::streamgate_store::Database::connect(&server, at.schema(), $migrations).await.unwrap()
            }
        }
    };
}

/// Runs each case by itself on SQLite, and all on one PostgreSQL server, where it also checks that every statement they
/// caused finds its rows through an index. The named module has `open(&Path)`, which makes the service's schema at the path or
/// at what stands for it, and `READ_WHOLE`, the statements that may read a whole table, each with the reason.
#[macro_export]
macro_rules! on_both_engines {
    ($support:ident: $($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                super::$case().await;
            })*
        }

        #[tokio::test]
        async fn postgres_does_all_of_this_by_index() {
            let run = $crate::rows::PostgresRun::start().await.unwrap();
            $(
                println!("{}", stringify!($case));
                Box::pin($case()).await;
            )*
            drop($support::open(&run.path()).await);
            run.leave();
            drop($support::open(&run.path()).await);
            let tests = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
            if let Err(faults) = run.check_plans(&tests, $support::READ_WHOLE).await {
                panic!("{faults:#}");
            }
        }
    };
}
