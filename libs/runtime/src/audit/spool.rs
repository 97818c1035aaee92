//! Entries on their way to the monitor, in files: what a caller was answered is noted before, and
//! outlives the process.
//!
//! A process has one file that it writes. To send, the file is set aside and a new one begun; a
//! file that was set aside is removed when the monitor has its entries. A process takes over the
//! files of one that died.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use prost::Message as _;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::audit::v1::AuditEntry;

/// Bytes that wait at the most; what comes then is counted and not kept.
pub(super) const MAX_WAITING_BYTES: u64 = 64 * 1024 * 1024;
/// Largest entry that is read back.
const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// The files of one process.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// What the names of this process's files begin with.
    prefix: String,
    /// Held for as long as the process lives, so that nobody takes its files over.
    _alive: File,
    lock_path: PathBuf,
    writing: Option<(File, PathBuf)>,
    next: u64,
    /// Set aside, oldest first.
    aside: Vec<PathBuf>,
    waiting_bytes: u64,
}

impl Spool {
    /// Opens the spool of a service, with what processes before it have left.
    pub(super) fn open(folder: &Path, service: ServiceName) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let aside = left_behind(folder, service)?;
        let waiting_bytes = aside.iter().filter_map(|path| fs::metadata(path).ok()).map(|file| file.len()).sum();
        let (alive, lock_path, prefix) = claim(folder, service)?;
        Ok(Self { folder: folder.to_owned(), prefix, _alive: alive, lock_path, writing: None, next: 0, aside, waiting_bytes })
    }

    /// Writes an entry. It outlives the process from now on.
    pub(super) fn add(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let bytes = entry.encode_length_delimited_to_vec();
        if self.waiting_bytes + bytes.len() as u64 > MAX_WAITING_BYTES {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many entries wait for the monitor"));
        }
        if self.writing.is_none() {
            let path = self.folder.join(format!("{}.{:06}.entries", self.prefix, self.next));
            self.next += 1;
            self.writing = Some((File::options().create_new(true).append(true).open(&path)?, path));
        }
        if let Some((file, _)) = &mut self.writing {
            file.write_all(&bytes)?;
        }
        self.waiting_bytes += bytes.len() as u64;
        Ok(())
    }

    /// The oldest file that can be sent, set aside.
    pub(super) fn oldest(&mut self) -> Option<PathBuf> {
        if self.aside.is_empty() {
            let (_, path) = self.writing.take()?;
            self.aside.push(path);
        }
        self.aside.first().cloned()
    }

    /// Forgets a file whose entries have arrived.
    pub(super) fn done(&mut self, path: &Path) -> io::Result<()> {
        let size = fs::metadata(path).map_or(0, |file| file.len());
        self.waiting_bytes = self.waiting_bytes.saturating_sub(size);
        self.aside.retain(|aside| aside != path);
        fs::remove_file(path)
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Without its lock a file is taken over; without a lock file there is nothing to look at.
        let _gone = fs::remove_file(&self.lock_path);
    }
}

/// Makes the lock of this process.
fn claim(folder: &Path, service: ServiceName) -> io::Result<(File, PathBuf, String)> {
    let prefix = format!("{service}.{}", streamgate_core::ids::AuditEntryId::new());
    let path = folder.join(format!("{prefix}.lock"));
    let file = File::options().create_new(true).write(true).open(&path)?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::Error(error) => error,
        fs::TryLockError::WouldBlock => io::Error::from(io::ErrorKind::WouldBlock),
    })?;
    Ok((file, path, prefix))
}

/// Files of processes of this service that do not live any more, oldest first.
fn left_behind(folder: &Path, service: ServiceName) -> io::Result<Vec<PathBuf>> {
    let own = format!("{service}.");
    let (mut living, mut files) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.starts_with(&own)) else { continue };
        if let Some(prefix) = name.strip_suffix(".lock") {
            // Whoever holds the lock lives. One that can't be looked at is left alone.
            match File::open(&path).map(|file| file.try_lock().is_ok()) {
                Ok(true) => fs::remove_file(&path)?,
                Ok(false) | Err(_) => living.push(prefix.to_owned()),
            }
        } else if name.ends_with(".entries") {
            files.push(path);
        }
    }
    files.retain(|path| {
        !living.iter().any(|prefix| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)))
    });
    // Ids are ordered by time, and the numbers behind them too.
    files.sort();
    Ok(files)
}

/// The entries of a file. One that was cut off by a crash is the last, and is left out.
pub(super) fn read(path: &Path) -> io::Result<Vec<AuditEntry>> {
    let bytes = fs::read(path)?;
    let mut rest = bytes.as_slice();
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let mut at = rest;
        let Ok(length) = prost::decode_length_delimiter(&mut at) else { break };
        let Some(body) = at.get(..length).filter(|_| length <= MAX_ENTRY_BYTES) else { break };
        let Ok(entry) = AuditEntry::decode(body) else { break };
        entries.push(entry);
        rest = &at[length..];
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str) -> AuditEntry {
        AuditEntry { entry_id: id.into(), ..Default::default() }
    }

    fn ids(path: &Path) -> Vec<String> {
        read(path).unwrap().into_iter().map(|entry| entry.entry_id).collect()
    }

    #[test]
    fn entries_come_out_in_order_and_are_gone_when_they_have_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert_eq!(spool.oldest(), None);
        spool.add(&entry("1")).unwrap();
        spool.add(&entry("2")).unwrap();
        let first = spool.oldest().unwrap();
        spool.add(&entry("3")).unwrap();
        assert_eq!(ids(&first), ["1", "2"]);
        assert_eq!(spool.oldest().as_ref(), Some(&first), "until it is done");
        spool.done(&first).unwrap();
        let second = spool.oldest().unwrap();
        assert_eq!(ids(&second), ["3"]);
        spool.done(&second).unwrap();
        assert_eq!((spool.oldest(), spool.waiting_bytes), (None, 0));
    }

    #[test]
    fn the_files_of_a_dead_process_are_taken_over_and_those_of_a_living_one_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut living = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        living.add(&entry("of the living")).unwrap();
        let mut other = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert_eq!(other.oldest(), None);
        drop(living);
        let mut next = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert_eq!(ids(&next.oldest().unwrap()), ["of the living"]);
        assert_eq!(Spool::open(folder.path(), ServiceName::Cache).unwrap().oldest(), None, "another service's are its own");
    }

    #[test]
    fn an_entry_that_a_crash_cut_off_hides_none_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.add(&entry("whole")).unwrap();
        spool.add(&entry("cut")).unwrap();
        let path = spool.oldest().unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(ids(&path), ["whole"]);
    }

    #[test]
    fn a_monitor_that_stays_away_does_not_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.waiting_bytes = MAX_WAITING_BYTES - 1;
        assert!(spool.add(&entry("one too many")).is_err());
    }
}
