//! The auth service as a process of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    streamgate_runtime::run::<streamgate_auth::App>()
}
