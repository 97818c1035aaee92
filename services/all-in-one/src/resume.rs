//! Where an upload stopped, kept beside the file that is sent.

use std::{
    fs::{self, Metadata},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use serde::{Deserialize, Serialize};

/// The upload that a file belongs to. The server knows the offset; this only says which upload to ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Resume {
    pub server: String,
    pub upload_id: String,
    pub content_id: String,
    pub size_bytes: u64,
    /// Change time of the file in nanoseconds, so that a changed file begins anew.
    pub modified: u128,
}

impl Resume {
    /// Path of the state of `file`.
    pub(crate) fn path(file: &Path) -> PathBuf {
        let mut name = file.as_os_str().to_owned();
        name.push(".upload.json");
        name.into()
    }

    /// The upload that was begun for this very file at this server, if any.
    pub(crate) fn find(file: &Path, about: &Metadata, server: &str) -> Option<Self> {
        let kept: Self = serde_json::from_slice(&fs::read(Self::path(file)).ok()?).ok()?;
        (kept.server == server && kept.size_bytes == about.len() && kept.modified == modified(about)).then_some(kept)
    }

    /// Keeps the state. A folder that can't be written only costs the ability to resume.
    pub(crate) fn keep(&self, file: &Path) {
        if let Ok(text) = serde_json::to_vec(self) {
            let _ = fs::write(Self::path(file), text);
        }
    }

    /// Forgets the state once the upload is complete.
    pub(crate) fn forget(file: &Path) {
        let _ = fs::remove_file(Self::path(file));
    }
}

/// Change time in nanoseconds since 1970; 0 where the system keeps none.
pub(crate) fn modified(about: &Metadata) -> u128 {
    about.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).map_or(0, |since| since.as_nanos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_not_resumed() -> std::io::Result<()> {
        let folder = std::env::temp_dir().join(format!("streamgate-resume-{}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let file = folder.join("clip.mp4");
        fs::write(&file, b"first")?;
        let about = fs::metadata(&file)?;
        let state = Resume {
            server: "http://a".into(),
            upload_id: "upl_1".into(),
            content_id: "cnt_1".into(),
            size_bytes: about.len(),
            modified: modified(&about),
        };
        state.keep(&file);
        assert_eq!(Resume::find(&file, &about, "http://a"), Some(state));
        assert_eq!(Resume::find(&file, &about, "http://b"), None);
        fs::write(&file, b"second")?;
        assert_eq!(Resume::find(&file, &fs::metadata(&file)?, "http://a"), None);
        fs::remove_dir_all(folder)
    }
}
