//! What the command line does on the machine of the platform, with no token to begin with.

use std::path::Path;

use streamgate_core::{Role, ServiceName};
use streamgate_store::Database;

use super::{NewApiKey, api_keys};
use crate::{Error, MIGRATIONS, command};

/// Makes an API key in the database under `data_dir`, also while the service runs on it.
///
/// # Errors
/// A name that is not taken, or a database that does not answer.
pub async fn create_api_key(data_dir: &Path, name: &str, role: Role) -> Result<NewApiKey, Error> {
    let name = command::api_key_name(name)?;
    let path = data_dir.join("db").join(format!("{}.db", ServiceName::Auth));
    let db = Database::open(&path, &MIGRATIONS).await?;
    crate::service::keep_private(&path)?;
    let made = api_keys::create(&db, &name, role).await;
    db.close().await;
    made
}
