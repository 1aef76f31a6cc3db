//! The file with the CA certificate that clients must trust.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf, absolute},
};

use tempfile::TempDir;

pub struct CaFile {
    pub path: PathBuf,
    /// Removes the directory and the file when dropped.
    _directory: Option<TempDir>,
}

impl CaFile {
    /// Writes to the given path, or to a private directory that is removed with the value.
    pub fn write(pem: &str, path: Option<&Path>) -> io::Result<Self> {
        let (path, directory) = match path {
            Some(path) => (absolute(path)?, None),
            None => {
                let directory = private_directory()?;
                (directory.path().join("ca.pem"), Some(directory))
            }
        };
        let named =
            |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::write(&path, pem).map_err(named)?;
        Ok(Self { path, _directory: directory })
    }
}

fn private_directory() -> io::Result<TempDir> {
    tempfile::Builder::new()
        .prefix("spike-auth-sandbox-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir()
}
