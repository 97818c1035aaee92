//! Where this process keeps what it works on.
//!
//! Each process has a folder of its own, and holds its lock as long as it lives. So what a process left that has died, such
//! as a copy of a long source, is told from what another one of the same machine is working on.

use std::{
    fs::{self, File},
    io::{self, ErrorKind},
    path::Path,
};

/// Makes the folder `own`, and removes what dead processes left beside it. The folder is this process's while the answer is held.
pub(super) fn settle(own: &Path) -> io::Result<File> {
    fs::create_dir_all(own)?;
    let held = File::open(own)?;
    held.try_lock()?;
    let all = own.parent().unwrap_or(own);
    for entry in fs::read_dir(all)? {
        let left = entry?.path();
        if left != own {
            clear(&left).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
        }
    }
    Ok(held)
}

/// Removes a folder that nobody holds.
fn clear(left: &Path) -> io::Result<()> {
    if File::open(left)?.try_lock().is_err() {
        return Ok(());
    }
    if left.is_dir() { fs::remove_dir_all(left) } else { fs::remove_file(left) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_the_dead_left_is_removed_and_what_the_living_hold_stays() {
        let all = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| all.path().join(name));
        let left = all.path().join("job_1");
        fs::create_dir_all(left.join("out")).unwrap();
        fs::write(left.join("source"), b"a long copy").unwrap();
        let held = settle(&first).unwrap();
        assert!(!left.exists());
        fs::write(first.join("source"), b"x").unwrap();
        let other = settle(&second).unwrap();
        assert!(first.join("source").exists(), "its process lives");
        drop(held);
        drop(other);
        let _held = settle(&second).unwrap();
        assert!(!first.exists() && second.exists());
    }
}
