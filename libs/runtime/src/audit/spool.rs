//! Entries on their way to the monitor, in files: what a caller was answered is noted before, and
//! outlives the process.
//!
//! A process has one file that it writes. To send, the file is set aside and a new one begun; a
//! file that was set aside is removed when the monitor has its entries. A file in which a write
//! failed is set aside too. One that can't be read stays, and is passed over: what is in it may be
//! mended, and must not hold up the others. A process takes over the files of one that died.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use prost::Message as _;
use streamgate_core::ServiceName;
use streamgate_proto::streamgate::audit::v1::AuditEntry;
use tokio::time::Instant;

/// Bytes that wait at the most; what comes then is counted and not kept.
pub(super) const MAX_WAITING_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of files that can't be read and take no room from those that wait.
const MAX_UNREADABLE_BYTES: u64 = MAX_WAITING_BYTES;
/// Largest entry that is read back.
const MAX_ENTRY_BYTES: usize = 64 * 1024;

/// What the names of files end in that hold entries, and of those that are locked while their process lives.
const ENTRIES: &str = ".entries";
const LOCK: &str = ".lock";

/// The files of one process.
#[derive(Debug)]
pub(super) struct Spool {
    folder: PathBuf,
    /// What the names of this process's files begin with.
    prefix: String,
    /// Held for as long as the process lives, so that nobody takes its files over.
    _alive: File,
    lock_path: PathBuf,
    writing: Option<Writing>,
    next: u64,
    /// Set aside, oldest first.
    aside: Vec<Aside>,
    waiting_bytes: u64,
    /// Bytes of files that can't be read; they are not among those that wait.
    unreadable_bytes: u64,
}

#[derive(Debug)]
struct Writing {
    file: File,
    path: PathBuf,
    /// Bytes of whole entries.
    bytes: u64,
}

#[derive(Debug)]
struct Aside {
    path: PathBuf,
    bytes: u64,
    /// When one that could not be read may be tried again; absent for all others.
    again: Option<Instant>,
}

impl Aside {
    const fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes, again: None }
    }
}

/// What is in a file.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) entries: Vec<AuditEntry>,
    /// Bytes behind them that are no entry: one that was cut off, and whatever follows.
    pub(super) unreadable_bytes: u64,
}

impl Spool {
    /// Opens the spool of a service, with what processes before it have left.
    pub(super) fn open(folder: &Path, service: ServiceName) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        // The lock first: what is taken over bears the name of this process, and must look alive.
        let (alive, lock_path, prefix) = claim(folder, service)?;
        let folder = folder.to_owned();
        let mut spool = Self {
            folder,
            prefix,
            _alive: alive,
            lock_path,
            writing: None,
            next: 0,
            aside: Vec::new(),
            waiting_bytes: 0,
            unreadable_bytes: 0,
        };
        spool.adopt(left_behind(&spool.folder, service)?)?;
        Ok(spool)
    }

    /// Takes files over by their names, which only one of several processes that try can do.
    fn adopt(&mut self, files: Vec<PathBuf>) -> io::Result<()> {
        for left in files {
            let path = self.next_path();
            match fs::rename(&left, &path) {
                Ok(()) => {}
                // Another process was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            // A damaged one must not keep the service from starting; what is wrong with it shows when it is read.
            let bytes = fs::metadata(&path).map_or(0, |found| found.len());
            self.waiting_bytes += bytes;
            self.aside.push(Aside::new(path, bytes));
        }
        Ok(())
    }

    fn next_path(&mut self) -> PathBuf {
        let path = self.folder.join(format!("{}.{:06}{ENTRIES}", self.prefix, self.next));
        self.next += 1;
        path
    }

    /// Writes an entry. It outlives the process from now on.
    pub(super) fn add(&mut self, entry: &AuditEntry) -> io::Result<()> {
        let record = entry.encode_length_delimited_to_vec();
        let bytes = record.len() as u64;
        let waiting = self.waiting_bytes + self.unreadable_bytes.saturating_sub(MAX_UNREADABLE_BYTES);
        if waiting + bytes > MAX_WAITING_BYTES {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many entries wait for the monitor"));
        }
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => {
                let path = self.next_path();
                Writing { file: File::options().create_new(true).append(true).open(&path)?, path, bytes: 0 }
            }
        };
        if let Err(error) = writing.file.write_all(&record) {
            self.give_up(writing);
            return Err(error);
        }
        writing.bytes += bytes;
        self.waiting_bytes += bytes;
        self.writing = Some(writing);
        Ok(())
    }

    /// Ends a file in which a part of an entry may lie: nothing behind that part could be read.
    fn give_up(&mut self, writing: Writing) {
        let Writing { file, path, bytes } = writing;
        // The entry is counted as missing by whoever wanted it written; a part that stays is counted again.
        let _cut = file.set_len(bytes);
        // A full disk would leave an empty file for each call.
        if bytes == 0 && fs::remove_file(&path).is_ok() {
            return;
        }
        self.aside.push(Aside::new(path, bytes));
    }

    /// The oldest file that may be sent at `now`, set aside.
    pub(super) fn oldest(&mut self, now: Instant) -> Option<PathBuf> {
        if let Some(aside) = self.aside.iter().find(|aside| aside.again.is_none_or(|again| again <= now)) {
            return Some(aside.path.clone());
        }
        let Writing { path, bytes, .. } = self.writing.take()?;
        self.aside.push(Aside::new(path.clone(), bytes));
        Some(path)
    }

    /// Forgets a file whose entries have arrived.
    pub(super) fn done(&mut self, path: &Path) -> io::Result<()> {
        if let Some(place) = self.aside.iter().position(|aside| aside.path == path) {
            let Aside { bytes, again, .. } = self.aside.remove(place);
            let counted = if again.is_some() { &mut self.unreadable_bytes } else { &mut self.waiting_bytes };
            *counted = counted.saturating_sub(bytes);
        }
        remove(path)
    }

    /// Passes over a file that can't be read, until `again`. Says whether it could be read so far as anybody knew.
    pub(super) fn pass_over(&mut self, path: &Path, again: Instant) -> bool {
        let Some(aside) = self.aside.iter_mut().find(|aside| aside.path == path) else { return false };
        let is_news = aside.again.replace(again).is_none();
        if is_news {
            self.waiting_bytes = self.waiting_bytes.saturating_sub(aside.bytes);
            self.unreadable_bytes += aside.bytes;
        }
        is_news
    }

    /// Files that could not be read when they were tried.
    pub(super) fn unreadable(&self) -> usize {
        self.aside.iter().filter(|aside| aside.again.is_some()).count()
    }

    /// When the next of them may be tried again.
    pub(super) fn next_try(&self) -> Option<Instant> {
        self.aside.iter().filter_map(|aside| aside.again).min()
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Without its lock a file is taken over; without a lock file there is nothing to look at.
        let _gone = remove(&self.lock_path);
    }
}

/// Removes a file that may be gone already.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Makes the lock of this process.
fn claim(folder: &Path, service: ServiceName) -> io::Result<(File, PathBuf, String)> {
    let prefix = format!("{service}.{}", streamgate_core::ids::AuditEntryId::new());
    // It gets its name when it is held: whoever saw it before would take this process for dead.
    let unnamed = folder.join(format!("{prefix}.new"));
    let path = folder.join(format!("{prefix}{LOCK}"));
    let file = File::options().create_new(true).write(true).open(&unnamed)?;
    file.lock()?;
    fs::rename(&unnamed, &path)?;
    Ok((file, path, prefix))
}

/// Files of processes of this service that do not live any more, oldest first.
fn left_behind(folder: &Path, service: ServiceName) -> io::Result<Vec<PathBuf>> {
    let own = format!("{service}.");
    let (mut prefixes, mut files) = (BTreeSet::new(), Vec::new());
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(&own)) else { continue };
        if let Some(prefix) = name.strip_suffix(LOCK) {
            prefixes.insert(prefix.to_owned());
        } else if let Some((prefix, _number)) = name.strip_suffix(ENTRIES).and_then(|stem| stem.rsplit_once('.')) {
            prefixes.insert(prefix.to_owned());
            files.push((prefix.to_owned(), folder.join(name)));
        }
    }
    // Only now: a process has its lock before it has files, though a folder may be listed the other way round.
    let mut dead = BTreeSet::new();
    for prefix in prefixes {
        if is_dead(&folder.join(format!("{prefix}{LOCK}")))? {
            dead.insert(prefix);
        }
    }
    let mut files: Vec<PathBuf> = files.into_iter().filter(|(prefix, _)| dead.contains(prefix)).map(|(_, path)| path).collect();
    // Ids are ordered by time, and the numbers behind them too.
    files.sort();
    Ok(files)
}

/// Whether nobody holds a lock, which is removed then.
fn is_dead(lock: &Path) -> io::Result<bool> {
    match File::open(lock) {
        Ok(file) if file.try_lock().is_ok() => remove(lock).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        // One that can't be looked at is left alone.
        Ok(_) | Err(_) => Ok(false),
    }
}

/// The entries of a file, as far as they can be read.
pub(super) fn read(path: &Path) -> io::Result<Contents> {
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
    Ok(Contents { entries, unreadable_bytes: rest.len() as u64 })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    fn entry(id: &str) -> AuditEntry {
        AuditEntry { entry_id: id.into(), ..Default::default() }
    }

    fn ids(path: &Path) -> Vec<String> {
        read(path).unwrap().entries.into_iter().map(|entry| entry.entry_id).collect()
    }

    #[test]
    fn entries_come_out_in_order_and_are_gone_when_they_have_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert_eq!(spool.oldest(Instant::now()), None);
        spool.add(&entry("1")).unwrap();
        spool.add(&entry("2")).unwrap();
        let first = spool.oldest(Instant::now()).unwrap();
        spool.add(&entry("3")).unwrap();
        assert_eq!(ids(&first), ["1", "2"]);
        assert_eq!(spool.oldest(Instant::now()).as_ref(), Some(&first), "until it is done");
        spool.done(&first).unwrap();
        let second = spool.oldest(Instant::now()).unwrap();
        assert_eq!(ids(&second), ["3"]);
        spool.done(&second).unwrap();
        assert_eq!((spool.oldest(Instant::now()), spool.waiting_bytes), (None, 0));
    }

    #[test]
    fn the_files_of_a_dead_process_are_taken_over_and_those_of_a_living_one_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut living = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        living.add(&entry("of the living")).unwrap();
        let mut other = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert_eq!(other.oldest(Instant::now()), None);
        drop(living);
        let mut next = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert_eq!(ids(&next.oldest(Instant::now()).unwrap()), ["of the living"]);
        assert_eq!(
            Spool::open(folder.path(), ServiceName::Cache).unwrap().oldest(Instant::now()),
            None,
            "another service's are its own"
        );
    }

    #[test]
    fn of_several_processes_that_find_the_files_of_a_dead_one_one_takes_them_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut dead = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        dead.add(&entry("of the dead")).unwrap();
        drop(dead);
        let found = left_behind(folder.path(), ServiceName::Upload).unwrap();
        let mut first = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        let mut second = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        second.adopt(found).unwrap();
        assert_eq!(second.oldest(Instant::now()), None);
        let adopted = first.oldest(Instant::now()).unwrap();
        assert_eq!(ids(&adopted), ["of the dead"]);
        assert!(left_behind(folder.path(), ServiceName::Upload).unwrap().is_empty(), "they are of a living one now");
        first.done(&adopted).unwrap();
        first.done(&adopted).expect("a file that is gone is done");
    }

    #[test]
    fn a_process_that_starts_is_never_taken_for_dead_and_a_dead_ones_lock_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("upload.aud_0.lock"), "").unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // What one process sees of another that starts is a matter of luck, so it looks all the time.
            let looking = scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    left_behind(folder.path(), ServiceName::Upload).unwrap();
                }
            });
            let starts = (0..1_000).map(|_| Spool::open(folder.path(), ServiceName::Upload));
            let failed = starts.filter(|spool| !spool.as_ref().is_ok_and(|spool| spool.lock_path.exists())).count();
            is_over.store(true, Ordering::Relaxed);
            looking.join().unwrap();
            assert_eq!(failed, 0);
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_entry_that_a_crash_cut_off_hides_none_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.add(&entry("whole")).unwrap();
        spool.add(&entry("cut")).unwrap();
        let path = spool.oldest(Instant::now()).unwrap();
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(ids(&path), ["whole"]);
        assert!(read(&path).unwrap().unreadable_bytes > 0, "and it is not passed over in silence");
    }

    #[test]
    fn a_write_that_fails_half_way_hides_no_entry_before_it_and_none_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.add(&entry("before")).unwrap();
        let writing = spool.writing.as_mut().unwrap();
        // The head of an entry arrives, and then no more can be written.
        writing.file.write_all(&[40, 1]).unwrap();
        writing.file = File::open(&writing.path).unwrap();
        assert!(spool.add(&entry("lost")).is_err());
        spool.add(&entry("behind")).unwrap();

        let first = spool.oldest(Instant::now()).unwrap();
        assert_eq!((ids(&first), read(&first).unwrap().unreadable_bytes), (vec!["before".to_owned()], 2));
        spool.done(&first).unwrap();
        let second = spool.oldest(Instant::now()).unwrap();
        assert_eq!((ids(&second), read(&second).unwrap().unreadable_bytes), (vec!["behind".to_owned()], 0));
        spool.done(&second).unwrap();
        assert_eq!((spool.oldest(Instant::now()), spool.waiting_bytes), (None, 0));
    }

    #[test]
    fn a_disk_that_stays_full_gathers_no_empty_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.add(&entry("x")).unwrap();
        let mut writing = spool.writing.take().unwrap();
        (writing.file, writing.bytes) = (File::open(&writing.path).unwrap(), 0);
        let path = writing.path.clone();
        spool.writing = Some(writing);
        assert!(spool.add(&entry("y")).is_err());
        assert!(!path.exists() && spool.aside.is_empty());
    }

    #[test]
    fn a_monitor_that_stays_away_does_not_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.waiting_bytes = MAX_WAITING_BYTES - 1;
        assert!(spool.add(&entry("one too many")).is_err());
    }

    #[test]
    fn a_file_that_can_not_be_read_is_passed_over_for_a_while_and_takes_no_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        let (now, minute) = (Instant::now(), std::time::Duration::from_secs(60));
        spool.add(&entry("damaged")).unwrap();
        let damaged = spool.oldest(now).unwrap();
        assert!(spool.pass_over(&damaged, now + minute) && !spool.pass_over(&damaged, now + minute), "it is news once");
        assert_eq!((spool.oldest(now), spool.unreadable(), spool.waiting_bytes), (None, 1, 0));
        spool.add(&entry("sound")).unwrap();
        let sound = spool.oldest(now).unwrap();
        assert_eq!(ids(&sound), ["sound"]);
        spool.done(&sound).unwrap();

        assert_eq!(spool.next_try(), Some(now + minute));
        assert_eq!(spool.oldest(now + minute).as_ref(), Some(&damaged));
        spool.done(&damaged).unwrap();
        assert_eq!((spool.unreadable(), spool.unreadable_bytes, spool.waiting_bytes), (0, 0, 0));
        assert!(!damaged.exists());
    }

    #[test]
    fn files_that_can_not_be_read_do_not_fill_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        spool.unreadable_bytes = MAX_UNREADABLE_BYTES;
        spool.add(&entry("they have room of their own")).unwrap();
        spool.unreadable_bytes += MAX_WAITING_BYTES;
        assert!(spool.add(&entry("one too many")).is_err());
    }

    #[test]
    fn what_is_no_file_keeps_no_service_from_starting() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("upload.aud_0.000000.entries")).unwrap();
        let mut spool = Spool::open(folder.path(), ServiceName::Upload).unwrap();
        assert!(read(&spool.oldest(Instant::now()).unwrap()).is_err());
    }
}
