use super::*;
use crate::signing::KEY_MAX;
use crate::user_id::UserId;
use std::path::PathBuf;

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("spike_auth-{name}-{}", std::process::id()));
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
    let var =
        |name: &str| vars.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value));
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
