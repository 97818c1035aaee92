//! The data folder, and the secret that services of one mesh share.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use streamgate_client::MeshSecret;
use streamgate_core::ServiceName;

/// The data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error(
        "the data folder {0} can't be made or written ({1}); give it to this user, or set STREAMGATE_DATA_DIR to another one"
    )]
    Unwritable(PathBuf, #[source] io::Error),
    #[error("the mesh secret in {0} can't be used ({1}); remove the file to have a new one made")]
    Secret(PathBuf, #[source] io::Error),
}

fn databases(data_dir: &Path) -> PathBuf {
    data_dir.join("db")
}

/// File of a service's own database.
pub(crate) fn database_file(data_dir: &Path, name: ServiceName) -> PathBuf {
    databases(data_dir).join(format!("{name}.db"))
}

/// Folder of the blobs, which services share.
pub(crate) fn blobs(data_dir: &Path) -> PathBuf {
    data_dir.join("blobs")
}

/// Makes the data folder and proves that it can be written.
pub(crate) fn prepare(data_dir: &Path) -> Result<(), Error> {
    let unwritable = |error| Error::Unwritable(data_dir.to_owned(), error);
    for folder in [data_dir.to_owned(), databases(data_dir), blobs(data_dir)] {
        fs::create_dir_all(&folder).map_err(unwritable)?;
        // Made and gone again: a read-only file system lets existing folders pass.
        tempfile::Builder::new().prefix(".probe").tempfile_in(&folder).map_err(unwritable)?;
    }
    Ok(())
}

/// The configured secret, or the one in the data folder, which is made if it is not there.
pub(crate) fn mesh_secret(configured: &str, data_dir: &Path) -> Result<MeshSecret, Error> {
    if let Some(secret) = MeshSecret::new(configured.as_bytes()) {
        return Ok(secret);
    }
    let path = data_dir.join("secrets").join("mesh.key");
    read_or_make(&path).map_err(|error| Error::Secret(path, error))
}

fn read_or_make(path: &Path) -> io::Result<MeshSecret> {
    if !path.exists() {
        make(path)?;
    }
    let text = fs::read_to_string(path)?;
    MeshSecret::new(text.trim().as_bytes()).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it is too short"))
}

/// Services that start together all make a secret, and one wins: a link never replaces a file.
fn make(path: &Path) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let mut file = tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o600)).tempfile_in(folder)?;
    file.write_all(MeshSecret::generate().map_err(io::Error::other)?.as_bytes())?;
    file.as_file().sync_all()?;
    match fs::hard_link(file.path(), path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::File::open(folder)?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_that_start_together_share_one_secret_that_only_they_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secrets/mesh.key");
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| read_or_make(&path).unwrap());
            }
        });
        let first = fs::read(&path).unwrap();
        make(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path().join("secrets")).unwrap().count(), 1);
    }

    #[test]
    fn a_data_folder_that_is_a_file_is_refused_with_what_to_do() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let message = prepare(file.path()).unwrap_err().to_string();
        assert!(message.contains("STREAMGATE_DATA_DIR"), "{message}");
    }
}
