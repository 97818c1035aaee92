//! What leaves the child: files in the output folder and lines on standard output.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use streamgate_media::encoder_protocol::Report;

/// How often a full folder is looked at again.
const ROOM_POLL: Duration = Duration::from_millis(25);

/// The one way out. Shared by all tracks.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    max_waiting: usize,
    stdout: Mutex<io::Stdout>,
}

impl Output {
    /// An output into `folder`, which may hold `max_waiting` segments before this waits.
    pub fn new(folder: PathBuf, max_waiting: u32) -> Self {
        Self { folder, max_waiting: max_waiting.max(1) as usize, stdout: Mutex::new(io::stdout()) }
    }

    /// Says one line, whole.
    ///
    /// # Errors
    /// The parent no longer listens.
    pub fn say(&self, report: &Report) -> io::Result<()> {
        let mut line = serde_json::to_vec(report)?;
        line.push(b'\n');
        let mut stdout = self.stdout.lock().unwrap_or_else(PoisonError::into_inner);
        stdout.write_all(&line)?;
        stdout.flush()
    }

    /// Writes a file under another name and renames it, so that nobody sees a half one.
    ///
    /// # Errors
    /// The disk's.
    pub fn store(&self, name: &str, bytes: &[u8]) -> io::Result<u64> {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let unfinished = path.with_extension("part");
        fs::write(&unfinished, bytes)?;
        fs::rename(&unfinished, &path)?;
        Ok(bytes.len() as u64)
    }

    /// Waits until the parent has taken enough of the segments of one rendition.
    ///
    /// # Errors
    /// The folder can't be read.
    pub fn wait_for_room(&self, rendition: &str) -> io::Result<()> {
        while self.waiting(rendition)? >= self.max_waiting {
            std::thread::sleep(ROOM_POLL);
        }
        Ok(())
    }

    fn waiting(&self, rendition: &str) -> io::Result<usize> {
        match fs::read_dir(self.folder.join(rendition)) {
            Ok(files) => {
                Ok(files.filter_map(Result::ok).filter(|file| file.path().extension().is_some_and(|e| e == "m4s")).count())
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }
}
