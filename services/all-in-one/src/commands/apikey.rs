//! `streamgate apikey`.

use std::fs;

use streamgate_core::{self as core, error::chain};
use streamgate_runtime::ConfigSource;

use crate::{
    CliError,
    cli::{CreateApiKey, Role},
};

/// Makes a key in the database of the configuration and prints it.
pub(crate) async fn create(arguments: CreateApiKey) -> Result<(), CliError> {
    let wrong = |error: streamgate_runtime::ConfigError| CliError::Usage(error.to_string());
    let source = ConfigSource::of_process().map_err(wrong)?;
    let data_dir = source.data_dir().map_err(wrong)?;
    let unwritable = |error| CliError::Failed(format!("the data folder {} can't be written: {error}", data_dir.display()));
    fs::create_dir_all(data_dir.join("db")).map_err(unwritable)?;
    let made = streamgate_auth::create_api_key_offline(&source, &arguments.name, role(arguments.role)).await;
    let made = made.map_err(|error| CliError::Failed(format!("make an API key: {}", chain(&*error))))?;
    println!("{}", made.secret);
    if !arguments.quiet {
        eprintln!("Send it as `Authorization: Bearer …`. It is not shown again.");
    }
    Ok(())
}

const fn role(role: Role) -> core::Role {
    match role {
        Role::Viewer => core::Role::Viewer,
        Role::Creator => core::Role::Creator,
        Role::Operator => core::Role::Operator,
    }
}
