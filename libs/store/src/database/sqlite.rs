//! SQLite: a file with many readers and one writer.

use std::{fs::File, path::Path};

use sqlx::{
    AnyConnection, AnyPool, Connection as _,
    any::{AnyConnectOptions, AnyPoolOptions},
};

use super::{DatabaseKind, Migrations, WAIT, migrations::of_events};
use crate::{
    error::{Error, Result},
    files,
};

/// Readers at once: a WAL lets them go on beside the writer, and more only wait for the same cores.
const READERS: u32 = 4;
/// A commit is on disk when it returns.
const WRITER: &str =
    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000";
const READER: &str = "PRAGMA synchronous = FULL; PRAGMA busy_timeout = 10000; PRAGMA query_only = ON";

pub(super) async fn open(path: &Path, migrations: &Migrations) -> Result<(AnyPool, AnyPool)> {
    sqlx::any::install_default_drivers();
    if let Some(folder) = path.parent() {
        files::make_folder(folder).map_err(|e| Error::io(format!("make the folder {}", folder.display()), e))?;
    }
    let options = options(path)?;
    let alone = alone(path).await?;
    // By hand first: a pool would try a damaged file again and again, and not say why.
    let mut first = AnyConnection::connect_with(&options).await?;
    sqlx::raw_sql(WRITER).execute(&mut first).await?;
    let writer = pool(&options, 1, WRITER).await?;
    first.close().await?;
    migrations.of(DatabaseKind::Sqlite).run(&writer).await?;
    of_events(DatabaseKind::Sqlite).run(&writer).await?;
    drop(alone);
    let readers = pool(&options, READERS, READER).await?;
    Ok((readers, writer))
}

/// Waits until no other process opens a database of this folder: SQLite's migrations know no lock.
async fn alone(path: &Path) -> Result<File> {
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let locked = tokio::task::spawn_blocking(move || {
        let folder = File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder })?;
        folder.lock().map(|()| folder)
    });
    locked.await.map_err(Error::unavailable)?.map_err(|e| Error::io("lock the folder of the database", e))
}

async fn pool(options: &AnyConnectOptions, connections: u32, pragmas: &'static str) -> Result<AnyPool> {
    let pool = AnyPoolOptions::new().max_connections(connections).acquire_timeout(WAIT).after_connect(move |connection, _| {
        Box::pin(async move {
            sqlx::raw_sql(pragmas).execute(connection).await?;
            Ok(())
        })
    });
    Ok(pool.connect_with(options.clone()).await?)
}

/// The file as a URL. Every byte that could mean something in a URL is escaped.
fn options(path: &Path) -> Result<AnyConnectOptions> {
    let path = std::path::absolute(path).map_err(|e| Error::io("find the database file", e))?;
    let mut url = "sqlite://".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        match byte {
            b'/' | b'-' | b'_' | b'.' | b'~' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => url.push(char::from(*byte)),
            _ => url.push_str(&format!("%{byte:02X}")),
        }
    }
    url.push_str("?mode=rwc");
    Ok(url.parse()?)
}
