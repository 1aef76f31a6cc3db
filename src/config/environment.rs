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

/// Adds the name of the variable to an error.
fn named<T>(variable: &str, result: Result<T, Error>) -> Result<T, Error> {
    result.map_err(|error| {
        Error::new(
            ErrorKind::InvalidEnvironment,
            format!("The environment variable {variable} is invalid. {}", error.message()),
        )
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
mod tests {
    use super::*;
    use crate::signing::KEY_MAX;
    use crate::user_id::UserId;
    use std::path::PathBuf;

    struct TempDir(PathBuf);

    impl TempDir {
        fn new(name: &str) -> Self {
            let dir =
                std::env::temp_dir().join(format!("spike_auth-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, name: &str, content: &[u8], mode: u32) -> String {
            use std::os::unix::fs::PermissionsExt;
            let path = self.0.join(name);
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.to_str().unwrap().to_owned()
        }
    }

    impl Drop for TempDir {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn load_from(vars: &[(&str, &str)]) -> Result<Config, Error> {
        load_as(vars, false)
    }

    fn load_as(vars: &[(&str, &str)], privileges: bool) -> Result<Config, Error> {
        let var = |name: &str| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
        };
        load(Config::new().unwrap(), var, privileges)
    }

    fn signs_like(config: &Config, key: &[u8]) -> bool {
        let user = UserId::new(b"alice").unwrap();
        let expected = crate::signing::HmacKey::new(key).unwrap().signature(user);
        config.key.as_ref().unwrap().hmac.verify(user, &expected)
    }

    #[test]
    fn all_variables_and_none() {
        let config = load_from(&[
            (APPLICATION_ID, "9999"),
            (HMAC_KEY, "key\n"),
            (API_BASE_URL, "http://localhost:1/v3/"),
            (TIMEOUT_MS, "250"),
            (STORE_URL, "valkey://localhost:7000/2"),
            (STORE_TIMEOUT_MS, "40"),
            (MAX_RATE, "500"),
        ])
        .unwrap();
        assert_eq!(config.store.as_ref().map(|store| store.database), Some(2));
        assert_eq!(config.store_timeout.as_millis(), 40);
        assert_eq!(config.application_id.as_ref().unwrap().json(), "9999");
        assert!(signs_like(&config, b"key\n"), "a key in the environment is not trimmed");
        assert_eq!(config.base_url.join(""), "http://localhost:1/v3");
        assert_eq!(config.timeout.as_millis(), 250);
        assert_eq!(config.max_rate, 500);

        let untouched = load_from(&[]).unwrap();
        assert!(untouched.application_id.is_none() && untouched.key.is_none());
    }

    #[test]
    fn nothing_is_read_in_a_program_with_raised_privileges() {
        for vars in [&[][..], &[(APPLICATION_ID, "9999"), (HMAC_KEY, "s3cret")]] {
            let error = load_as(vars, true).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
            assert!(error.message().contains("raised privileges"), "{error}");
        }
    }

    #[test]
    fn a_bad_value_is_an_error_that_names_the_variable() {
        for (variable, value) in [
            (APPLICATION_ID, ""),
            (APPLICATION_ID, "a b"),
            (HMAC_KEY, ""),
            (API_BASE_URL, ""),
            (API_BASE_URL, "http://example.com"),
            (TIMEOUT_MS, ""),
            (TIMEOUT_MS, "1s"),
            (TIMEOUT_MS, "-1"),
            (TIMEOUT_MS, "600001"),
            (TIMEOUT_MS, "99999999999"),
            (TIMEOUT_MS, " 5"),
            (STORE_URL, ""),
            (STORE_URL, "http://localhost"),
            (STORE_TIMEOUT_MS, "10001"),
            (STORE_TIMEOUT_MS, "fast"),
            (MAX_RATE, ""),
            (MAX_RATE, "1.5"),
            (MAX_RATE, "4294967296"),
        ] {
            let error = load_from(&[(variable, value)]).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidEnvironment, "{variable}={value}");
            assert!(error.message().contains(variable), "{}", error.message());
        }
    }

    #[test]
    fn the_error_of_an_unusable_proxy_names_its_variable_later() {
        let refusal = |vars: &[(&str, &str)]| {
            let config: Config = load_from(vars).unwrap();
            config.proxy.for_url(&config.base_url).err()
        };
        for variable in PROXIES {
            let value = "socks5h://user:hunter2@127.0.0.1:1080";
            let error = refusal(&[(variable, value)]).unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
            assert!(error.message().contains(variable), "{error}");
            assert!(!error.message().contains("hunter2"), "{error}");
            assert!(refusal(&[(variable, value), ("no_proxy", "*")]).is_none());
            assert!(refusal(&[(variable, value), (API_BASE_URL, "http://[::1]:1")]).is_none());
        }
        // The first non-empty one counts, valid or not.
        let first_is = |first: &str, second: &str| {
            refusal(&[("https_proxy", first), ("all_proxy", second)])
                .map(|error| error.message().contains("https_proxy"))
        };
        assert_eq!(first_is("http://proxy", "socks5://proxy"), None);
        assert_eq!(first_is("socks5://proxy", "http://proxy"), Some(true));
        assert_eq!(first_is("", "socks5://proxy"), Some(false));
    }

    #[test]
    fn one_newline_of_the_key_file_is_dropped() {
        let dir = TempDir::new("key-file");
        for (content, key) in [
            (&b"key"[..], &b"key"[..]),
            (b"key\n", b"key"),
            (b"key\r\n", b"key"),
            (b"key\n\n", b"key\n"),
        ] {
            let path = dir.file("key", content, 0o600);
            assert!(signs_like(&load_from(&[(HMAC_KEY_FILE, &path)]).unwrap(), key));
        }
        let longest = dir.file("longest", &[&[b'k'; KEY_MAX][..], b"\r\n"].concat(), 0o400);
        assert!(load_from(&[(HMAC_KEY_FILE, &longest)]).is_ok());
    }

    #[test]
    fn key_files_that_are_refused() {
        let dir = TempDir::new("bad-key-file");
        let fifo = dir.0.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let cases = [
            (dir.file("group", b"key", 0o620), ErrorKind::File, "chmod go-w"),
            (dir.file("others", b"key", 0o602), ErrorKind::File, "chmod go-w"),
            (dir.file("huge", &[b'k'; KEY_MAX + 3], 0o600), ErrorKind::File, "more than"),
            (dir.0.to_str().unwrap().to_owned(), ErrorKind::File, "regular file"),
            (fifo.to_str().unwrap().to_owned(), ErrorKind::File, "regular file"),
            (dir.0.join("missing").to_str().unwrap().to_owned(), ErrorKind::File, "No such file"),
            (String::new(), ErrorKind::InvalidEnvironment, "is empty"),
            (dir.file("empty", b"\n", 0o600), ErrorKind::InvalidEnvironment, "0 bytes"),
        ];
        for (path, kind, reason) in cases {
            let error = load_from(&[(HMAC_KEY_FILE, &path)]).err().unwrap();
            assert_eq!(error.kind(), kind, "{path}: {}", error.message());
            assert!(error.message().contains(reason), "{}", error.message());
            assert!(error.message().contains(HMAC_KEY_FILE));
        }
    }

    #[test]
    fn two_sources_of_a_secret_are_an_error() {
        for (variable, file) in [(HMAC_KEY, HMAC_KEY_FILE), (STORE_URL, STORE_URL_FILE)] {
            let error = load_from(&[(variable, "hunter2"), (file, "/nowhere")]).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
            assert!(error.message().contains(file) && !error.message().contains("hunter2"));
        }
    }

    #[test]
    fn the_file_of_the_stores_url_obeys_the_rules_of_the_keys() {
        let dir = TempDir::new("store-file");
        let good = dir.file("url", b"redis://:hunter2@localhost/5\r\n", 0o600);
        let config = load_from(&[(STORE_URL_FILE, &good)]).unwrap();
        assert_eq!(config.store.map(|store| store.database), Some(5));
        for (path, kind) in [
            (dir.file("group", b"redis://localhost", 0o620), ErrorKind::File),
            (dir.file("bad", b"hunter2\n", 0o600), ErrorKind::InvalidEnvironment),
            (dir.file("empty", b"\n", 0o600), ErrorKind::InvalidEnvironment),
        ] {
            let error = load_from(&[(STORE_URL_FILE, &path)]).err().unwrap();
            assert_eq!(error.kind(), kind, "{error}");
            assert!(error.message().contains(STORE_URL_FILE), "{error}");
            assert!(!error.message().contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_ca_file_is_read_and_checked() {
        let dir = TempDir::new("ca-file");
        let bad = dir.file("ca.pem", b"nothing", 0o644);
        let error = load_from(&[(CA_FILE, &bad)]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidEnvironment);
        let error = load_from(&[(CA_FILE, "/nowhere/ca.pem")]).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::File);
    }
}
