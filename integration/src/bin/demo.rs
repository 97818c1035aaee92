//! The main job, end to end, on a real file.

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;

/// Deploy an NFT, upload a video, gate it, play it as its holder, refuse a stranger, transfer, cut off.
#[derive(Debug, Parser)]
#[command(after_help = "Exit codes: 0 everything held, 1 something did not, 3 the file was refused by name.")]
struct Arguments {
    /// The video; a clip of Big Buck Bunny when absent.
    video: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    streamgate_integration::demo::run(arguments.video).await
}
