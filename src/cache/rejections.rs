//! Tokens that were reported as rejected by the service.
//!
//! After a report, one exchange fetches a replacement. If that is the same token, or is reported too,
//! calls fail without a request until five seconds after the report.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, whole_ms};
use crate::random::Keyed;

/// How long a report is remembered.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The reports of one shard. Users and tokens are keyed hashes of 64 bits: no token can be read here, and
/// a collision costs a user at most five seconds.
pub(super) struct Rejections {
    reports: HashMap<u64, Report, Keyed>,
    /// The same users in the order of their reports, which is the order of expiry.
    order: VecDeque<u64>,
    max: usize,
}

struct Report {
    until: Instant,
    rejected: u64,
    /// Whether the rejected token was cached. If not, it may be an old one.
    was_held: bool,
    /// The token that an exchange returned since.
    replacement: Option<u64>,
    /// Whether the replacement was rejected too.
    is_blocked: bool,
}

impl Report {
    fn new(rejected: u64, was_held: bool, now: Instant) -> Self {
        Self { until: now + REMEMBERED, rejected, was_held, replacement: None, is_blocked: false }
    }
}

impl Rejections {
    /// Remembers the latest `max` reports.
    pub(super) fn new(max: usize) -> Self {
        Self { reports: HashMap::default(), order: VecDeque::new(), max }
    }

    /// `token` was rejected. `was_held`: it was the cached one.
    pub(super) fn report(&mut self, user: u64, token: u64, was_held: bool, now: Instant) {
        match self.live(user, now) {
            // The same report from another thread.
            Some(report) if report.rejected == token => report.was_held |= was_held,
            // The cached one is no replacement: it is older than the report, or another process fetched it.
            Some(report) if was_held && !(report.was_held && report.replacement == Some(token)) => {
                *report = Report::new(token, was_held, now);
            }
            Some(report) => {
                report.is_blocked |= report.replacement == Some(token);
            }
            None => self.remember(user, Report::new(token, was_held, now), now),
        }
    }

    fn remember(&mut self, user: u64, report: Report, now: Instant) {
        self.forget_old(now);
        if self.reports.insert(user, report).is_some() {
            return; // it replaced an expired report, which is still in `order`
        }
        self.order.push_back(user);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.reports.remove(&oldest);
        }
    }

    /// Whether a request for a token of `user` may be sent.
    pub(super) fn check(&mut self, user: u64, now: Instant) -> Result<(), Error> {
        match self.live(user, now) {
            Some(report) if report.is_blocked => Err(rejected(report.until - now)),
            _ => Ok(()),
        }
    }

    /// Whether this token was reported.
    pub(super) fn is_rejected(&mut self, user: u64, token: u64, now: Instant) -> bool {
        self.live(user, now).is_some_and(|report| report.rejected == token)
    }

    /// Whether a new token may be returned.
    pub(super) fn check_new(&mut self, user: u64, token: u64, now: Instant) -> Result<(), Error> {
        let Some(report) = self.live(user, now) else {
            return Ok(());
        };
        if report.rejected != token {
            report.replacement = Some(token);
            return Ok(());
        }
        report.is_blocked = true;
        Err(rejected(report.until - now))
    }

    fn live(&mut self, user: u64, now: Instant) -> Option<&mut Report> {
        self.reports.get_mut(&user).filter(|report| now < report.until)
    }

    fn forget_old(&mut self, now: Instant) {
        while let Some(user) = self.order.front()
            && self.reports.get(user).is_none_or(|report| report.until <= now)
        {
            self.reports.remove(user);
            self.order.pop_front();
        }
    }
}

fn rejected(wait: Duration) -> Error {
    let wait = whole_ms(wait);
    Error::new(
        ErrorKind::TokenRejected,
        format!(
            "The new token of this user was rejected too, or the service returned the rejected one again. \
             The next exchange is possible in {} ms. Check that this application may still act for the user.",
            wait.as_millis()
        ),
    )
    .with_retryable(true)
    .with_retry_after(Some(wait))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: u64 = 1;
    const OLD: u64 = 10;
    const NEW: u64 = 11;

    fn second(count: f64) -> Duration {
        Duration::from_secs_f64(count)
    }

    fn fresh() -> (Rejections, Instant) {
        (Rejections::new(4), Instant::now())
    }

    #[test]
    fn the_same_token_again_blocks_the_user_for_five_seconds_after_the_report() {
        let (mut rejections, start) = fresh();
        rejections.report(USER, OLD, true, start);
        assert!(rejections.check(USER, start).is_ok(), "one exchange is free");
        let at = start + second(0.2);
        let error = rejections.check_new(USER, OLD, at).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TokenRejected);
        assert!(error.retryable());
        assert_eq!(error.retry_after(), Some(Duration::from_millis(4800)));
        assert!(rejections.check(USER, start + second(4.999)).is_err());
        assert!(rejections.check(USER, start + second(5.0)).is_ok());
        assert!(
            rejections.check_new(USER, OLD, start + second(5.0)).is_ok(),
            "the report has expired"
        );
    }

    #[test]
    fn a_replacement_that_is_reported_too_blocks_the_user() {
        for was_held in [true, false] {
            let (mut rejections, start) = fresh();
            rejections.report(USER, OLD, true, start);
            assert!(rejections.check_new(USER, NEW, start).is_ok());
            rejections.report(USER, OLD, false, start);
            assert!(rejections.check(USER, start).is_ok(), "a late report of the old one");
            rejections.report(USER, NEW, was_held, start);
            assert!(rejections.check(USER, start).is_err());
            assert!(rejections.check(USER, start + second(5.0)).is_ok());
        }
    }

    #[test]
    fn a_report_of_an_old_token_does_not_use_up_the_exchange_of_the_next_report() {
        let (mut rejections, start) = fresh();
        rejections.report(USER, OLD, false, start);
        assert!(rejections.check_new(USER, NEW, start).is_ok());
        let later = start + second(1.0);
        rejections.report(USER, NEW, true, later);
        assert!(rejections.check(USER, later).is_ok(), "one exchange is free");
        assert!(rejections.check_new(USER, NEW, later).is_err());
        assert!(rejections.check(USER, later + second(4.999)).is_err());
        assert!(rejections.check(USER, later + second(5.0)).is_ok());
    }

    #[test]
    fn a_token_of_the_store_does_not_use_up_the_exchange() {
        let (mut rejections, start) = fresh();
        rejections.report(USER, OLD, true, start);
        assert!(rejections.is_rejected(USER, OLD, start));
        assert!(!rejections.is_rejected(USER, NEW, start));
        // The store had it: no exchange was made.
        rejections.report(USER, NEW, true, start);
        assert!(rejections.check(USER, start).is_ok(), "one exchange is free");
        assert!(rejections.is_rejected(USER, NEW, start));
        assert!(rejections.check_new(USER, NEW + 1, start).is_ok());
        rejections.report(USER, NEW + 1, true, start);
        assert!(rejections.check(USER, start).is_err());
        assert!(!rejections.is_rejected(USER, NEW, start + REMEMBERED));
    }

    #[test]
    fn a_report_concerns_one_user_only() {
        let (mut rejections, start) = fresh();
        rejections.report(USER, OLD, true, start);
        assert!(rejections.check_new(USER, OLD, start).is_err());
        assert!(rejections.check(2, start).is_ok());
        assert!(rejections.check_new(2, OLD, start).is_ok());
    }

    #[test]
    fn too_many_reports_drop_the_oldest() {
        let (mut rejections, start) = fresh();
        for user in 0..10 {
            rejections.report(user, OLD, true, start);
        }
        assert_eq!(rejections.reports.len(), 4);
        assert_eq!(rejections.order.len(), 4);
        assert!(rejections.check_new(5, OLD, start).is_ok());
        assert!(rejections.check_new(6, OLD, start).is_err());
        rejections.forget_old(start + REMEMBERED);
        assert_eq!((rejections.reports.len(), rejections.order.len()), (0, 0));
    }
}
