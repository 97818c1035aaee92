//! Gives up everything that decoding does not need, before the first byte of media is read.
//!
//! Three layers: resource limits; Landlock, so that only the source, the output folder and
//! the system's libraries can be opened; and seccomp ([`calls`]), so that there is no network, no
//! other program and no way to reach other processes. It must run while there is one thread: the
//! threads that follow inherit it.

mod calls;

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    make_bitflags, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal};
use streamgate_media::encoder_protocol::Limits;

/// Files an encoder holds open at once, at the most.
const OPEN_FILES: u64 = 256;

/// Where libraries, plugins and the machine's description lie. Nothing of a user is among them.
const SYSTEM: [&str; 9] = [
    "/usr/lib",
    "/usr/local/lib",
    "/usr/libexec",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/proc/cpuinfo",
    "/sys/devices/system/cpu",
    "/dev/urandom",
];

/// A layer that could not be put on; nothing was opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not limit itself.
    #[error("limit the encoder's resources")]
    Limits(#[from] rustix::io::Errno),
    /// Landlock is missing or refused the rules.
    #[error("restrict the encoder's files")]
    Files(#[from] landlock::RulesetError),
    /// The kernel has no Landlock.
    #[error("this kernel has no Landlock, so the encoder's files can't be restricted")]
    NoLandlock,
    /// The filter could not be built or put on.
    #[error("restrict the encoder's system calls: {0}")]
    Calls(String),
}

/// Puts all layers on the process. `registry` is GStreamer's list of plugins.
///
/// # Errors
/// A layer that this kernel does not have; the caller must not go on.
pub fn enter(input: &Path, output: &Path, registry: Option<&Path>, limits: &Limits) -> Result<(), Error> {
    die_with_parent();
    limit_resources(limits)?;
    rustix::thread::set_no_new_privs(true)?;
    restrict_files(input, output, registry)?;
    calls::restrict()
}

/// Ends the whole group when the parent ends. Failing here is harmless: the parent also kills it.
fn die_with_parent() {
    let _ = rustix::process::setpgid(None, None);
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
}

fn limit_resources(limits: &Limits) -> Result<(), Error> {
    let both = |value: u64| Rlimit { current: Some(value), maximum: Some(value) };
    rustix::process::setrlimit(Resource::As, both(limits.memory_bytes))?;
    // The soft limit says SIGXCPU, which names the reason; the hard one kills.
    let cpu = Rlimit { current: Some(limits.cpu_seconds), maximum: Some(limits.cpu_seconds + 5) };
    rustix::process::setrlimit(Resource::Cpu, cpu)?;
    rustix::process::setrlimit(Resource::Nofile, both(OPEN_FILES))?;
    rustix::process::setrlimit(Resource::Fsize, both(limits.file_bytes))?;
    rustix::process::setrlimit(Resource::Core, both(0))?;
    Ok(())
}

fn restrict_files(input: &Path, output: &Path, registry: Option<&Path>) -> Result<(), Error> {
    let abi = ABI::V6;
    let read = AccessFs::from_read(abi);
    // Plain files and folders: no link, device or socket for the parent to stumble over.
    let files = make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile});
    let readable = SYSTEM.iter().map(Path::new).chain([input]).chain(registry);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .add_rules(path_beneath_rules(readable, read))?
        .add_rules(path_beneath_rules([output], files))?
        .add_rules(path_beneath_rules(["/dev/null"], AccessFs::ReadFile | AccessFs::WriteFile))?
        .restrict_self()?;
    if status.ruleset == RulesetStatus::NotEnforced {
        return Err(Error::NoLandlock);
    }
    Ok(())
}
