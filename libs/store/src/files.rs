//! Durable work on files, for blocking threads: every function returns when what it did survives a
//! crash of the machine.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek as _, SeekFrom, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
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

/// A file that takes a body in, some bytes at a time.
pub(crate) trait Taking: Sized + Send + 'static {
    /// Takes the next bytes.
    fn take(&mut self, blocks: &[Bytes]) -> Result<()>;

    /// Takes no more. Gives the durable length.
    fn finish(self) -> Result<u64>;
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

/// A whole body on its way to a new name. Nothing is left of one that is not finished.
pub(crate) struct NewFile {
    temp: Temp,
    target: PathBuf,
    key: BlobKey,
    length: u64,
}

impl NewFile {
    pub(crate) fn begin(temps: &Path, places: Places) -> Result<Self> {
        let Places { key, sealed: target, .. } = places;
        if target.exists() {
            return Err(Error::AlreadyExists(key));
        }
        let temp = Temp::create(temps).map_err(|e| Error::io(format!("write the blob {key}"), e))?;
        Ok(Self { temp, target, key, length: 0 })
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::io(format!("write the blob {}", self.key), source)
    }
}

impl Taking for NewFile {
    fn take(&mut self, blocks: &[Bytes]) -> Result<()> {
        for block in blocks {
            self.temp.file.write_all(block).map_err(|e| self.failed(e))?;
            self.length += block.len() as u64;
        }
        Ok(())
    }

    fn finish(self) -> Result<u64> {
        self.temp.file.sync_data().map_err(|e| self.failed(e))?;
        match link(&self.temp.path, &self.target) {
            Ok(()) => Ok(self.length),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(Error::AlreadyExists(self.key.clone())),
            Err(error) => Err(self.failed(error)),
        }
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

    /// The open file, to append to it at its end.
    pub(crate) fn grow(&self, offset: u64) -> Result<GrowingFile> {
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
        Ok(GrowingFile { places: self.clone(), file, length: offset, durable: offset })
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

/// An open file that is appended to, locked as long as this lives. What it took stays, also when it is not finished.
pub(crate) struct GrowingFile {
    places: Places,
    file: File,
    length: u64,
    durable: u64,
}

impl GrowingFile {
    fn sync(&mut self) -> io::Result<()> {
        if self.durable == self.length {
            return Ok(());
        }
        let synced = self.file.sync_data();
        if synced.is_err() {
            // After a failed sync the system may have dropped the bytes: they can't be counted.
            let _ = self.file.set_len(self.durable);
            self.length = self.durable;
        }
        self.durable = self.length;
        synced
    }
}

impl Taking for GrowingFile {
    fn take(&mut self, blocks: &[Bytes]) -> Result<()> {
        for block in blocks {
            if let Err(error) = self.file.write_all(block) {
                // It may have left a part, which the next length counts.
                self.length = self.file.stream_position().unwrap_or(self.length);
                return Err(self.places.failed("append to", error));
            }
            self.length += block.len() as u64;
        }
        if self.length - self.durable >= SYNC_EVERY_BYTES {
            self.sync().map_err(|e| self.places.failed("append to", e))?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<u64> {
        self.sync().map_err(|e| self.places.failed("append to", e))?;
        Ok(self.durable)
    }
}

impl Drop for GrowingFile {
    fn drop(&mut self) {
        let _ = self.sync();
    }
}

/// Whether there is nothing of this name, or something above it is a file.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Size of a file. A folder is none, nor is a link: a blob never is, and it may lead anywhere.
pub(crate) fn size_of(path: &Path) -> Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(meta.is_file().then_some(meta.len())),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(Error::io("read a blob", error)),
    }
}

/// A file to read from, at the beginning of a range. Absent when there is none.
pub(crate) fn open_range(path: &Path, range: Option<std::ops::Range<u64>>) -> Result<Option<(File, u64)>> {
    let failed = |source| Error::io("read a blob", source);
    if size_of(path)?.is_none() {
        return Ok(None);
    }
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let meta = file.metadata().map_err(failed)?;
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
