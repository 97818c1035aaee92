//! `streamgate-encoder`: the child process that touches untrusted media.
//!
//! It reads one file and writes segments into one folder. Before it opens the file it gives
//! up everything else: the network, other files, other programs. It reports on standard
//! output, one JSON value a line ([`streamgate_media::encoder_protocol`]).

mod audio;
mod check;
mod output;
mod pipeline;
mod poster;
mod probe;
mod refusal;
mod sandbox;
mod start;
mod video;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

/// Turns one media file into a ladder of CMAF segments.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes segments of INPUT in the folder OUTPUT, and reports in JSON lines.
    Encode {
        #[command(flatten)]
        places: Places,
        /// What to make, as JSON; what is left out has its default.
        #[arg(long, default_value = "{}")]
        spec: String,
        /// First segment to make; overrides the spec.
        #[arg(long)]
        resume_from: Option<u32>,
    },
    /// Makes a JPEG in the folder OUTPUT of one frame of INPUT, a segment behind its init segment, and reports in JSON lines.
    Poster {
        #[command(flatten)]
        places: Places,
        /// Milliseconds after the first frame; the frame that is shown then is taken.
        #[arg(long)]
        at_ms: u64,
        /// What may be used, as JSON; what is left out has its default.
        #[arg(long, default_value = "{}")]
        limits: String,
    },
    /// Says whether every GStreamer element is installed, and builds the plugin registry.
    Check,
    /// Enters the sandbox and reports, in JSON, what can still be reached from inside.
    Confine {
        #[command(flatten)]
        places: Places,
    },
}

/// The one file and the one folder that a child may touch.
#[derive(Debug, Clone, clap::Args)]
struct Places {
    /// The source.
    #[arg(long)]
    input: PathBuf,
    /// An existing folder for what is made.
    #[arg(long)]
    output: PathBuf,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Encode { places, spec, resume_from } => start::encode(&places, &spec, resume_from),
        Command::Poster { places, at_ms, limits } => start::poster(&places, at_ms, &limits),
        Command::Check => check::run(),
        Command::Confine { places } => start::confine(&places),
    }
}
