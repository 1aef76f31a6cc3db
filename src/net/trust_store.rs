//! The platform's trust store: where it is, and which certificates in it can be read.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;

use crate::config::{pem, read_small};

/// A hundred times the largest known store.
const STORE_MAX: u64 = 64 << 20;

const CERT_FILE: &str = "SSL_CERT_FILE";
const CERT_DIR: &str = "SSL_CERT_DIR";

/// The certificates of a store, and its first error.
#[derive(Default)]
pub(super) struct Found {
    pub(super) certificates: Vec<CertificateDer<'static>>,
    pub(super) why: Option<String>,
    /// The files that were read, by device and inode: a folder has several names for each.
    seen: BTreeSet<(u64, u64)>,
}

/// A store that the environment names instead of the system's.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    file: Option<PathBuf>,
    folders: Vec<PathBuf>,
}

impl Named {
    /// An empty variable counts as not set. A program with raised `privileges` ignores the variables, because
    /// they are set by the user who starts it.
    pub(super) fn new(var: impl Fn(&str) -> Option<OsString>, privileges: bool) -> Option<Self> {
        let var = |name| var(name).filter(|value| !value.is_empty() && !privileges);
        let folders = var(CERT_DIR).unwrap_or_default();
        let named = Self {
            file: var(CERT_FILE).map(PathBuf::from),
            folders: std::env::split_paths(&folders)
                .filter(|folder| !folder.as_os_str().is_empty())
                .collect(),
        };
        (named.file.is_some() || !named.folders.is_empty()).then_some(named)
    }

    /// The variables that name it, for messages.
    pub(super) fn variables(&self) -> &'static str {
        match (&self.file, self.folders.is_empty()) {
            (Some(_), true) => CERT_FILE,
            (None, _) => CERT_DIR,
            (Some(_), false) => "SSL_CERT_FILE and SSL_CERT_DIR",
        }
    }

    /// Fails if a section of the file cannot be read: each certificate in it was chosen explicitly.
    pub(super) fn load(&self) -> Result<Found, String> {
        let mut found = Found::default();
        if let Some(file) = &self.file {
            match read_small(file, STORE_MAX, |_| Ok(())) {
                Err(why) => found.note(format!("{CERT_FILE}: {why}")),
                Ok(text) => {
                    for section in pem::certificates(&text) {
                        let section = section.map_err(|why| format!("{CERT_FILE}: {why}"))?;
                        found.certificates.push(section.certificate);
                    }
                    if found.certificates.is_empty() {
                        found.note(format!("{CERT_FILE}: {}", pem::why_none(&text)));
                    }
                }
            }
        }
        for folder in &self.folders {
            if let Err(why) = found.add_folder(folder) {
                found.note(format!("{CERT_DIR}: {why}"));
            }
        }
        Ok(found.without_duplicates())
    }
}

/// The system's own store, independent of the environment.
#[cfg(target_os = "linux")]
pub(super) fn system() -> Found {
    // The lists of Go's crypto/x509 and the crate openssl-probe.
    const FILES: [&str; 8] = [
        "/etc/ssl/certs/ca-certificates.crt", // Debian, Ubuntu, Gentoo, Arch
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL 7 and newer
        "/etc/pki/tls/certs/ca-bundle.crt",   // older ones
        "/etc/ssl/ca-bundle.pem",             // openSUSE
        "/etc/pki/tls/cacert.pem",            // OpenELEC
        "/etc/ssl/cert.pem",                  // Alpine
        "/opt/etc/ssl/certs/ca-certificates.crt", // Entware
        "/etc/ssl/certs/cacert.pem",          // OpenHarmony
    ];
    const FOLDERS: [&str; 3] = [
        "/etc/ssl/certs",             // most systems
        "/etc/pki/tls/certs",         // Fedora, RHEL
        "/etc/security/certificates", // OpenHarmony
    ];
    let mut found = Found::default();
    if let Some(file) = FILES.map(Path::new).into_iter().find(|file| file.exists()) {
        found.add_file(file);
    }
    for folder in FOLDERS.map(Path::new) {
        if folder.exists()
            && let Err(why) = found.add_folder(folder)
        {
            found.note(why);
        }
    }
    found.without_duplicates()
}

/// Elsewhere the store is not only files. rustls-native-certs reads it, but also obeys the variables, even if
/// they are empty or the privileges are raised; so it is not used while they are set.
#[cfg(not(target_os = "linux"))]
pub(super) fn system() -> Found {
    let mut found = Found::default();
    if [CERT_FILE, CERT_DIR].iter().any(|name| std::env::var_os(name).is_some()) {
        found.note(format!("{CERT_FILE} and {CERT_DIR} are not supported here; unset them"));
        return found;
    }
    let native = rustls_native_certs::load_native_certs();
    found.certificates = native.certs;
    if let Some(error) = native.errors.first() {
        found.note(error.to_string());
    }
    found
}

impl Found {
    fn note(&mut self, why: String) {
        self.why.get_or_insert(why);
    }

    /// Adds the certificates of a folder. It may also contain keys, revocation lists and dangling links.
    fn add_folder(&mut self, folder: &Path) -> Result<(), String> {
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        for entry in entries {
            let entry = entry.map_err(|error| error.to_string())?;
            self.add_file(&entry.path());
        }
        Ok(())
    }

    fn add_file(&mut self, file: &Path) {
        let metadata = match std::fs::metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.note(error.to_string()),
        };
        if !metadata.is_file() || !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        match read_small(file, STORE_MAX, |_| Ok(())) {
            Ok(text) => {
                for section in pem::certificates(&text) {
                    match section {
                        Ok(section) => self.certificates.push(section.certificate),
                        Err(why) => self.note(why),
                    }
                }
            }
            Err(why) => self.note(why),
        }
    }

    fn without_duplicates(mut self) -> Self {
        self.certificates.sort_unstable_by(|one, other| one.as_ref().cmp(other.as_ref()));
        self.certificates.dedup();
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(file: Option<&str>, folders: Option<&str>, privileges: bool) -> Option<Named> {
        let var = |name: &str| match name {
            CERT_FILE => file.map(OsString::from),
            CERT_DIR => folders.map(OsString::from),
            _ => None,
        };
        Named::new(var, privileges)
    }

    #[test]
    fn an_empty_variable_counts_as_not_set() {
        for empty in [None, Some("")] {
            assert_eq!(named(empty, empty, false), None);
            let file = named(Some("/a"), empty, false).unwrap();
            assert_eq!((file.file, file.folders.len()), (Some("/a".into()), 0));
            let folders = named(empty, Some(":/b::/c:"), false).unwrap();
            assert_eq!(folders.file, None);
            assert_eq!(folders.folders, [Path::new("/b"), Path::new("/c")]);
        }
        assert_eq!(named(None, Some("::"), false), None);
    }

    #[test]
    fn a_program_with_raised_privileges_ignores_the_variables() {
        assert!(named(Some("/a"), Some("/b"), false).is_some());
        assert_eq!(named(Some("/a"), Some("/b"), true), None);
    }
}
