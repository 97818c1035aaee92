//! Gives up everything that decoding does not need, before the first byte of media is read.
//!
//! Three layers: resource limits; Landlock, so that only the source, the output folder and
//! the system's libraries can be opened; and seccomp, so that there is no network, no other
//! program and no way to reach other processes. It must run while there is one thread: the
//! threads that follow inherit it.

use std::{collections::BTreeMap, path::Path};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus, Scope,
    make_bitflags, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};
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
    restrict_calls()
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

/// Calls that no decoder needs: the network, other programs, other processes, the system.
/// `socketpair` stays: GStreamer wakes its threads through one, and it leads nowhere.
const FORBIDDEN: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_mknodat,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mknod,
];

fn restrict_calls() -> Result<(), Error> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    refused.insert(libc::SYS_clone, vec![new_process().map_err(|e| Error::Calls(e.to_string()))?]);
    apply(refused, libc::EPERM)?;
    // The arguments of clone3 lie in memory, where a filter can't see them. Told that it
    // does not exist, libc makes threads with clone.
    apply(BTreeMap::from([(libc::SYS_clone3, Vec::new())]), libc::ENOSYS)
}

/// A clone that makes a process and not a thread.
fn new_process() -> Result<SeccompRule, seccompiler::BackendError> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    let flags = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?;
    SeccompRule::new(vec![flags])
}

fn apply(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<(), Error> {
    let said = |error: seccompiler::BackendError| Error::Calls(error.to_string());
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(said)?;
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()), arch).map_err(said)?;
    let program = BpfProgram::try_from(filter).map_err(said)?;
    seccompiler::apply_filter(&program).map_err(|error| Error::Calls(error.to_string()))
}
