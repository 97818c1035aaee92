//! The `streamgate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    streamgate::run(std::env::args_os())
}
