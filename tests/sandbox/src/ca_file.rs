//! The file with the CA certificate, which clients are told to trust.

use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf, absolute},
};

use tempfile::TempDir;

pub struct CaFile {
    pub path: PathBuf,
    /// Removes the directory and the file in it when it is dropped.
    _directory: Option<TempDir>,
}

impl CaFile {
    /// Writes to the given path, or to a private directory that goes away with the value.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_private_directory_is_private_and_goes_away() {
        let file = CaFile::write("pem", None).unwrap();
        let path = file.path.clone();
        let mode = fs::metadata(path.parent().unwrap()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        assert_eq!(fs::read_to_string(&path).unwrap(), "pem");
        drop(file);
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_given_path_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("mine.pem");
        drop(CaFile::write("pem", Some(&path)).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "pem");
        assert!(CaFile::write("pem", Some(&directory.path().join("no/such.pem"))).is_err());
    }
}
