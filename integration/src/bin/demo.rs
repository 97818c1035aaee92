//! The main job, end to end, on a real file.

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, ValueEnum};
use streamgate_testkit::Shape;

/// What a shell says of a program that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Deploy an NFT, upload a video, gate it, play it as its holder, refuse a stranger, transfer, cut off.
#[derive(Debug, Parser)]
#[command(after_help = "Exit codes: 0 everything held, 1 something did not, 3 the file was refused by name.")]
struct Arguments {
    /// The video; a clip of Big Buck Bunny when absent.
    video: Option<PathBuf>,
    /// How the platform runs.
    #[arg(long, value_enum, default_value = "one")]
    platform: Form,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Form {
    /// One process on embedded engines.
    One,
    /// Nine processes on embedded engines.
    Nine,
    /// Nine processes on PostgreSQL, Redis, NATS and S3.
    Mesh,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let shape = match arguments.platform {
        Form::One => Shape::OneProcess,
        Form::Nine => Shape::NineProcesses,
        Form::Mesh => Shape::NineOnEngines,
    };
    #[allow(clippy::disallowed_methods, reason = "a program of its own: nothing of the runtime runs here")]
    let interrupted = tokio::signal::ctrl_c();
    tokio::select! {
        code = streamgate_integration::demo::run(arguments.video, shape) => code,
        // Leaving ends every process that was started and removes its folder.
        _ = interrupted => INTERRUPTED.into(),
    }
}
