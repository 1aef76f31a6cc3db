//! `Retry-After` in both forms (RFC 9110, 10.2.3).

use std::time::{Duration, SystemTime};

/// Longer than any wait; prevents overflows in the callers' arithmetic.
const MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long the server asks to wait. A date counts from the response's `date`, so that a wrong clock on
/// either side does not matter; without one, from `now`.
pub(crate) fn parse(value: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than fit are a very long time.
        return Some(value.parse().map_or(MAX, Duration::from_secs).min(MAX));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    let from = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
    Some(until.duration_since(from).unwrap_or(Duration::ZERO).min(MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Wed, 21 Oct 2015 07:28:00 GMT";
    const A_MINUTE_LATER: &str = "Wed, 21 Oct 2015 07:29:00 GMT";

    fn secs(value: &str, date: Option<&str>) -> Option<u64> {
        let now = httpdate::parse_http_date(DATE).unwrap() - Duration::from_secs(10);
        parse(value, date, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds() {
        assert_eq!(secs("0", None), Some(0));
        assert_eq!(secs(" 120 ", None), Some(120));
        assert_eq!(secs("99999999999999999999999999", None), Some(MAX.as_secs()));
        assert_eq!(secs("18446744073709551615", None), Some(MAX.as_secs()));
    }

    #[test]
    fn dates_count_from_the_responses_date() {
        assert_eq!(secs(A_MINUTE_LATER, Some(DATE)), Some(60));
        assert_eq!(secs(A_MINUTE_LATER, None), Some(70));
        assert_eq!(secs(A_MINUTE_LATER, Some("nonsense")), Some(70));
        assert_eq!(secs(DATE, Some(A_MINUTE_LATER)), Some(0), "in the past");
        assert_eq!(secs("Wednesday, 21-Oct-15 07:29:00 GMT", Some(DATE)), Some(60));
    }

    #[test]
    fn an_invalid_value_is_ignored() {
        for bad in
            ["", " ", "-1", "+1", "1.5", "1e3", "soon", "0x10", "Wed, 99 Oct 2015 07:28:00 GMT"]
        {
            assert_eq!(secs(bad, Some(DATE)), None, "{bad}");
        }
    }
}
