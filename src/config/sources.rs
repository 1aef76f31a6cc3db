//! Where each setting came from, and what may be shown of it.

use super::{BaseUrl, Config, StoreAddress, TlsRoots};

/// Follows the address of a proxy or store.
pub(crate) const WITH_LOGIN: &str = ", with a login";

/// A setting as a report shows it.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    /// Without any secret.
    pub(crate) value: String,
    /// The variable of the environment, "program" or "default".
    pub(crate) from: &'static str,
}

/// The settings that were made, by name, and where.
#[derive(Clone, Default)]
pub(crate) struct Sources(Vec<(&'static str, &'static str)>);

impl Sources {
    pub(super) fn set(&mut self, setting: &'static str, from: &'static str) {
        self.0.retain(|(name, _)| *name != setting);
        self.0.push((setting, from));
    }

    /// A setter of the program was called.
    pub(super) fn program(&mut self, setting: &'static str) {
        self.set(setting, "program");
    }

    pub(crate) fn of(&self, setting: &str) -> &'static str {
        let found = self.0.iter().find(|(name, _)| *name == setting);
        found.map_or("default", |(_, from)| from)
    }
}

impl Config {
    /// All settings, in the order of the documentation.
    pub(crate) fn settings(&self) -> Vec<Setting> {
        let ms = |time: std::time::Duration| time.as_millis().to_string();
        let connect_timeout = self.checked_connect_timeout().map(ms).unwrap_or_default();
        [
            ("application_id", self.shown_application_id()),
            ("hmac_key", self.shown_key()),
            ("base_url", self.base_url.join("")),
            ("timeout_ms", ms(self.timeout)),
            ("connect_timeout_ms", connect_timeout),
            ("max_attempts", self.max_attempts.to_string()),
            ("max_concurrency", self.max_concurrency.to_string()),
            ("max_rate", self.max_rate.to_string()),
            ("proxy", self.shown_proxy()),
            ("ca_certificates", self.ca_certificates.iter().count().to_string()),
            ("tls_roots", shown_roots(self.tls_roots).to_owned()),
            ("user_agent", self.user_agent.clone()),
            ("cache_capacity", self.cache.entries.to_string()),
            ("cache_max_bytes", self.cache.bytes.to_string()),
            ("cache_ttl_ms", self.cache.ttl.map_or("0".to_owned(), ms)),
            ("store", self.shown_store()),
            ("store_timeout_ms", ms(self.store_timeout)),
        ]
        .map(|(name, value)| Setting { name, value, from: self.sources.of(name) })
        .into()
    }

    /// Only a number: anything else might be the key, set here by mistake.
    fn shown_application_id(&self) -> String {
        let text = self.application_id.as_ref().map_or("", |id| id.text());
        match text.bytes().all(|byte| byte.is_ascii_digit()) && text.len() <= 20 {
            true => text.to_owned(),
            false => format!("not a number, {} characters", text.len()),
        }
    }

    fn shown_key(&self) -> String {
        let length = self.key.as_ref().map(|key| key.shape.length);
        length.map_or("none".to_owned(), |length| format!("{length} bytes"))
    }

    fn shown_proxy(&self) -> String {
        match self.proxy.for_url(&self.base_url) {
            Ok(None) => "none".to_owned(),
            Ok(Some(proxy)) => {
                let login = if proxy.authorization.is_some() { WITH_LOGIN } else { "" };
                format!("{}{login}", proxy.host.with_port(proxy.port))
            }
            Err(_) => "unusable".to_owned(),
        }
    }

    fn shown_store(&self) -> String {
        let Some(url) = &self.store else {
            return "none".to_owned();
        };
        let login = if url.login.is_some() { WITH_LOGIN } else { "" };
        match &url.address {
            StoreAddress::Unix(_) => format!("a Unix socket, database {}{login}", url.database),
            StoreAddress::Tcp { host, port, tls } => {
                let scheme = if *tls { "rediss" } else { "redis" };
                let place = host.with_port(*port);
                format!("{scheme}://{place}/{}{login}", url.database)
            }
        }
    }

    /// Why a proxy is used or none, as a sentence.
    pub(crate) fn why_this_proxy(&self) -> String {
        if !self.base_url.https {
            return "Plain http goes to this machine, never through a proxy.".into();
        }
        self.proxy.why(&self.base_url, self.sources.of("proxy"))
    }

    /// Where the key came from: what follows "from" in a sentence.
    pub(crate) fn place_of_the_key(&self) -> &'static str {
        match self.sources.of("hmac_key") {
            "program" => "the program",
            "SPIKE_HMAC_KEY_FILE" => "the file that SPIKE_HMAC_KEY_FILE names",
            variable => variable,
        }
    }
}

fn shown_roots(roots: TlsRoots) -> &'static str {
    match roots {
        TlsRoots::Platform => "platform",
        TlsRoots::Bundled => "bundled",
        TlsRoots::None => "none",
    }
}

impl BaseUrl {
    /// `host:port`, for messages.
    pub(crate) fn place(&self) -> String {
        self.host.with_port(self.port_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::environment;

    fn load(config: Config, variables: &[(&str, &str)]) -> Config {
        let value = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into())
        };
        environment::load(config, value, false).unwrap()
    }

    #[test]
    fn each_variable_is_told_and_the_last_source_counts() {
        for (setting, variable, value) in [
            ("application_id", "SPIKE_APPLICATION_ID", "9999"),
            ("hmac_key", "SPIKE_HMAC_KEY", "key"),
            ("base_url", "SPIKE_API_BASE_URL", "http://localhost:1/v3"),
            ("timeout_ms", "SPIKE_TIMEOUT_MS", "10000"),
            ("max_rate", "SPIKE_MAX_RATE", "0"),
            ("store", "SPIKE_STORE_URL", "redis://localhost"),
            ("store_timeout_ms", "SPIKE_STORE_TIMEOUT_MS", "250"),
            ("proxy", "https_proxy", "http://proxy"),
            ("proxy", "ALL_PROXY", "http://proxy"),
        ] {
            let config = load(Config::new().unwrap(), &[(variable, value)]);
            for shown in config.settings() {
                let from = if shown.name == setting { variable } else { "default" };
                assert_eq!(shown.from, from, "{} by {variable}", shown.name);
            }
        }
        let mut config = Config::new().unwrap();
        config.set_timeout_ms(5).unwrap();
        config.set_proxy(b"http://own").unwrap();
        let mut config =
            load(config, &[("SPIKE_TIMEOUT_MS", "6"), ("https_proxy", "http://proxy")]);
        assert_eq!(config.sources.of("timeout_ms"), "SPIKE_TIMEOUT_MS");
        assert_eq!(
            config.sources.of("proxy"),
            "program",
            "the program's goes before the environment's"
        );
        config.set_timeout_ms(7).unwrap();
        assert_eq!(config.sources.of("timeout_ms"), "program");
        assert!(config.set_max_attempts(u32::MAX).is_err());
        assert_eq!(config.sources.of("max_attempts"), "default", "a failed setter changes nothing");
    }

    #[test]
    fn why_the_environments_proxy_is_used_or_not() {
        let all =
            [("HTTPS_PROXY", "http://user:hunter2@proxy:8080"), ("no_proxy", "localhost,.test")];
        for (url, why, shown) in [
            ("https://example.com", "HTTPS_PROXY names it.", "proxy:8080, with a login"),
            ("https://api.test", "no_proxy or NO_PROXY excepts the host from HTTPS_PROXY.", "none"),
        ] {
            let config =
                load(Config::new().unwrap(), &[all[0], all[1], ("SPIKE_API_BASE_URL", url)]);
            assert_eq!(
                (config.why_this_proxy().as_str(), config.shown_proxy().as_str()),
                (why, shown)
            );
        }
    }
}
