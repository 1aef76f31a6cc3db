//! What each check says.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::report::{Check, Status, array, text};
use super::{Known, UNREACHED};
use crate::config::KeyShape;
use crate::error::{Error, ErrorKind};
use crate::exchange::Trial;
use crate::http::{Route, Step};
use crate::net::TlsFacts;

/// How many addresses are listed.
const ADDRESSES_MAX: usize = 16;
/// A certificate that ends sooner is worth a warning, in days.
const DAYS_FEW: u64 = 14;
/// A clock that is off by more is a failure, in seconds: certificates are checked by it.
const CLOCK_OFF: u64 = 300;
const CLOCK_INEXACT: u64 = 30;

#[inline(never)]
pub(super) fn settings(known: &Known) -> Check {
    let list = array(known.settings.iter().map(|setting| {
        let (name, from) = (setting.name, setting.from);
        format!(r#"{{"name":"{name}","value":{},"from":"{from}"}}"#, text(&setting.value))
    }));
    let made = known.settings.iter().filter(|setting| setting.from != "default").count();
    Check::ok("settings", format!("{made} of {} are not the default.", known.settings.len()))
        .with("settings", list)
}

/// `place`: where the key came from. `None`: there is no key.
#[inline(never)]
pub(super) fn key(shape: Option<KeyShape>, place: &str, is_needed: bool) -> Check {
    let Some(shape) = shape else {
        return match is_needed {
            true => Check::failed(
                "key",
                "The client has no HMAC key.",
                "Set SPIKE_HMAC_KEY or SPIKE_HMAC_KEY_FILE to the key that the Spike console shows.".into(),
            ),
            false => Check::skipped("key", "The client has no HMAC key."),
        };
    };
    let length = shape.length;
    let (what, cure) = match flaw(&shape) {
        Some((what, cure)) => (format!("The key has {length} bytes; {what}."), cure),
        None => {
            (format!("The key has {length} bytes of text. It comes from {place}."), String::new())
        }
    };
    let check = match cure.as_str() {
        "" => Check::ok("key", what),
        cure => Check::warning("key", what, format!("{cure} (from {place}).")),
    };
    check.with("length", length.to_string())
}

/// The usual ways in which a copy of a key is wrong, and what to do.
fn flaw(shape: &KeyShape) -> Option<(&'static str, String)> {
    let remove = |what: &str| format!("Remove {what} of the key");
    if shape.is_binary {
        let cure =
            "Set the key as the Spike console shows it, without decoding it from hex or base64";
        return Some((
            "they are not text, as if it had been decoded from hex or base64",
            cure.into(),
        ));
    }
    if shape.ends_with_newline {
        return Some(("a newline is at its end", remove("the newline at the end")));
    }
    if shape.ends_blank {
        return Some(("a blank is at its end", remove("the blank at the end")));
    }
    if shape.starts_blank {
        return Some(("a blank is at its start", remove("the blank at the start")));
    }
    shape.is_quoted.then(|| ("it stands in quotation marks", remove("the quotation marks")))
}

#[inline(never)]
pub(super) fn proxy(known: &Known) -> Check {
    let named = known.settings.iter().find(|setting| setting.name == "proxy");
    let value = named.map_or("none", |setting| &setting.value);
    let message = match value {
        "none" => format!("No proxy. {}", known.why_this_proxy),
        value => format!("Through the proxy {value}. {}", known.why_this_proxy),
    };
    Check::ok("proxy", message).with("proxy", text(value))
}

#[inline(never)]
pub(super) fn resolve(route: &Route, known: &Known) -> Check {
    step("resolve", &route.resolve, known, |addresses| {
        let shown = addresses.iter().take(ADDRESSES_MAX).map(|address| address.ip().to_string());
        let shown: Vec<String> = shown.collect();
        let more = addresses.len() - shown.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let message = format!("{} is {}{more}.", route.first, shown.join(", "));
        let list = array(shown.iter().map(|address| text(address)));
        Check::ok("resolve", message).with("host", text(&route.first)).with("addresses", list)
    })
}

#[inline(never)]
pub(super) fn connect(route: &Route, known: &Known, is_proxied: bool) -> Check {
    step("connect", &route.connect, known, |peer| {
        let peer = peer.as_ref().map_or("the host".to_owned(), SocketAddr::to_string);
        let message = match is_proxied {
            true => format!("The proxy at {peer} made a tunnel to {}.", known.place),
            false => format!("Connected to {peer}."),
        };
        Check::ok("connect", message).with("peer", text(&peer))
    })
}

#[inline(never)]
pub(super) fn tls(route: &Route, known: &Known, now: SystemTime) -> Check {
    step("tls", &route.tls, known, |facts| match facts {
        None => Check::skipped("tls", "The base URL is plain http."),
        Some(facts) => of_handshake(facts, now),
    })
}

fn of_handshake(facts: &TlsFacts, now: SystemTime) -> Check {
    let days = facts.certificate.days_left(now);
    let left = days.map_or("an unknown time".to_owned(), |days| format!("{days} days"));
    let message = format!(
        "{}, certificate from \"{}\", valid for {left}, trusted by {} ({} roots).",
        facts.version, facts.certificate.issuer, facts.roots_from, facts.roots
    );
    let check = match days {
        Some(days) if days < DAYS_FEW => {
            Check::warning("tls", message, "Renew the server's certificate soon.".into())
        }
        _ => Check::ok("tls", message),
    };
    check
        .with("version", text(facts.version))
        .with("issuer", text(&facts.certificate.issuer))
        .with("days_left", days.map_or("null".to_owned(), |days| days.to_string()))
        .with("roots", facts.roots.to_string())
        .with("roots_from", text(facts.roots_from))
}

#[inline(never)]
pub(super) fn exchange(trial: &Trial, known: &Known, took: Duration) -> Check {
    let check = match &trial.result {
        Ok(_) => Check::ok("exchange", "The service gave a token for the user.")
            .with("http_status", "200".to_owned()),
        Err(error) => of_error("exchange", error, known),
    };
    check.took(took)
}

#[inline(never)]
pub(super) fn clock(ahead: Option<i64>) -> Check {
    let Some(ahead) = ahead else {
        return Check::skipped("clock", "The service's reply had no date.");
    };
    let off = ahead.unsigned_abs();
    let side = if ahead < 0 { "behind" } else { "ahead of" };
    let message = format!("This machine's clock is {off} s {side} the service's.");
    let cure = || "Correct this machine's clock, for example with NTP.".to_owned();
    let check = if off <= CLOCK_INEXACT {
        Check::ok("clock", message)
    } else if off <= CLOCK_OFF {
        Check::warning("clock", message, cure())
    } else {
        Check::failed("clock", message, cure())
    };
    check.with("ahead_s", ahead.to_string())
}

#[inline(never)]
pub(super) fn store(result: &Result<(), Error>, known: &Known, took: Duration) -> Check {
    let check = match result {
        Ok(()) => Check::ok("store", "It carried out every command that is needed."),
        Err(error) => of_error("store", error, known),
    };
    check.took(took)
}

fn step<T>(
    name: &'static str,
    step: &Step<T>,
    known: &Known,
    done: impl FnOnce(&T) -> Check,
) -> Check {
    match step {
        Step::NotTried => Check::skipped(name, UNREACHED),
        Step::Done(value, took) => done(value).took(*took),
        Step::Failed(error, took) => of_error(name, error, known).took(*took),
    }
}

/// A failure, and where the setting comes from that may be wrong.
fn of_error(name: &'static str, error: &Error, known: &Known) -> Check {
    let place = suspect(error.kind()).and_then(|(setting, title)| match known.source_of(setting) {
        "default" => None,
        "program" => Some(format!(" {title} comes from the program.")),
        variable => Some(format!(" {title} comes from {variable}.")),
    });
    Check::of_error(name, error, &place.unwrap_or_default())
}

/// The setting that a failure of this kind speaks of.
fn suspect(kind: ErrorKind) -> Option<(&'static str, &'static str)> {
    match kind {
        ErrorKind::Unauthorized => Some(("application_id", "The application id")),
        ErrorKind::Resolve
        | ErrorKind::Connect
        | ErrorKind::Refused
        | ErrorKind::UnexpectedStatus
        | ErrorKind::InvalidResponse => Some(("base_url", "The base URL")),
        ErrorKind::Proxy => Some(("proxy", "The proxy")),
        ErrorKind::Store => Some(("store", "The store's URL")),
        _ => None,
    }
}

/// What to do first: the cure of the first check that failed. If the service refused the signature, a key that looks
/// wrong comes before it.
pub(super) fn first_cure(checks: &[Check], was_refused: bool) -> Option<&str> {
    let failed = checks.iter().find(|check| check.has_failed())?;
    let key = checks.iter().find(|check| check.is("key", Status::Warning));
    match key {
        Some(key) if was_refused && failed.is("exchange", Status::Failed) => key.cure(),
        _ => failed.cure(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::report;
    use super::*;
    use crate::config::Config;

    fn known(set: impl FnOnce(&mut Config)) -> Known {
        let mut config = Config::new().unwrap();
        config.set_application_id(b"9999").unwrap();
        set(&mut config);
        Known::new(&config)
    }

    fn json(check: Check) -> serde_json::Value {
        let report = report::json(&[check], None);
        serde_json::from_str::<serde_json::Value>(&report).unwrap()["checks"][0].take()
    }

    fn of_key(bytes: &[u8]) -> serde_json::Value {
        let mut config = Config::new().unwrap();
        config.set_hmac_key(bytes).unwrap();
        json(key(Some(config.key.unwrap().shape), "SPIKE_HMAC_KEY", true))
    }

    #[test]
    fn the_longest_settings() {
        let name = format!("{0}.{0}.{0}.{1}", "a".repeat(63), "a".repeat(61));
        let known = known(|config| {
            let long = |start: &str, end: &str| format!("{start}{name}:65535{end}").into_bytes();
            config.set_application_id(&[b'x'; 64]).unwrap();
            config.set_hmac_key(&[b'k'; 4096]).unwrap();
            let path = "/\u{62}".repeat(700);
            config.set_base_url(&long("https://", &path)).unwrap();
            config.set_proxy(&long("http://user:hunter2@", "")).unwrap();
            config.set_store(&long("rediss://user:hunter2@", "/15")).unwrap();
            config.set_user_agent(&[b'"'; 256]).unwrap();
            config.set_cache_max_bytes(u64::MAX);
            config.set_cache_ttl_ms(u64::MAX);
            config.set_cache_capacity(u32::MAX);
            config.set_max_rate(u32::MAX);
        });
        let check = json(settings(&known));
        let text = check.to_string();
        assert!(text.len() < report::tests::SETTINGS_MAX, "{}", text.len());
        assert!(
            !text.contains("hunter2") && !text.contains("kkkk") && !text.contains("xxxx"),
            "{text}"
        );
        let of = |name: &str| {
            let list = check["settings"].as_array().unwrap();
            let found = list.iter().find(|setting| setting["name"] == name).unwrap();
            (
                found["value"].as_str().unwrap().to_owned(),
                found["from"].as_str().unwrap().to_owned(),
            )
        };
        assert_eq!(of("hmac_key"), ("4096 bytes".into(), "program".into()));
        assert_eq!(of("application_id"), ("not a number, 64 characters".into(), "program".into()));
        assert_eq!(of("timeout_ms"), ("10000".into(), "default".into()));
        assert!(of("proxy").0.ends_with(":65535, with a login"));
        assert!(json(proxy(&known)).to_string().len() < 1000);
    }

    #[test]
    fn a_key_that_was_copied_wrongly_has_a_cure() {
        for (bytes, cure) in [
            (&b"key"[..], ""),
            (b"key with a blank", ""),
            (b"key\n", "Remove the newline at the end of the key (from SPIKE_HMAC_KEY)."),
            (b"key\r\n", "Remove the newline"),
            (b"key ", "Remove the blank at the end"),
            (b"\tkey", "Remove the blank at the start"),
            (b"\"key\"", "Remove the quotation marks"),
            (b"\"", ""),
            (
                &[0xDE, 0xAD, 0xBE, 0xEF],
                "without decoding it from hex or base64 (from SPIKE_HMAC_KEY).",
            ),
            ("k\u{e9}y".as_bytes(), "without decoding"),
        ] {
            let check = of_key(bytes);
            assert_eq!(check["length"], bytes.len());
            assert_eq!(check["status"], if cure.is_empty() { "ok" } else { "warning" });
            assert!(check["cure"].as_str().unwrap_or_default().contains(cure), "{check}");
        }
        assert_eq!(json(key(None, "", true))["status"], "failed");
        assert_eq!(json(key(None, "", false))["status"], "skipped");
    }

    #[test]
    fn a_clock_that_is_off_by_more_than_five_minutes_fails() {
        for (ahead, status) in [
            (0, "ok"),
            (-30, "ok"),
            (31, "warning"),
            (-300, "warning"),
            (301, "failed"),
            (-86_400, "failed"),
        ] {
            let check = json(clock(Some(ahead)));
            assert_eq!((&check["status"], &check["ahead_s"]), (&status.into(), &ahead.into()));
        }
        assert_eq!(json(clock(None))["status"], "skipped");
    }

    #[test]
    fn a_refused_key_that_looks_wrong_is_the_first_thing_to_mend() {
        let error = |what| Error::new(ErrorKind::Unauthorized, what).with_cure("Check both.");
        let odd = || Check::warning("key", "odd", "Remove it.".into());
        let refused = || Check::of_error("exchange", &error("401"), "");
        let lost = || Check::of_error("resolve", &error("lost"), "");
        assert_eq!(first_cure(&[odd(), refused()], true), Some("Remove it."));
        assert_eq!(first_cure(&[odd(), refused()], false), Some("Check both."));
        assert_eq!(first_cure(&[Check::ok("key", ""), refused()], true), Some("Check both."));
        assert_eq!(first_cure(&[odd(), lost(), refused()], true), Some("Check both."));
        assert_eq!(first_cure(&[odd()], false), None);
    }

    #[test]
    fn a_failure_says_where_its_settings_come_from() {
        let known = known(|_| ());
        let cure =
            |kind| json(of_error("exchange", &Error::new(kind, "It").with_cure("Do."), &known));
        let refused = cure(ErrorKind::Unauthorized);
        assert_eq!(refused["cure"], "Do. The application id comes from the program.");
        assert_eq!(cure(ErrorKind::Refused)["cure"], "Do.", "the default is not named");
        assert_eq!(cure(ErrorKind::Timeout)["cure"], "Do.");
    }

    #[test]
    fn the_reason_for_a_proxy_or_none() {
        for (url, own, expected) in [
            ("http://localhost", None, "Plain http goes to this machine"),
            (
                "https://example.com",
                Some("http://proxy:1"),
                "Through the proxy proxy:1. The program set it.",
            ),
            ("https://example.com", Some(""), "No proxy. The program set none."),
            ("https://example.com", None, "No proxy. The environment names none."),
        ] {
            let known = known(|config| {
                config.set_base_url(url.as_bytes()).unwrap();
                if let Some(own) = own {
                    config.set_proxy(own.as_bytes()).unwrap();
                }
            });
            let check = json(proxy(&known));
            assert!(check["message"].as_str().unwrap().contains(expected), "{check}");
        }
    }
}
