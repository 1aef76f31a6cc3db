//! What each check says.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use super::report::{Check, Status, array, text};
use super::{Known, UNREACHED};
use crate::config::{KeyShape, WITH_LOGIN};
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
    if shape.has_invisible_end {
        return Some((
            "an invisible character that is no blank of ASCII is at its start or end",
            remove("the invisible character at the start or end"),
        ));
    }
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
    let place = value.strip_suffix(WITH_LOGIN).unwrap_or(value);
    Check::ok("proxy", message).with("proxy", text(place))
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
        .with("roots_from", text(&facts.roots_from))
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
        return Check::skipped("clock", "No reply with a date came.");
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
mod tests;
