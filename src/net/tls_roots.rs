//! The roots that a client trusts.

use once_cell::race::OnceBox;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::trust_store::{self, Named};
use crate::config::{CaCertificates, TlsRoots, privileges_are_raised};
use crate::error::{Error, ErrorKind, cut};

/// The chosen roots and `ca`.
pub(crate) fn store(roots: TlsRoots, ca: &CaCertificates) -> Result<RootCertStore, Error> {
    let mut store = match roots {
        TlsRoots::Platform => platform()?,
        TlsRoots::Bundled => bundled(),
        TlsRoots::None => RootCertStore::empty(),
    };
    store.extend(ca.iter().cloned());
    if store.is_empty() {
        return Err(none());
    }
    Ok(store)
}

pub(super) fn none() -> Error {
    no_roots("neither roots nor a CA were chosen")
}

fn bundled() -> RootCertStore {
    RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() }
}

/// Loaded once per process, because that costs milliseconds. A failure is not kept, so a store that is
/// installed later is found.
fn platform() -> Result<RootCertStore, Error> {
    static ROOTS: OnceBox<RootCertStore> = OnceBox::new();
    ROOTS.get_or_try_init(|| load_platform().map(Box::new)).cloned()
}

fn load_platform() -> Result<RootCertStore, Error> {
    match Named::new(|name| std::env::var_os(name), privileges_are_raised()) {
        Some(named) => {
            let found = named.load().map_err(|why| no_roots(cut(&why, 200)))?;
            choose(found.certificates, found.why, true)
        }
        None => {
            let found = trust_store::system();
            choose(found.certificates, found.why, false)
        }
    }
}

/// `named`: the environment names the store. The bundled roots never replace a store that was chosen.
fn choose(
    certs: Vec<CertificateDer<'static>>,
    why: Option<String>,
    named: bool,
) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    // A store may contain old certificates that webpki cannot read; they are skipped.
    store.add_parsable_certificates(certs);
    match (store.is_empty(), named) {
        (false, _) => Ok(store),
        (true, false) if why.is_none() => Ok(bundled()),
        (true, named) => {
            let which =
                if named { "SSL_CERT_FILE or SSL_CERT_DIR" } else { "the system's trust store" };
            let why = why.as_deref().map_or(String::new(), |why| format!(" ({})", cut(why, 150)));
            Err(no_roots(&format!("{which} contains no usable certificate{why}")))
        }
    }
}

fn no_roots(why: &str) -> Error {
    Error::new(
        ErrorKind::TlsRoots,
        format!(
            "No usable TLS roots: {why}. Install the system's CA certificates (the package is often \
             called ca-certificates), correct SSL_CERT_FILE, or choose the bundled roots."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_roots_are_used_only_without_a_store_and_if_none_was_named() {
        assert!(!choose(vec![], None, false).unwrap().is_empty());
        for (why, named) in
            [(None, true), (Some("denied".to_owned()), false), (Some("denied".to_owned()), true)]
        {
            assert_eq!(choose(vec![], why, named).unwrap_err().kind(), ErrorKind::TlsRoots);
        }
        let unreadable = vec![CertificateDer::from(vec![1, 2, 3])];
        assert!(choose(unreadable, None, true).is_err());
    }

    #[test]
    fn no_roots_at_all_is_an_error() {
        let error = store(TlsRoots::None, &CaCertificates::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TlsRoots);
        assert!(!store(TlsRoots::Bundled, &CaCertificates::default()).unwrap().is_empty());
    }
}
