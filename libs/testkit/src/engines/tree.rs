//! A process and everything that it has started, by id.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// The process `root` and all its descendants, parents first. PostgreSQL's backends are in groups of their own, so a
/// process group does not find them.
pub(super) fn family(root: u32) -> Vec<u32> {
    let pairs: Vec<(u32, u32)> = all_processes().filter_map(|id| Some((id, parent_of(id)?))).collect();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(pairs.iter().filter(|(_, of)| *of == parent).map(|(id, _)| *id));
        next += 1;
    }
    family
}

/// Sends a signal to each of them; one that has ended meanwhile needs none.
pub(super) fn signal_all(processes: &[u32], signal: Signal) {
    for id in processes {
        if let Some(pid) = i32::try_from(*id).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, signal);
        }
    }
}

fn all_processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent_of(id: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // The name in brackets may hold anything, even brackets: state and parent come after the last one.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use std::{process::Command, time::Duration};

    use super::*;
    use crate::eventually;

    #[tokio::test]
    async fn a_family_holds_the_children_of_a_process_and_ends_with_it() {
        let mut shell = Command::new("sh").args(["-c", "sleep 60 & wait"]).spawn().unwrap();
        let members = eventually("the shell has a child", Duration::from_secs(5), || async {
            let members = family(shell.id());
            Ok((members.len() == 2).then_some(members))
        });
        let members = members.await.unwrap();
        signal_all(&members, Signal::KILL);
        shell.wait().unwrap();
        eventually("the child has ended", Duration::from_secs(5), || async {
            Ok((parent_of(members[1]) != Some(shell.id())).then_some(()))
        })
        .await
        .unwrap();
    }
}
