//! The commands that enter the sandbox.

#![allow(clippy::disallowed_methods, reason = "a program of its own, without the runtime; GStreamer is steered by environment")]

use std::{
    env, fs, io,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use rustix::{
    process::{Pid, Resource, getppid, getpriority_process, getrlimit, prlimit, setpriority_process},
    thread::{sched_getaffinity, sched_setaffinity},
};
use streamgate_media::encoder_protocol::{EncodeSpec, Limits};

use crate::{Places, output::Output, pipeline, poster, refusal::Refusal, sandbox};

/// GStreamer's list of plugins.
const REGISTRY: &str = "GST_REGISTRY";
/// `no` keeps GStreamer from looking at every plugin again, which the sandbox would refuse.
const REGISTRY_UPDATE: &str = "GST_REGISTRY_UPDATE";

/// The `encode` command.
pub fn encode(places: &Places, spec: &str, resume_from: Option<u32>) -> ExitCode {
    let mut spec = match serde_json::from_str::<EncodeSpec>(spec) {
        Ok(spec) => spec,
        Err(error) => return refuse(places, &Refusal::internal(format!("read the encoder's spec: {error}"))),
    };
    if let Some(first) = resume_from {
        spec.resume_from = first;
    }
    spec.resume_from = spec.resume_from.max(1);
    match confined(places, &spec.limits).and_then(|places| pipeline::run(&places, &spec)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => refuse(places, &refusal),
    }
}

/// The `poster` command.
pub fn poster(places: &Places, at_ms: u64, limits: &str) -> ExitCode {
    let limits = match serde_json::from_str::<Limits>(limits) {
        Ok(limits) => limits,
        Err(error) => return refuse(places, &Refusal::internal(format!("read the encoder's limits: {error}"))),
    };
    match confined(places, &limits).and_then(|places| poster::run(&places, at_ms, &limits)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(refusal) => refuse(places, &refusal),
    }
}

fn refuse(places: &Places, refusal: &Refusal) -> ExitCode {
    let _ = Output::new(places.output.clone(), 1).say(&refusal.report());
    ExitCode::from(2)
}

/// Enters the sandbox; the paths come back absolute.
fn confined(places: &Places, limits: &Limits) -> Result<Places, Refusal> {
    restart_with_registry().map_err(|error| Refusal::of_io("prepare GStreamer", &error))?;
    let input = fs::canonicalize(&places.input).map_err(|error| Refusal::of_io("open the source", &error))?;
    let output = fs::canonicalize(&places.output).map_err(|error| Refusal::of_io("open the output folder", &error))?;
    let registry = env::var_os(REGISTRY).map(PathBuf::from);
    sandbox::enter(&input, &output, registry.as_deref(), limits).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
        Refusal::new("sandbox_unavailable", format!("{error}{cause}"))
    })?;
    Ok(Places { input, output })
}

/// Starts this program again with a registry that is there and is not looked at again.
/// It returns only when that is so already.
fn restart_with_registry() -> io::Result<()> {
    if env::var_os(REGISTRY_UPDATE).is_some_and(|value| value == "no") {
        return Ok(());
    }
    let program = env::current_exe()?;
    let registry = env::var_os(REGISTRY).map_or_else(default_registry, PathBuf::from);
    if !registry.exists() {
        if let Some(folder) = registry.parent() {
            fs::create_dir_all(folder)?;
        }
        Command::new(&program).arg("check").env(REGISTRY, &registry).stdin(Stdio::null()).stdout(Stdio::null()).status()?;
    }
    let mut again = Command::new(program);
    again.args(env::args_os().skip(1));
    again.env(REGISTRY, registry).env(REGISTRY_UPDATE, "no").env("GST_REGISTRY_FORK", "no");
    // Each arena reserves address space, which is what the memory limit counts.
    again.env("MALLOC_ARENA_MAX", "4");
    Err(again.exec())
}

fn default_registry() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map_or_else(env::temp_dir, PathBuf::from).join(".cache");
    cache.unwrap_or_else(home).join("streamgate").join("gst-registry.bin")
}

/// The `confine` command.
#[allow(clippy::print_stdout, reason = "a command's answer")]
pub fn confine(places: &Places) -> ExitCode {
    let places = match confined(places, &Limits::default()) {
        Ok(places) => places,
        Err(refusal) => return refuse(places, &refusal),
    };
    let tried = [
        ("read_source", fs::read(&places.input).is_ok()),
        ("write_output", fs::write(places.output.join("confine.tmp"), b"x").is_ok()),
        ("write_source", fs::OpenOptions::new().append(true).open(&places.input).is_ok()),
        ("read_passwd", fs::read("/etc/passwd").is_ok()),
        ("read_beside_source", beside(&places.input).is_some_and(|path| fs::read(path).is_ok())),
        ("write_beside_output", beside(&places.output).is_some_and(|path| fs::write(path, b"x").is_ok())),
        ("write_tmp", fs::write(env::temp_dir().join("streamgate-confine.tmp"), b"x").is_ok()),
        ("listen", TcpListener::bind("127.0.0.1:0").is_ok()),
        ("connect", std::net::TcpStream::connect("127.0.0.1:9").is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused)),
        ("unix_socket", std::os::unix::net::UnixListener::bind(places.output.join("confine.sock")).is_ok()),
        ("run_program", Command::new("/usr/bin/true").status().is_ok()),
        ("limit_parent", changes_parent(|parent| prlimit(Some(parent), Resource::Nproc, getrlimit(Resource::Nproc)))),
        ("bind_parent", changes_parent(|parent| sched_setaffinity(Some(parent), &sched_getaffinity(None)?))),
        ("slow_parent", changes_parent(|parent| setpriority_process(Some(parent), getpriority_process(None)?))),
        ("start_thread", std::thread::Builder::new().spawn(|| {}).is_ok_and(|thread| thread.join().is_ok())),
    ];
    let _ = fs::remove_file(places.output.join("confine.tmp"));
    let reached: std::collections::BTreeMap<_, _> = tried.into_iter().collect();
    println!("{}", serde_json::json!(reached));
    ExitCode::SUCCESS
}

/// Whether the parent can be changed; tried with what this process has from it, so that nothing becomes different.
fn changes_parent<T>(change: impl FnOnce(Pid) -> rustix::io::Result<T>) -> bool {
    getppid().is_some_and(|parent| change(parent).is_ok())
}

fn beside(path: &Path) -> Option<PathBuf> {
    Some(path.parent()?.join("beside.tmp"))
}
