//! `streamgate apikey`.

use std::fs;

use streamgate_core as core;
use streamgate_runtime::ConfigSource;

use crate::{
    CliError,
    cli::{CreateApiKey, Role},
};

/// Makes a key in the data folder and prints it.
pub(crate) async fn create(arguments: CreateApiKey) -> Result<(), CliError> {
    let wrong = |error: streamgate_runtime::ConfigError| CliError::Usage(error.to_string());
    let data_dir = ConfigSource::of_process().map_err(wrong)?.data_dir().map_err(wrong)?;
    let unwritable = |error| CliError::Failed(format!("the data folder {} can't be written: {error}", data_dir.display()));
    fs::create_dir_all(data_dir.join("db")).map_err(unwritable)?;
    let made = streamgate_auth::create_api_key_offline(&data_dir, &arguments.name, role(arguments.role)).await;
    let made = made.map_err(|error| CliError::Failed(format!("make an API key in {}: {error}", data_dir.display())))?;
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
