//! What the command line does on the machine of the platform, with no token to begin with.

use streamgate_core::{Role, ServiceName};
use streamgate_runtime::{BoxError, ConfigSource};

use super::{NewApiKey, api_keys};
use crate::{Error, MIGRATIONS, command};

/// Makes an API key in the database that `source` names, also while the service runs on it.
///
/// # Errors
/// A name that is not taken, or a database that does not answer.
pub async fn create_api_key(source: &ConfigSource, name: &str, role: Role) -> Result<NewApiKey, BoxError> {
    let name = command::api_key_name(name).map_err(Error::from)?;
    let db = source.database(ServiceName::Auth, &MIGRATIONS).await?;
    crate::service::keep_private(&source.data_dir()?.join("db").join(format!("{}.db", ServiceName::Auth)))?;
    let made = api_keys::create(&db, &name, role).await;
    db.close().await;
    Ok(made?)
}
