//! The system calls that an encoder may make. A process may signal, limit and schedule any other of the same user, whatever
//! files it may open; so what names a process may name only this one.

use std::collections::BTreeMap;

use rustix::process::getpid;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::Error;

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
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_kcmp,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    libc::SYS_ioprio_set,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
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

/// Calls that change how a process is run, by its number, which is the first argument; 0 is the caller.
const OF_A_PROCESS: [i64; 5] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setaffinity,
];
/// `fcntl` commands by which a file signals any process: `F_SETOWN`, `F_SETSIG` and `F_SETOWN_EX`.
const OWNED_FILE: [u64; 3] = [8, 10, 15];
/// `ioctl` requests for the same: `FIOSETOWN` and `SIOCSPGRP`.
const OWNED_SOCKET: [u64; 2] = [0x8901, 0x8902];
/// Set in the number of a call of the x32 interface, which the kernel takes for the same machine as its own.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

/// Puts the filters on this process.
pub(super) fn restrict() -> Result<(), Error> {
    let own = u64::from(getpid().as_raw_pid().unsigned_abs());
    for program in programs(own).map_err(|error| Error::Calls(error.to_string()))? {
        seccompiler::apply_filter(&program).map_err(|error| Error::Calls(error.to_string()))?;
    }
    Ok(())
}

/// The filters of the process `own`. The strictest answer counts.
fn programs(own: u64) -> Result<Vec<BpfProgram>, BackendError> {
    let mut refused: BTreeMap<i64, Vec<SeccompRule>> = FORBIDDEN.iter().map(|call| (*call, Vec::new())).collect();
    refused.insert(libc::SYS_clone, vec![new_process()?]);
    refused.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![differs(0, own)?])?]);
    for call in OF_A_PROCESS {
        refused.insert(call, vec![SeccompRule::new(vec![differs(0, 0)?, differs(0, own)?])?]);
    }
    // A process, and not a group or all of a user.
    let others = SeccompRule::new(vec![differs(1, 0)?, differs(1, own)?])?;
    refused.insert(libc::SYS_setpriority, vec![SeccompRule::new(vec![differs(0, libc::PRIO_PROCESS.into())?])?, others]);
    refused.insert(libc::SYS_fcntl, one_of(1, &OWNED_FILE)?);
    refused.insert(libc::SYS_ioctl, one_of(1, &OWNED_SOCKET)?);
    // The arguments of clone3 lie in memory, where a filter can't see them. Told that it
    // does not exist, libc makes threads with clone.
    let absent = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok(vec![native_only(), filter(refused, libc::EPERM)?, filter(absent, libc::ENOSYS)?])
}

/// A clone that makes a process and not a thread.
fn new_process() -> Result<SeccompRule, BackendError> {
    let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
    SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(thread), 0)?])
}

/// Process numbers and commands are of 32 bits: the kernel does not look at the others.
fn differs(argument: u8, from: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, from)
}

fn one_of(argument: u8, values: &[u64]) -> Result<Vec<SeccompRule>, BackendError> {
    let equals = |value: &u64| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, *value);
    values.iter().map(|value| SeccompRule::new(vec![equals(value)?])).collect()
}

fn filter(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: i32) -> Result<BpfProgram, BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(errno.unsigned_abs()), arch)?.try_into()
}

/// Refuses whatever does not come through the machine's own interface: there every call has a second number.
fn native_only() -> BpfProgram {
    #[cfg(target_arch = "x86_64")]
    const FIRST_OTHER: u32 = X32;
    #[cfg(not(target_arch = "x86_64"))]
    const FIRST_OTHER: u32 = u32::MAX;
    let (load_number, if_at_least, answer) = (0x20, 0x35, 0x06);
    let refuse = 0x0005_0000 | libc::EPERM.unsigned_abs();
    let step = |code, jf, k| sock_filter { code, jt: 0, jf, k };
    vec![step(load_number, 0, 0), step(if_at_least, 1, FIRST_OTHER), step(answer, 0, refuse), step(answer, 0, 0x7fff_0000)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The process that is confined.
    const OWN: u64 = 4_000;
    /// Another one.
    const OTHER: u64 = 17;

    /// Whether all filters let a call pass, run as the kernel would run them.
    fn passes(call: i64, arguments: [u64; 3]) -> bool {
        programs(OWN).unwrap().iter().all(|program| run(program, call, arguments) == 0x7fff_0000)
    }

    fn run(program: &BpfProgram, call: i64, arguments: [u64; 3]) -> u32 {
        let arch: u32 = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
        let mut data = [u32::try_from(call).unwrap().to_le_bytes(), arch.to_le_bytes(), [0; 4], [0; 4]].concat();
        arguments.iter().for_each(|argument| data.extend(argument.to_le_bytes()));
        let (mut at, mut seen) = (0, 0_u32);
        loop {
            let step = &program[at];
            at += 1;
            let holds = match step.code {
                0x20 => {
                    let place = step.k as usize;
                    seen = u32::from_le_bytes(data[place..place + 4].try_into().unwrap());
                    continue;
                }
                0x54 => {
                    seen &= step.k;
                    continue;
                }
                0x05 => {
                    at += step.k as usize;
                    continue;
                }
                0x06 => return step.k,
                0x15 => seen == step.k,
                0x25 => seen > step.k,
                0x35 => seen >= step.k,
                code => panic!("an unknown instruction {code:#x}"),
            };
            at += usize::from(if holds { step.jt } else { step.jf });
        }
    }

    #[test]
    fn an_encoder_may_signal_itself_and_nobody_else() {
        let abort = 6;
        assert!(passes(libc::SYS_tgkill, [OWN, OWN + 1, abort]), "a thread of its own, as abort does");
        assert!(!passes(libc::SYS_tgkill, [OTHER, OTHER, abort]));
        for call in [libc::SYS_kill, libc::SYS_tkill, libc::SYS_rt_sigqueueinfo, libc::SYS_rt_tgsigqueueinfo] {
            assert!(!passes(call, [OTHER, 9, 9]), "{call}");
        }
        for command in OWNED_FILE {
            assert!(!passes(libc::SYS_fcntl, [3, command, OTHER]), "{command}");
            assert!(!passes(libc::SYS_fcntl, [3, 1 << 32 | command, OTHER]), "the kernel does not see the upper half");
        }
        for request in OWNED_SOCKET {
            assert!(!passes(libc::SYS_ioctl, [3, request, OTHER]), "{request}");
        }
        let get_flags = 3;
        assert!(passes(libc::SYS_fcntl, [3, get_flags, 0]) && passes(libc::SYS_ioctl, [3, 0x5401, 0]));
    }

    #[test]
    fn an_encoder_may_limit_and_schedule_itself_and_nobody_else() {
        for call in OF_A_PROCESS {
            assert!(passes(call, [0, 0, 0]) && passes(call, [OWN, 0, 0]), "{call}");
            assert!(!passes(call, [OTHER, 0, 0]) && !passes(call, [1 << 32 | OTHER, 0, 0]), "{call}");
        }
        let (of_process, of_group, of_user) = (0, 1, 2);
        assert!(passes(libc::SYS_setpriority, [of_process, 0, 5]) && passes(libc::SYS_setpriority, [of_process, OWN, 5]));
        assert!(!passes(libc::SYS_setpriority, [of_process, OTHER, 5]));
        assert!(!passes(libc::SYS_setpriority, [of_group, 0, 5]) && !passes(libc::SYS_setpriority, [of_user, 0, 5]));
    }

    #[test]
    fn an_encoder_makes_threads_and_no_processes() {
        let thread = u64::from(libc::CLONE_THREAD.unsigned_abs());
        assert!(passes(libc::SYS_clone, [thread, 0, 0]) && passes(libc::SYS_read, [0, 0, 0]));
        assert!(!passes(libc::SYS_clone, [0, 0, 0]) && !passes(libc::SYS_clone3, [0, 0, 0]));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn no_call_has_a_second_number() {
        for call in [libc::SYS_kill, libc::SYS_read, libc::SYS_socket] {
            assert!(!passes(i64::from(X32) | call, [OTHER, 9, 0]), "{call}");
        }
    }
}
