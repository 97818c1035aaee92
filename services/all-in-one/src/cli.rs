//! The words of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 64 called wrongly, 69 the platform can't be reached, 77 refused.";

/// Token-gated video: upload, gate, play.
#[derive(Debug, Parser)]
#[command(name = "streamgate", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the platform: all nine services in this process.
    #[command(after_help = SERVE_HELP)]
    Serve,
    /// Send a video file; an interrupted upload goes on where it stopped.
    #[command(after_help = UPLOAD_HELP)]
    Upload(Upload),
    /// Make API keys for machines.
    #[command(subcommand)]
    Apikey(ApiKey),
    /// See and find your titles, and choose their posters.
    #[command(subcommand)]
    Contents(Contents),
    /// Set a title's gate, or ask what a gate says of an account.
    #[command(subcommand)]
    Gate(Gate),
    /// See the playback sessions of your account, and end them.
    #[command(subcommand)]
    Sessions(Sessions),
    /// See the transcode jobs of your titles.
    #[command(subcommand)]
    Jobs(Jobs),
    /// Open playback of a title and print its URLs.
    #[command(after_help = PLAY_HELP)]
    Play(Play),
}

const SERVE_HELP: &str = "\
Settings come from config/config.yaml and the environment:
  STREAMGATE_DATA_DIR   folder of databases and media (default ./data)
  SERVER_PORT           port of the edge (default 9090)
  CHAIN_<id>_RPC        endpoints of a chain, such as CHAIN_1_RPC=https://…,https://…
  OPERATOR_WALLETS      wallets that become operators when they sign in

Example:
  CHAIN_1_RPC=https://rpc.example streamgate serve";

const UPLOAD_HELP: &str = "\
Examples:
  streamgate upload talk.mp4 --title 'My talk' --wait
  streamgate upload talk.mp4 --gate '{\"erc721\":{\"chain\":\"eip155:1\",\"contract\":\"0x…\"}}'
  streamgate upload talk.mp4 --gate gate.json

Where it stopped is kept in talk.mp4.upload.json until the upload is complete. An upload that goes on
keeps its title and its gate, unless they are given again: then the new ones count.";

const PLAY_HELP: &str = "\
Example:
  streamgate play pbk_0123456789abcdef0123456789abcdef

The URLs carry a playback token: whoever has them can watch for as long as the gate holds.";

/// Where the platform is and who asks.
#[derive(Debug, Clone, Args)]
pub(crate) struct Server {
    /// Address of the edge.
    #[arg(long, env = "STREAMGATE_URL", default_value = "http://localhost:9090", value_name = "URL")]
    pub server: String,
    /// API key or access token.
    #[arg(long, env = "STREAMGATE_API_KEY", hide_env_values = true, value_name = "KEY")]
    pub key: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Upload {
    /// The video file.
    pub file: PathBuf,
    /// Title; the file's name when absent.
    #[arg(long)]
    pub title: Option<String>,
    /// Who may watch: a gate as JSON, or a file that holds one.
    #[arg(long, value_name = "JSON|FILE")]
    pub gate: Option<String>,
    /// Stay until the title is ready, showing how far it is.
    #[arg(long)]
    pub wait: bool,
    /// Print the answer as one line of JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ApiKey {
    /// Make a key in the data folder and print it once. The platform need not run.
    #[command(after_help = "Example:\n  streamgate apikey create --role creator --name studio")]
    Create(CreateApiKey),
}

#[derive(Debug, Args)]
pub(crate) struct CreateApiKey {
    /// What the key may do.
    #[arg(long, value_enum)]
    pub role: Role,
    /// A name to know it by.
    #[arg(long)]
    pub name: String,
    /// Print the key and nothing else.
    #[arg(long)]
    pub quiet: bool,
}

/// What an account may do.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    Viewer,
    Creator,
    Operator,
}

/// Which part of a list is shown, and how.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Show so many at the most.
    #[arg(long, default_value_t = 25, value_name = "N")]
    pub limit: usize,
    /// Print each as one line of JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Contents {
    /// List your titles, newest first: id, status, playback id, title.
    #[command(after_help = "Example:\n  streamgate contents list --limit 100")]
    List(List),
    /// Find titles by words in title, description and tags, the best first. Slips and beginnings of words are found too.
    #[command(after_help = "Example:\n  streamgate contents search 'mountain walk'")]
    Search(Search),
    /// Make the frame that is shown at a time the title's poster.
    #[command(after_help = "Example:\n  streamgate contents poster cnt_0123456789abcdef0123456789abcdef --at 12.5")]
    Poster(Poster),
}

#[derive(Debug, Args)]
pub(crate) struct Search {
    /// The words.
    pub words: String,
    #[command(flatten)]
    pub list: List,
}

#[derive(Debug, Args)]
pub(crate) struct Poster {
    /// The title.
    pub content_id: String,
    /// Seconds from the beginning.
    #[arg(long, value_name = "SECONDS", value_parser = milliseconds)]
    pub at: u64,
    #[command(flatten)]
    pub server: Server,
}

/// Reads seconds as they are written.
fn milliseconds(text: &str) -> Result<u64, String> {
    let seconds: f64 = text.parse().map_err(|_| "must be seconds, such as 12.5".to_owned())?;
    let time = std::time::Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
    u64::try_from(time.as_millis()).map_err(|error| error.to_string())
}

#[derive(Debug, Subcommand)]
pub(crate) enum Sessions {
    /// List sessions, newest first: id, state, playback id. An operator sees all.
    List(List),
    /// End a session: its player gets nothing more.
    #[command(after_help = "Example:\n  streamgate sessions end ses_0123456789abcdef0123456789abcdef")]
    End(EndSession),
}

#[derive(Debug, Args)]
pub(crate) struct EndSession {
    /// The session.
    pub session_id: String,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Jobs {
    /// List transcode jobs, newest first: id, state, content id.
    List(List),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Gate {
    /// Set who may watch a title. It counts at once, also for those who are watching.
    #[command(after_help = GATE_SET_HELP)]
    Set(SetGate),
    /// Show the answer of a gate for an account, rule by rule.
    #[command(after_help = GATE_HELP)]
    Explain(ExplainGate),
}

const GATE_HELP: &str = "\
Examples:
  streamgate gate explain cnt_0123456789abcdef0123456789abcdef --account 0x…
  streamgate gate explain --gate gate.json --account 0x…

Ends with 0 when granted, 77 when denied, 69 when a chain can't be read.";

const GATE_SET_HELP: &str = "\
Examples:
  streamgate gate set cnt_0123456789abcdef0123456789abcdef gate.json
  streamgate gate set cnt_0123456789abcdef0123456789abcdef '{\"signed_in\":{}}'";

#[derive(Debug, Args)]
pub(crate) struct SetGate {
    /// The title.
    pub content_id: String,
    /// A gate as JSON, or a file that holds one.
    #[arg(value_name = "JSON|FILE")]
    pub gate: String,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct ExplainGate {
    /// The title whose gate is asked.
    #[arg(required_unless_present = "gate", conflicts_with = "gate")]
    pub content_id: Option<String>,
    /// A gate as JSON, or a file that holds one.
    #[arg(long, value_name = "JSON|FILE")]
    pub gate: Option<String>,
    /// The wallet; may be given several times.
    #[arg(long = "account", required = true, value_name = "0x…")]
    pub accounts: Vec<String>,
    #[command(flatten)]
    pub server: Server,
}

#[derive(Debug, Args)]
pub(crate) struct Play {
    /// A playback id, or the id of one of your titles.
    pub id: String,
    #[command(flatten)]
    pub server: Server,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn a_time_is_seconds_and_nothing_else() {
        assert_eq!((super::milliseconds("12.5"), super::milliseconds("0")), (Ok(12_500), Ok(0)));
        for bad in ["", "-1", "1:30", "nan", "1e30"] {
            assert!(super::milliseconds(bad).is_err(), "{bad}");
        }
    }
}
