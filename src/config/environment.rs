//! Loading the configuration from the environment.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use zeroize::Zeroizing;

use super::Config;
use super::client_key::KEY_FILE_MAX;
use super::files::{read_secret, read_small};
use super::proxy::{NoProxy, ProxyUrl};
use super::store_url::StoreUrl;
use crate::error::{Error, ErrorKind};

const APPLICATION_ID: &str = "SPIKE_APPLICATION_ID";
const HMAC_KEY: &str = "SPIKE_HMAC_KEY";
const HMAC_KEY_FILE: &str = "SPIKE_HMAC_KEY_FILE";
const API_BASE_URL: &str = "SPIKE_API_BASE_URL";
const TIMEOUT_MS: &str = "SPIKE_TIMEOUT_MS";
const MAX_RATE: &str = "SPIKE_MAX_RATE";
const CA_FILE: &str = "SPIKE_CA_FILE";
const STORE_URL: &str = "SPIKE_STORE_URL";
const STORE_URL_FILE: &str = "SPIKE_STORE_URL_FILE";
const STORE_TIMEOUT_MS: &str = "SPIKE_STORE_TIMEOUT_MS";

/// In order of precedence. Never `HTTP_PROXY`: a CGI server sets it from a request's `Proxy` header.
const PROXIES: [&str; 4] = ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];
const NO_PROXIES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// The settings, and the variables that make them.
const VARIABLES: [(&str, &str); 10] = [
    ("application_id", APPLICATION_ID),
    ("hmac_key", HMAC_KEY),
    ("hmac_key", HMAC_KEY_FILE),
    ("base_url", API_BASE_URL),
    ("timeout_ms", TIMEOUT_MS),
    ("max_rate", MAX_RATE),
    ("ca_certificates", CA_FILE),
    ("store", STORE_URL),
    ("store", STORE_URL_FILE),
    ("store_timeout_ms", STORE_TIMEOUT_MS),
];

/// More than the longest URL: the setter has the better message.
const URL_FILE_MAX: u64 = 4096;
/// Ten times the largest known trust store.
const CA_FILE_MAX: u64 = 4 << 20;

/// Applies the variables to `config`, which is dropped on error, so that nothing is applied in part. Fails in
/// a program with raised `privileges`.
pub(super) fn load(
    mut config: Config,
    var: impl Fn(&str) -> Option<OsString>,
    privileges: bool,
) -> Result<Config, Error> {
    if privileges {
        return Err(Error::new(
            ErrorKind::InvalidEnvironment,
            "The program runs with raised privileges (setuid, setgid, file capabilities or a security \
             module), and the user who started it controls its environment. Use the setters instead.",
        ));
    }
    if let Some(id) = var(APPLICATION_ID) {
        named(APPLICATION_ID, config.set_application_id(id.as_encoded_bytes()))?;
    }
    load_secret(&mut config, &var, HMAC_KEY, (HMAC_KEY_FILE, KEY_FILE_MAX), Config::set_hmac_key)?;
    if let Some(path) = var(HMAC_KEY_FILE) {
        // The working directory may be another when it is read again.
        config.hmac_key_file = std::path::absolute(path).ok();
    }
    if let Some(url) = var(API_BASE_URL) {
        named(API_BASE_URL, config.set_base_url(url.as_encoded_bytes()))?;
    }
    if let Some(ms) = var(TIMEOUT_MS) {
        named(TIMEOUT_MS, parse_ms(&ms).and_then(|ms| config.set_timeout_ms(ms)))?;
    }
    if let Some(per_second) = var(MAX_RATE) {
        let per_second = named(MAX_RATE, parse_number(&per_second, "requests per second"))?;
        config.set_max_rate(per_second);
    }
    if let Some(path) = var(CA_FILE) {
        let read = |path: &Path| read_small(path, CA_FILE_MAX, |_| Ok(()));
        let pem = read_file(CA_FILE, &path, read)?;
        named(CA_FILE, config.set_ca_pem(&pem))?;
    }
    // Unlike the setter's, an empty one is an error.
    let set_store = |config: &mut Config, url: &[u8]| {
        config.store = Some(StoreUrl::new(url)?);
        Ok(())
    };
    load_secret(&mut config, &var, STORE_URL, (STORE_URL_FILE, URL_FILE_MAX), set_store)?;
    if let Some(ms) = var(STORE_TIMEOUT_MS) {
        named(STORE_TIMEOUT_MS, parse_ms(&ms).and_then(|ms| config.set_store_timeout_ms(ms)))?;
    }
    load_proxy(&mut config, &var);
    for (setting, variable) in VARIABLES {
        if var(variable).is_some() {
            config.sources.set(setting, variable);
        }
    }
    Ok(config)
}

type Setter = fn(&mut Config, &[u8]) -> Result<(), Error>;

/// Sets what is in a variable, or in the file that another one names.
fn load_secret(
    config: &mut Config,
    var: &dyn Fn(&str) -> Option<OsString>,
    variable: &str,
    (file, max): (&str, u64),
    set: Setter,
) -> Result<(), Error> {
    let value = var(variable).map(|value| Zeroizing::new(value.into_encoded_bytes()));
    match (value, var(file)) {
        (None, None) => Ok(()),
        (Some(value), None) => named(variable, set(config, &value)),
        (None, Some(path)) => {
            let content = read_file(file, &path, |path| read_secret(path, max))?;
            named(file, set(config, &content))
        }
        (Some(_), Some(_)) => Err(Error::new(
            ErrorKind::InvalidEnvironment,
            format!("{variable} and {file} are both set. Unset one of them."),
        )),
    }
}

/// An empty proxy variable commonly means "no proxy", and is not an error. The error of an invalid one is
/// kept for the client that would use it.
fn load_proxy(config: &mut Config, var: &impl Fn(&str) -> Option<OsString>) {
    let first_of = |names: &[&'static str]| {
        names.iter().find_map(|&name| {
            var(name).filter(|value| !value.is_empty()).map(|value| (name, value))
        })
    };
    let proxy = first_of(&PROXIES).map(|(name, value)| {
        if config.proxy.is_left_to_the_environment() {
            config.sources.set("proxy", name);
        }
        let value = Zeroizing::new(value.into_encoded_bytes());
        named(name, ProxyUrl::new(&value))
    });
    let no_proxy = first_of(&NO_PROXIES).map(|(_, list)| NoProxy::new(&list.to_string_lossy()));
    config.proxy.set_environment(proxy, no_proxy);
}

/// Adds the name of the variable to an error, unless the system is at fault.
fn named<T>(variable: &str, result: Result<T, Error>) -> Result<T, Error> {
    result.map_err(|error| match error.kind() {
        ErrorKind::Internal => error,
        _ => Error::new(
            ErrorKind::InvalidEnvironment,
            format!("The environment variable {variable} is invalid. {}", error.message()),
        ),
    })
}

fn parse_ms(text: &OsStr) -> Result<u32, Error> {
    parse_number(text, "milliseconds")
}

fn parse_number(text: &OsStr, unit: &str) -> Result<u32, Error> {
    let digits = text.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    digits.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let message = format!("It is not a whole number of {unit}, at most {}.", u32::MAX);
        Error::new(ErrorKind::InvalidArgument, message)
    })
}

/// What `read` finds in the file that `variable` names.
fn read_file<T>(
    variable: &str,
    path: &OsStr,
    read: impl FnOnce(&Path) -> Result<T, String>,
) -> Result<T, Error> {
    if path.is_empty() {
        return named(
            variable,
            Err(Error::new(ErrorKind::File, "It is empty. Name a file, or unset it.")),
        );
    }
    read(Path::new(path)).map_err(|why| {
        // Without the path: the variable may hold the key itself by mistake.
        Error::new(
            ErrorKind::File,
            format!("The file in the environment variable {variable} cannot be used: {why}."),
        )
    })
}

#[cfg(test)]
mod tests;
