//! What the targets for URLs have in common.

use std::net::IpAddr;

use spike_auth::fuzzing::Seen;
use url::Url;

/// The URL Standard's parser finds the same server, if it takes the URL. It refuses some names that begin
/// with xn--.
pub fn check_other_reading(Seen { url, host, port }: &Seen) {
    match Url::parse(url) {
        Ok(other) => {
            assert_eq!(address(other.host_str().unwrap_or_default()), address(host), "{url}");
            // It knows no port of a store.
            assert_eq!(other.port_or_known_default().unwrap_or(6379), *port, "{url}");
        }
        Err(error) => assert!(host.contains("xn--"), "{url}: {error}"),
    }
}

/// An address has many spellings.
fn address(host: &str) -> Result<IpAddr, String> {
    host.trim_matches(['[', ']']).parse().map_err(|_| host.to_ascii_lowercase())
}
