//! One binary for everything: the nine services in one process, and the command line that talks to them.
//!
//! `streamgate serve` hands the nine service libraries to one [`streamgate_runtime::Host`]; they find each
//! other over loopback through the same generated clients as in a cluster. The other commands are clients
//! of the REST edge, except `apikey create`, which works on the data folder and needs no running platform.

mod api;
mod cli;
mod commands;
mod error;
mod progress;
mod resume;

use std::{ffi::OsString, process::ExitCode};

use clap::Parser as _;

pub use commands::serve::host;
pub use error::CliError;

/// Runs the command line `arguments`, the program's name first.
#[must_use]
pub fn run(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    match cli::Cli::try_parse_from(arguments) {
        Ok(cli) => commands::run(cli.command),
        Err(refusal) => {
            // Fails only when nobody can read it.
            let _ = refusal.print();
            if refusal.use_stderr() { error::USAGE.into() } else { ExitCode::SUCCESS }
        }
    }
}
