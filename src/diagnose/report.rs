//! The report and its JSON.

use std::time::Duration;

use crate::error::Error;

/// The longest report in bytes. The bounds below keep it.
pub(crate) const REPORT_MAX: usize = 16 * 1024 - 1;

/// The longest text of a member in bytes, in JSON.
const TEXT_MAX: usize = 400;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    /// It works, and should be looked at.
    Warning,
    Failed,
    /// It was not tried.
    Skipped,
}

/// One thing that was looked at.
pub(super) struct Check(Box<Members>); // boxed, and its functions never inlined, to keep the library small

struct Members {
    name: &'static str,
    status: Status,
    took: Duration,
    message: String,
    cure: Option<String>,
    /// Further members: names, and their values in JSON.
    facts: Vec<(&'static str, String)>,
}

impl Check {
    pub(super) fn ok(name: &'static str, message: impl Into<String>) -> Self {
        Self::new(name, Status::Ok, message.into(), None)
    }

    pub(super) fn skipped(name: &'static str, why: impl Into<String>) -> Self {
        Self::new(name, Status::Skipped, why.into(), None)
    }

    pub(super) fn warning(name: &'static str, what: impl Into<String>, cure: String) -> Self {
        Self::new(name, Status::Warning, what.into(), Some(cure))
    }

    pub(super) fn failed(name: &'static str, what: impl Into<String>, cure: String) -> Self {
        Self::new(name, Status::Failed, what.into(), Some(cure))
    }

    /// A message that does not part what failed from its cure is both. `more` follows the cure.
    pub(super) fn of_error(name: &'static str, error: &Error, more: &str) -> Self {
        let cure = format!("{}{more}", error.cure().unwrap_or(error.message()));
        let check = Self::failed(name, format!("{}.", error.what().trim_end_matches('.')), cure);
        match error.http_status() {
            Some(status) => check.with("http_status", status.to_string()),
            None => check,
        }
    }

    #[inline(never)]
    fn new(name: &'static str, status: Status, message: String, cure: Option<String>) -> Self {
        let facts = Vec::new();
        Self(Box::new(Members { name, status, took: Duration::ZERO, message, cure, facts }))
    }

    #[inline(never)]
    pub(super) fn took(mut self, took: Duration) -> Self {
        self.0.took = took;
        self
    }

    /// Adds a member. `value` is JSON.
    #[inline(never)]
    pub(super) fn with(mut self, name: &'static str, value: String) -> Self {
        self.0.facts.push((name, value));
        self
    }

    pub(super) fn is(&self, name: &str, status: Status) -> bool {
        self.0.name == name && self.0.status == status
    }

    pub(super) fn has_failed(&self) -> bool {
        self.0.status == Status::Failed
    }

    pub(super) fn cure(&self) -> Option<&str> {
        self.0.cure.as_deref()
    }

    #[inline(never)]
    fn json(&self) -> String {
        let Members { name, status, took, message, cure, facts } = &*self.0;
        let status = match status {
            Status::Ok => "ok",
            Status::Warning => "warning",
            Status::Failed => "failed",
            Status::Skipped => "skipped",
        };
        let us = took.as_micros() as u64;
        let mut json = format!(
            r#"{{"name":"{name}","status":"{status}","ms":{}.{:03},"message":{},"cure":{}"#,
            us / 1000,
            us % 1000,
            text(message),
            optional(cure.as_deref()),
        );
        for (name, value) in facts {
            json.push_str(&format!(r#","{name}":{value}"#));
        }
        json.push('}');
        json
    }
}

/// The whole report, as one line.
pub(super) fn json(checks: &[Check], cure: Option<&str>) -> String {
    format!(
        r#"{{"version":"{}","ok":{},"cure":{},"checks":{}}}"#,
        env!("CARGO_PKG_VERSION"),
        !checks.iter().any(Check::has_failed),
        optional(cure),
        array(checks.iter().map(Check::json))
    )
}

pub(super) fn array(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}

fn optional(value: Option<&str>) -> String {
    value.map_or("null".to_owned(), text)
}

/// A JSON string of at most `TEXT_MAX` bytes. Control characters become question marks: the report is shown on
/// terminals.
#[inline(never)]
pub(super) fn text(value: &str) -> String {
    let mut quoted = String::from('"');
    for c in value.chars() {
        if quoted.len() + c.len_utf8() > TEXT_MAX - 2 {
            break;
        }
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push('?'),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::error::ErrorKind;

    /// `the_longest_settings` in `checks.rs` keeps it.
    pub(in crate::diagnose) const SETTINGS_MAX: usize = 3500;

    #[test]
    fn any_text_is_a_short_line_of_json() {
        let (quotes, accents) = ("\"".repeat(TEXT_MAX), "\u{e9}".repeat(TEXT_MAX));
        for value in ["", "a\nb\u{1b}[31m\0\u{85}", "\"\\", "\u{e9}\u{2713}", &quotes, &accents] {
            let quoted = text(value);
            let back: String = serde_json::from_str(&quoted).unwrap();
            assert!(quoted.len() <= TEXT_MAX && !quoted.chars().any(char::is_control), "{quoted}");
            let shown: String =
                value.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            assert!(shown.starts_with(&back) && (back == shown || quoted.len() > TEXT_MAX - 5));
        }
    }

    /// Nine checks, the settings and a few short facts are less than what is left.
    #[test]
    fn a_report_of_the_longest_texts_fits() {
        let long = "x".repeat(TEXT_MAX);
        let check =
            |name| Check::failed(name, long.clone(), long.clone()).with("fact", text(&long));
        let checks: Vec<Check> = (0..9).map(|_| check("settings")).collect();
        assert!(json(&checks, Some(&long)).len() < REPORT_MAX - SETTINGS_MAX);
    }

    #[test]
    fn members_and_verdict() {
        let error = Error::new(ErrorKind::Refused, "It failed").with_cure("Do that.");
        let error = error.with_http_status(404);
        let checks = [
            Check::ok("key", "Good.").took(Duration::from_micros(12_034)),
            Check::of_error("exchange", &error, ""),
            Check::of_error("store", &Error::new(ErrorKind::Store, "Both."), ""),
        ];
        let report: serde_json::Value =
            serde_json::from_str(&json(&checks, Some("Do that."))).unwrap();
        assert_eq!(report["ok"], false);
        let checks = &report["checks"];
        assert_eq!(checks[0]["ms"], 12.034);
        assert_eq!(checks[0]["cure"], serde_json::Value::Null);
        assert_eq!(
            (&checks[1]["message"], &checks[1]["cure"]),
            (&"It failed.".into(), &"Do that.".into())
        );
        assert_eq!(checks[1]["http_status"], 404);
        assert_eq!((&checks[2]["message"], &checks[2]["cure"]), (&"Both.".into(), &"Both.".into()));
    }
}
