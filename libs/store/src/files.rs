//! Durable work on files, for blocking threads: every function returns when what it did survives a
//! crash of the machine.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::{
    error::{Error, Result},
    key::BlobKey,
};

/// Bytes appended between two syncs: so the last sync of a large body, which its sender waits for,
/// is never long.
const SYNC_EVERY_BYTES: u64 = 64 * 1024 * 1024;
/// Tries to reach a name whose folder or file is taken away at the same time.
const RACE_TRIES: u32 = 16;

/// A piece of a body on its way to the writing thread. A channel that closes without `End` means
/// that the body broke off.
#[derive(Debug)]
pub(crate) enum Part {
    /// The next bytes.
    Bytes(Bytes),
    /// The body is whole.
    End,
}

/// Makes `folder` and what is missing above it, each one durable in its parent.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent() {
        make_folder(parent)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => sync_folder(parent)?,
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), sync_folder)
}

/// A file under a name of its own, removed when dropped. It is locked while it is in use, so that a
/// sweep by another process tells it from one that a crash left behind.
struct Temp {
    path: PathBuf,
    file: File,
}

impl Temp {
    fn create(folder: &Path) -> io::Result<Self> {
        for _ in 0..RACE_TRIES {
            let path = folder.join(Uuid::new_v4().simple().to_string());
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            file.lock()?;
            // A sweep may have taken it between its creation and the lock.
            if file.metadata()?.nlink() > 0 {
                return Ok(Self { path, file });
            }
        }
        Err(io::Error::other("temporary files are swept away as fast as they are made"))
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        // The next sweep takes it if this fails.
        let _ = fs::remove_file(&self.path);
    }
}

/// Removes the temporary files that no process is writing, and says how many.
pub(crate) fn sweep_temps(folder: &Path) -> io::Result<u64> {
    let mut swept = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Ok(file) = File::open(&path) else { continue };
        if file.try_lock().is_ok() && fs::remove_file(&path).is_ok() {
            swept += 1;
        }
    }
    Ok(swept)
}

/// Gives `from` the further name `to`, durably. Fails with `AlreadyExists` if that name is taken.
fn link(from: &Path, to: &Path) -> io::Result<()> {
    for _ in 0..RACE_TRIES {
        match fs::hard_link(from, to) {
            // The folder isn't there yet, or was just removed because it was empty.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                to.parent().map_or(Ok(()), make_folder)?;
            }
            Err(error) => return Err(error),
            Ok(()) => return sync_parent(to),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// Writes a whole body under a new name. `None` when the body broke off; nothing is left then.
pub(crate) fn write_new(temps: &Path, target: &Path, key: &BlobKey, mut parts: mpsc::Receiver<Part>) -> Result<Option<u64>> {
    let failed = |source| Error::io(format!("write the blob {key}"), source);
    if target.exists() {
        return Err(Error::AlreadyExists(key.clone()));
    }
    let mut temp = Temp::create(temps).map_err(failed)?;
    let mut written = 0;
    loop {
        match parts.blocking_recv() {
            Some(Part::Bytes(chunk)) => {
                temp.file.write_all(&chunk).map_err(failed)?;
                written += chunk.len() as u64;
            }
            Some(Part::End) => break,
            None => return Ok(None),
        }
    }
    temp.file.sync_data().map_err(failed)?;
    match link(&temp.path, target) {
        Ok(()) => Ok(Some(written)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists(key.clone())),
        Err(error) => Err(failed(error)),
    }
}

/// The two places of one blob.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub(crate) key: BlobKey,
    pub(crate) open: PathBuf,
    pub(crate) sealed: PathBuf,
}

impl Places {
    fn failed(&self, doing: &str, source: io::Error) -> Error {
        Error::io(format!("{doing} the blob {}", self.key), source)
    }

    /// The open file, locked for this call alone. Absent when there is none.
    fn lock(&self, options: &OpenOptions) -> Result<Option<File>> {
        for _ in 0..RACE_TRIES {
            let file = match options.open(&self.open) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(self.failed("open", error)),
            };
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(Error::Busy(self.key.clone())),
                Err(TryLockError::Error(error)) => return Err(self.failed("lock", error)),
            }
            // It may have been sealed or discarded between the opening and the lock.
            if is_same(&file, &self.open) {
                return Ok(Some(file));
            }
        }
        Err(Error::Busy(self.key.clone()))
    }

    /// Appends a body. Gives the durable length, and whether the body was whole.
    pub(crate) fn append(&self, offset: u64, parts: mpsc::Receiver<Part>) -> Result<(u64, bool)> {
        if self.sealed.exists() {
            return Err(Error::AlreadyExists(self.key.clone()));
        }
        let mut options = OpenOptions::new();
        options.write(true);
        if offset == 0 {
            options.create(true).truncate(false);
            self.open.parent().map_or(Ok(()), make_folder).map_err(|e| self.failed("make the folder of", e))?;
        }
        let Some(mut file) = self.lock(&options)? else { return Err(Error::WrongOffset { durable: 0 }) };
        if self.sealed.exists() {
            return Err(Error::AlreadyExists(self.key.clone()));
        }
        let failed = |source| self.failed("append to", source);
        let length = file.metadata().map_err(failed)?.len();
        if length != offset {
            file.sync_data().map_err(failed)?;
            return Err(Error::WrongOffset { durable: length });
        }
        if offset == 0 {
            sync_parent(&self.open).map_err(failed)?;
        }
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        append_parts(&mut file, offset, parts).map_err(failed)
    }

    /// The durable length of the open file.
    pub(crate) fn open_length(&self) -> Result<Option<u64>> {
        let failed = |source| self.failed("measure", source);
        match File::open(&self.open) {
            Ok(_) if self.sealed.exists() => Ok(None),
            Ok(file) => {
                let length = file.metadata().map_err(failed)?.len();
                // Bytes of a call that is going on, or that a crash cut, count once they are synced.
                file.sync_data().map_err(failed)?;
                Ok(Some(length))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// Moves the open file to its final name. Absent when there is none of either.
    pub(crate) fn seal(&self) -> Result<Option<u64>> {
        let failed = |source| self.failed("seal", source);
        let Some(file) = self.lock(OpenOptions::new().write(true))? else {
            return match fs::metadata(&self.sealed) {
                Ok(meta) => Ok(Some(meta.len())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(failed(error)),
            };
        };
        file.sync_all().map_err(failed)?;
        match link(&self.open, &self.sealed) {
            Ok(()) => {}
            // A crash came between the two steps of an earlier call.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && is_same(&file, &self.sealed) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(Error::AlreadyExists(self.key.clone())),
            Err(error) => return Err(failed(error)),
        }
        fs::remove_file(&self.open).map_err(failed)?;
        Ok(Some(file.metadata().map_err(failed)?.len()))
    }

    /// Removes the open file.
    pub(crate) fn discard(&self) -> Result<()> {
        let Some(_locked) = self.lock(OpenOptions::new().write(true))? else { return Ok(()) };
        fs::remove_file(&self.open).map_err(|e| self.failed("discard", e))
    }
}

/// Whether `path` is a name of the open `file`.
fn is_same(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => open.dev() == named.dev() && open.ino() == named.ino(),
        _ => false,
    }
}

fn append_parts(file: &mut File, offset: u64, mut parts: mpsc::Receiver<Part>) -> io::Result<(u64, bool)> {
    let mut durable = offset;
    let mut length = offset;
    let whole = loop {
        match parts.blocking_recv() {
            Some(Part::Bytes(chunk)) => {
                if let Err(error) = file.write_all(&chunk) {
                    keep_what_is_durable(file, durable);
                    return Err(error);
                }
                length += chunk.len() as u64;
            }
            Some(Part::End) => break true,
            None => break false,
        }
        if length - durable >= SYNC_EVERY_BYTES {
            durable = sync_to(file, durable, length)?;
        }
    };
    durable = sync_to(file, durable, length)?;
    Ok((durable, whole))
}

fn sync_to(file: &File, durable: u64, length: u64) -> io::Result<u64> {
    match file.sync_data() {
        Ok(()) => Ok(length),
        Err(error) => {
            // After a failed sync the system may have dropped the bytes: they can't be counted.
            let _ = file.set_len(durable);
            Err(error)
        }
    }
}

fn keep_what_is_durable(file: &File, durable: u64) {
    if file.sync_data().is_err() {
        let _ = file.set_len(durable);
    }
}

/// A file to read from, at the beginning of a range. Absent when there is none.
pub(crate) fn open_range(path: &Path, range: Option<std::ops::Range<u64>>) -> Result<Option<(File, u64)>> {
    let failed = |source| Error::io("read a blob", source);
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::NotADirectory => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
    if !meta.is_file() {
        return Ok(None);
    }
    let range = range.unwrap_or(0..meta.len());
    if range.start > range.end || range.end > meta.len() {
        return Err(Error::OutOfRange { size_bytes: meta.len() });
    }
    if range.start > 0 {
        file.seek(SeekFrom::Start(range.start)).map_err(failed)?;
    }
    Ok(Some((file, range.end - range.start)))
}

/// The next bytes of a file, exactly `length` of them.
pub(crate) fn read_exactly(file: &mut File, length: usize) -> io::Result<Bytes> {
    let mut chunk = Vec::with_capacity(length);
    Read::by_ref(file).take(length as u64).read_to_end(&mut chunk)?;
    if chunk.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(chunk.into())
}
