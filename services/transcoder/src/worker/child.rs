//! One encoder process: started, read and killed as a group.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Read},
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use streamgate_media::encoder_protocol::{EncodeSpec, Limits, Report};
use tokio::sync::mpsc;

use crate::Error;

/// Longest line that is read; what is longer is no report.
const MAX_LINE_BYTES: u64 = 64 * 1024;
/// How much of what the child complains about is kept.
const COMPLAINT_BYTES: usize = 4 * 1024;
/// Lines that may wait; then the child's pipe fills, and it waits.
const WAITING_LINES: usize = 64;
/// How often an ended child is asked for its status, while it lets go of its pipes.
const REAP: Duration = Duration::from_millis(5);
/// What the child keeps of this process's environment: no secret is among it.
const KEPT: [&str; 6] = ["PATH", "LD_LIBRARY_PATH", "GST_PLUGIN_PATH", "GST_PLUGIN_SYSTEM_PATH", "GST_PLUGIN_PATH_1_0", "LANG"];

/// What a child shall make.
#[derive(Debug, Clone, Copy)]
pub(super) enum Task<'a> {
    /// A ladder.
    Encode(&'a EncodeSpec),
    /// A picture of the frame that is shown so long after the first.
    Poster { at_ms: u64, limits: &'a Limits },
}

impl Task<'_> {
    /// The command, and its flags beside those of all.
    fn words(self) -> Result<(&'static str, Vec<String>), serde_json::Error> {
        Ok(match self {
            Self::Encode(spec) => ("encode", vec!["--spec".to_owned(), serde_json::to_string(spec)?]),
            Self::Poster { at_ms, limits } => {
                let limits = serde_json::to_string(limits)?;
                ("poster", vec!["--at-ms".to_owned(), at_ms.to_string(), "--limits".to_owned(), limits])
            }
        })
    }
}

/// What comes from a child.
#[derive(Debug)]
pub(super) enum Line {
    /// A report.
    Report(Report),
    /// Something that is no report.
    Nonsense(String),
    /// The end, and what it complained about last.
    Ended(Ended),
}

/// How a child ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) signal: Option<i32>,
    pub(super) code: Option<i32>,
    pub(super) complaint: String,
}

/// A running child. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Child {
    lines: mpsc::Receiver<Line>,
    /// The group, until the child is reaped: after that its number may be somebody else's.
    group: Arc<Mutex<Option<Pid>>>,
}

impl Child {
    /// Starts the encoder.
    #[allow(clippy::disallowed_methods, reason = "a child's search paths come from this process, not from configuration")]
    pub(super) fn start(encoder: &Path, registry: &Path, input: &Path, output: &Path, task: Task<'_>) -> Result<Self, Error> {
        let (name, flags) = task.words().map_err(|error| Error::Nonsense(error.to_string()))?;
        let mut command = Command::new(encoder);
        command.arg(name).arg("--input").arg(input).arg("--output").arg(output).args(flags);
        command.env_clear().envs(KEPT.iter().filter_map(|name| std::env::var_os(name).map(|value| (name, value))));
        command.env("GST_REGISTRY", registry).env("GST_REGISTRY_UPDATE", "no").env("GST_REGISTRY_FORK", "no");
        // Each arena reserves address space, which is what the memory limit counts.
        command.env("MALLOC_ARENA_MAX", "4");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let (sender, lines) = mpsc::channel(WAITING_LINES);
        let group = Arc::new(Mutex::new(None));
        let (started, start) = std::sync::mpsc::channel();
        let shared = Arc::clone(&group);
        // The kernel ends the child when the thread that started it ends: this thread lives as long as the child.
        std::thread::Builder::new()
            .name("encoder".to_owned())
            .spawn(move || tend(command, &shared, &started, &sender))
            .map_err(Error::io("start a thread"))?;
        start
            .recv()
            .map_err(|_| Error::Nonsense("the thread of the encoder ended".to_owned()))?
            .map_err(Error::io("start the encoder"))?;
        Ok(Self { lines, group })
    }

    /// The next thing the child says. `None` after its end.
    pub(super) async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }

    /// Kills the whole group.
    pub(super) fn kill(&self) {
        if let Some(group) = *self.group.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

type Started = std::sync::mpsc::Sender<std::io::Result<()>>;

/// Starts the child, reads it to its end and reaps it.
fn tend(mut command: Command, group: &Mutex<Option<Pid>>, started: &Started, lines: &mpsc::Sender<Line>) {
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let _ = started.send(Err(error));
            return;
        }
    };
    *group.lock().unwrap_or_else(PoisonError::into_inner) = Pid::from_raw(child.id().cast_signed());
    let _ = started.send(Ok(()));
    let stderr = child.stderr.take();
    let complaints = std::thread::spawn(move || stderr.map_or_else(String::new, last_words));
    if let Some(stdout) = child.stdout.take() {
        read_lines(stdout, lines);
    }
    let status = reap(&mut child, group);
    let complaint = complaints.join().unwrap_or_default();
    let ended = Ended { signal: status.and_then(|s| s.signal()), code: status.and_then(|s| s.code()), complaint };
    let _ = lines.blocking_send(Line::Ended(ended));
}

fn reap(child: &mut std::process::Child, group: &Mutex<Option<Pid>>) -> Option<ExitStatus> {
    loop {
        {
            let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
            match child.try_wait() {
                Ok(None) => {}
                ended => {
                    *group = None;
                    return ended.ok().flatten();
                }
            }
        }
        std::thread::sleep(REAP);
    }
}

fn read_lines(stdout: impl Read, lines: &mpsc::Sender<Line>) {
    let mut reader = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match reader.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let said = serde_json::from_slice(&line).map_or_else(|error| Line::Nonsense(error.to_string()), Line::Report);
        // Nobody listens any more: the child is being killed.
        if lines.blocking_send(said).is_err() {
            return;
        }
    }
}

/// Reads everything, so that the child never waits, and keeps the end.
fn last_words(mut stderr: impl Read) -> String {
    let mut kept: VecDeque<u8> = VecDeque::new();
    let mut chunk = [0; 4096];
    while let Ok(count) = stderr.read(&mut chunk) {
        if count == 0 {
            break;
        }
        kept.extend(&chunk[..count]);
        let surplus = kept.len().saturating_sub(COMPLAINT_BYTES);
        kept.drain(..surplus);
    }
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}
