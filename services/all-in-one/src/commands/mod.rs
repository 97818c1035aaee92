//! One module for each command.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to people")]

mod apikey;
mod gate;
mod lists;
mod play;
mod poster;
pub(crate) mod serve;
mod upload;

use std::process::ExitCode;

use crate::{
    CliError,
    cli::{ApiKey, Command, Contents, Gate, Jobs, Sessions},
};

/// Carries a command out.
pub(crate) fn run(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Serve => return serve::run(),
        Command::Upload(arguments) => block_on(upload::run(arguments)),
        Command::Apikey(ApiKey::Create(arguments)) => block_on(apikey::create(arguments)),
        Command::Contents(Contents::List(arguments)) => block_on(lists::contents(arguments)),
        Command::Contents(Contents::Search(arguments)) => block_on(lists::search(arguments)),
        Command::Contents(Contents::Poster(arguments)) => block_on(poster::run(arguments)),
        Command::Gate(Gate::Set(arguments)) => block_on(gate::set(arguments)),
        Command::Gate(Gate::Explain(arguments)) => block_on(gate::explain(arguments)),
        Command::Sessions(Sessions::List(arguments)) => block_on(lists::sessions(arguments)),
        Command::Sessions(Sessions::End(arguments)) => block_on(lists::end_session(arguments)),
        Command::Jobs(Jobs::List(arguments)) => block_on(lists::jobs(arguments)),
        Command::Play(arguments) => block_on(play::run(arguments)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            error.exit_code()
        }
    }
}

fn block_on(command: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::Failed(format!("start the async runtime: {error}")))?.block_on(command)
}
