//! The roots that a client trusts.

use std::borrow::Cow;

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
    pub(super) from: Cow<'static, str>,
}

/// The chosen roots and `ca`.
pub(super) fn store(roots: TlsRoots, ca: &CaCertificates) -> Result<Roots, Error> {
    let mut found = match roots {
        TlsRoots::Platform => platform()?,
        TlsRoots::Bundled => bundled(),
        TlsRoots::None => Roots { store: RootCertStore::empty(), from: SET.into() },
    };
    if !found.store.is_empty() && ca.iter().next().is_some() {
        found.from = format!("{} and {SET}", found.from).into();
    }
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
    Roots { store, from: "the roots in the library".into() }
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
        (false, named) => Ok(Roots { store, from: named.unwrap_or(SYSTEM).into() }),
        (true, None) if why.is_none() => Ok(bundled()),
        (true, named) => {
            let which = named.unwrap_or(SYSTEM);
            let why = why.as_deref().map_or(String::new(), |why| format!(" ({})", cut(why, 150)));
            Err(no_roots(&format!("{which} contains no usable certificate{why}")))
        }
    }
}

const SYSTEM: &str = "the system's trust store";
const SET: &str = "the CA that was set";

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
    fn the_report_names_every_place_of_the_roots() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(vec![]).unwrap();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = ca.self_signed(&key).unwrap().pem();
        let ca = CaCertificates::from_pem(pem.as_bytes()).unwrap();
        for (roots, ca, from) in [
            (TlsRoots::Bundled, CaCertificates::default(), "the roots in the library"),
            (TlsRoots::Bundled, ca.clone(), "the roots in the library and the CA that was set"),
            (TlsRoots::None, ca, "the CA that was set"),
        ] {
            assert_eq!(store(roots, &ca).unwrap().from, from);
        }
    }

    #[test]
    fn no_roots_at_all_is_an_error() {
        let error = store(TlsRoots::None, &CaCertificates::default()).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::TlsRoots);
        assert!(!store(TlsRoots::Bundled, &CaCertificates::default()).unwrap().store.is_empty());
    }
}
