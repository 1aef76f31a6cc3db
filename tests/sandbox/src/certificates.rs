//! A certificate authority made at start, and certificates that a client must refuse.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error as RcgenError, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tokio_rustls::rustls::{
    self, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};

/// The names that the proper certificate covers.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// One TLS configuration for each kind of server.
pub struct Identities {
    pub ca_pem: String,
    pub proper: Arc<ServerConfig>,
    pub tls12: Arc<ServerConfig>,
    pub expired: Arc<ServerConfig>,
    pub not_yet_valid: Arc<ServerConfig>,
    pub wrong_host: Arc<ServerConfig>,
    pub self_signed: Arc<ServerConfig>,
    pub untrusted: Arc<ServerConfig>,
}

impl Identities {
    pub fn make() -> Result<Self> {
        let (ca_pem, ca) = authority("Spike sandbox CA")?;
        let (_, other_ca) = authority("Spike sandbox CA that is not trusted")?;
        let signed = |leaf: CertificateParams| Identity::signed(&leaf, &ca);
        let proper = signed(leaf(&LOOPBACK, 2024, 2100)?)?;
        Ok(Self {
            tls12: proper.config(&[&TLS12])?,
            proper: proper.config(&[&TLS13, &TLS12])?,
            expired: signed(leaf(&LOOPBACK, 2020, 2021)?)?.config(rustls::ALL_VERSIONS)?,
            not_yet_valid: signed(leaf(&LOOPBACK, 2098, 2100)?)?.config(rustls::ALL_VERSIONS)?,
            wrong_host: signed(leaf(&["wrong.example.invalid"], 2024, 2100)?)?
                .config(rustls::ALL_VERSIONS)?,
            self_signed: Identity::self_signed(&leaf(&LOOPBACK, 2024, 2100)?)?
                .config(rustls::ALL_VERSIONS)?,
            untrusted: Identity::signed(&leaf(&LOOPBACK, 2024, 2100)?, &other_ca)?
                .config(rustls::ALL_VERSIONS)?,
            ca_pem,
        })
    }
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: KeyPair,
}

impl Identity {
    fn signed(
        leaf: &CertificateParams,
        issuer: &Issuer<'static, KeyPair>,
    ) -> std::result::Result<Self, RcgenError> {
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, issuer)?.der().clone();
        Ok(Self { certificate, key })
    }

    fn self_signed(leaf: &CertificateParams) -> std::result::Result<Self, RcgenError> {
        let key = KeyPair::generate()?;
        let certificate = leaf.self_signed(&key)?.der().clone();
        Ok(Self { certificate, key })
    }

    fn config(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<Arc<ServerConfig>> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(versions)?
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>)> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2100, 1, 1));
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok((pem, Issuer::new(params, key)))
}

/// Strict verifiers (Python 3.13 and later) require the key identifier and the usages.
fn leaf(
    names: &[&str],
    from: i32,
    until: i32,
) -> std::result::Result<CertificateParams, RcgenError> {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, "Spike sandbox");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    Ok(params)
}
