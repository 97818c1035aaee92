//! PostgreSQL, from the Debian package.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use async_trait::async_trait;
use rustix::process::Signal;

use super::server::{Kind, Place, Server, engine, tied_to_this_process};

/// Where the package keeps one folder for each version. Programs elsewhere may be anything.
const VERSIONS: &str = "/usr/lib/postgresql";
const USER: &str = "streamgate";
const PASSWORD: &str = "only-for-tests";
const DATABASE: &str = "streamgate";

/// A running PostgreSQL with one empty database.
#[derive(Debug)]
pub struct Postgres {
    server: Server<Kit>,
}

engine!(Postgres, "PostgreSQL");

impl Postgres {
    /// Starts a server that does not wait for the disk: it survives every kill, not a power cut.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start() -> Result<Self> {
        Ok(Self { server: Server::start(Kit::find(false)?).await? })
    }

    /// Starts a server that waits for the disk at every commit, for benchmarks.
    ///
    /// # Errors
    /// When it is not installed or does not come up.
    pub async fn start_durable() -> Result<Self> {
        Ok(Self { server: Server::start(Kit::find(true)?).await? })
    }

    /// Address of its first database.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// Address of one of its databases.
    #[must_use]
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://{USER}:{PASSWORD}@{}/{database}", self.server.place.address())
    }

    /// Makes another empty database and gives its address.
    ///
    /// # Errors
    /// When the server refuses.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.server.kind.client("createdb", &self.server.place, &[name])?;
        Ok(self.url_of(name))
    }

    /// Runs SQL in its first database and gives what `psql` prints, one line a row, columns separated by `|`.
    ///
    /// # Errors
    /// When the server refuses; the message is what it said.
    pub fn query(&self, sql: &str) -> Result<String> {
        self.server.kind.client("psql", &self.server.place, &["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", DATABASE, "-c", sql])
    }

    /// Port it listens on.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.server.place.port
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("DB_HOST", "127.0.0.1".into()),
            ("DB_PORT", self.port().to_string()),
            ("DB_USER", USER.into()),
            ("DB_PASSWORD", PASSWORD.into()),
            ("DB_DATABASE", DATABASE.into()),
        ]
    }
}

#[derive(Debug)]
struct Kit {
    programs: PathBuf,
    user: Option<(u32, u32)>,
    durable: bool,
}

impl Kit {
    fn find(durable: bool) -> Result<Self> {
        let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
        let installed = fs::read_dir(VERSIONS).into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        let usable = installed.filter(|folder| folder.join("initdb").is_file());
        let programs = usable.max_by_key(|folder| folder.parent().and_then(version));
        let programs = programs.context("PostgreSQL is not installed: run scripts/install-for-tests")?;
        Ok(Self { programs, user: unprivileged_user(), durable })
    }

    /// Runs one of the client programs to its end.
    fn client(&self, name: &str, place: &Place, arguments: &[&str]) -> Result<String> {
        let port = place.port.to_string();
        let mut command = Command::new(self.programs.join(name));
        command.args(["-h", "127.0.0.1", "-p", &port, "-U", USER]).args(arguments).env("PGPASSWORD", PASSWORD);
        output(command)
    }
}

#[async_trait]
impl Kind for Kit {
    const NAME: &'static str = "PostgreSQL";
    /// "Fast": ends sessions instead of waiting for them.
    const STOP: Signal = Signal::INT;

    fn user(&self) -> Option<(u32, u32)> {
        self.user
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        let password = place.folder().join("password");
        fs::write(&password, PASSWORD)?;
        if let Some((uid, gid)) = self.user {
            chown(place.folder(), Some(uid), Some(gid))?;
            chown(&password, Some(uid), Some(gid))?;
        }
        let mut init = Command::new(self.programs.join("initdb"));
        init.arg("--pgdata").arg(place.data()).arg("--pwfile").arg(password);
        init.args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"]);
        output(tied_to_this_process(&init, self.user))?;
        let mut single = Command::new(self.programs.join("postgres"));
        single.arg("--single").arg("-D").arg(place.data()).args(["-c", "fsync=off", "postgres"]);
        let mut create = tied_to_this_process(&single, self.user);
        create.stdin(fs::File::open(script(place, &format!("CREATE DATABASE {DATABASE};\n"))?)?);
        output(create)?;
        Ok(())
    }

    fn command(&self, place: &Place) -> Result<Command> {
        let mut command = Command::new(self.programs.join("postgres"));
        command.arg("-D").arg(place.data()).args(["-h", "127.0.0.1", "-p", &place.port.to_string()]);
        command.arg("-k").arg(place.folder()).args(["-c", "max_connections=200"]);
        if !self.durable {
            // Still, what is committed outlives a killed server, if not a power cut.
            command.args(["-c", "fsync=off", "-c", "full_page_writes=off"]);
        }
        Ok(command)
    }

    async fn is_ready(&self, place: &Place) -> bool {
        let mut command = tokio::process::Command::new(self.programs.join("pg_isready"));
        command.args(["-q", "-h", "127.0.0.1", "-p", &place.port.to_string(), "-t", "2"]);
        command.status().await.is_ok_and(|status| status.success())
    }
}

fn script(place: &Place, sql: &str) -> Result<PathBuf> {
    let path = place.folder().join("setup.sql");
    fs::write(&path, sql)?;
    Ok(path)
}

fn output(mut command: Command) -> Result<String> {
    let output = command.output().with_context(|| format!("start {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?}: {}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// PostgreSQL refuses to run as root: there it runs as the user of its package, or as nobody.
fn unprivileged_user() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let of = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2).map(|field| field.parse::<u32>().ok());
        Some((fields.next()??, fields.next()??))
    };
    of("postgres").or_else(|| of("nobody"))
}
