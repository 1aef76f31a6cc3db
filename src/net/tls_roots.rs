//! The roots that a client trusts.

use once_cell::race::OnceBox;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;

use super::trust_store::{self, Named};
use crate::config::{CaCertificates, TlsRoots, privileges_are_raised};
use crate::error::{Error, ErrorKind, cut};

/// Roots, and where they are from, for messages.
#[derive(Clone)]
pub(super) struct Roots {
    pub(super) store: RootCertStore,
    pub(super) from: &'static str,
}

/// The chosen roots and `ca`.
pub(super) fn store(roots: TlsRoots, ca: &CaCertificates) -> Result<Roots, Error> {
    let mut found = match roots {
        TlsRoots::Platform => platform()?,
        TlsRoots::Bundled => bundled(),
        TlsRoots::None => Roots { store: RootCertStore::empty(), from: "the CA that was set" },
    };
    found.store.extend(ca.iter().cloned());
    if found.store.is_empty() {
        return Err(none());
    }
    Ok(found)
}

pub(super) fn none() -> Error {
    no_roots("neither roots nor a CA were chosen")
}

fn bundled() -> Roots {
    let store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    Roots { store, from: "the roots in the library" }
}

/// Loaded once per process, because that costs milliseconds. A failure is not kept, so a store that is
/// installed later is found.
fn platform() -> Result<Roots, Error> {
    static ROOTS: OnceBox<Roots> = OnceBox::new();
    ROOTS.get_or_try_init(|| load_platform().map(Box::new)).cloned()
}

fn load_platform() -> Result<Roots, Error> {
    match Named::new(|name| std::env::var_os(name), privileges_are_raised()) {
        Some(named) => {
            let found = named.load().map_err(|why| no_roots(cut(&why, 200)))?;
            choose(found.certificates, found.why, Some(named.variables()))
        }
        None => {
            let found = trust_store::system();
            choose(found.certificates, found.why, None)
        }
    }
}

/// `named`: the variables that name the store. The bundled roots never replace a store that was chosen.
fn choose(
    certs: Vec<CertificateDer<'static>>,
    why: Option<String>,
    named: Option<&'static str>,
) -> Result<Roots, Error> {
    let mut store = RootCertStore::empty();
    // A store may contain old certificates that webpki cannot read; they are skipped.
    store.add_parsable_certificates(certs);
    match (store.is_empty(), named) {
        (false, named) => Ok(Roots { store, from: named.unwrap_or(SYSTEM) }),
        (true, None) if why.is_none() => Ok(bundled()),
        (true, named) => {
            let which = named.unwrap_or(SYSTEM);
            let why = why.as_deref().map_or(String::new(), |why| format!(" ({})", cut(why, 150)));
            Err(no_roots(&format!("{which} contains no usable certificate{why}")))
        }
    }
}

const SYSTEM: &str = "the system's trust store";

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
        assert!(!choose(vec![], None, None).unwrap().store.is_empty());
        let (denied, variable) = (Some("denied".to_owned()), Some("SSL_CERT_DIR"));
        for (why, named) in [(None, variable), (denied.clone(), None), (denied, variable)] {
            let error = choose(vec![], why, named).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::TlsRoots);
        }
        let unreadable = vec![CertificateDer::from(vec![1, 2, 3])];
        assert!(choose(unreadable, None, variable).is_err());
    }

    #[test]
    fn no_roots_at_all_is_an_error() {
        let error = store(TlsRoots::None, &CaCertificates::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TlsRoots);
        assert!(!store(TlsRoots::Bundled, &CaCertificates::default()).unwrap().store.is_empty());
    }
}
