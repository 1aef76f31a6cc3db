//! Tokens that the service was said to have refused, for as long as a new one must prove itself.
//!
//! After a token was reported, one exchange gets another. If that is the same token again, or is
//! reported too, a third would be no better: callers are told so until five seconds have passed, and
//! the service is left alone.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, whole_ms};
use crate::random::Keyed;

/// How long a report is remembered, from when it came.
const REMEMBERED: Duration = Duration::from_secs(5);

/// The reports of one shard. Users and tokens are keyed hashes of 64 bits: nothing here tells a
/// token, and two that are taken for one cost a user five seconds at the worst.
pub(super) struct Rejections {
    reports: HashMap<u64, Report, Keyed>,
    /// The same users, in the order in which they were reported, and so in which that ends.
    order: VecDeque<u64>,
    max: usize,
}

struct Report {
    until: Instant,
    rejected: u64,
    /// The cache held the rejected token. If not, it may be one of long ago.
    was_held: bool,
    /// What an exchange brought since.
    replacement: Option<u64>,
    /// The replacement is no good either.
    is_blocked: bool,
}

impl Report {
    fn new(rejected: u64, was_held: bool, now: Instant) -> Self {
        Self { until: now + REMEMBERED, rejected, was_held, replacement: None, is_blocked: false }
    }
}

impl Rejections {
    /// Remembers `max` at the most, the latest.
    pub(super) fn new(max: usize) -> Self {
        Self { reports: HashMap::default(), order: VecDeque::new(), max }
    }

    /// `token` was refused. `was_held`: it is the one that the cache held.
    pub(super) fn report(&mut self, user: u64, token: u64, was_held: bool, now: Instant) {
        match self.live(user, now) {
            // Another worker with the same report.
            Some(report) if report.rejected == token => report.was_held |= was_held,
            Some(report) if was_held && !report.was_held => {
                *report = Report::new(token, was_held, now);
            }
            Some(report) => {
                report.is_blocked |= was_held || report.replacement == Some(token);
            }
            None => self.remember(user, Report::new(token, was_held, now), now),
        }
    }

    fn remember(&mut self, user: u64, report: Report, now: Instant) {
        self.forget_old(now);
        if self.reports.insert(user, report).is_some() {
            return; // an old one, which the order still knows
        }
        self.order.push_back(user);
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.reports.remove(&oldest);
        }
    }

    /// Whether to ask for a token of this user at all.
    pub(super) fn check(&mut self, user: u64, now: Instant) -> Result<(), Error> {
        match self.live(user, now) {
            Some(report) if report.is_blocked => Err(rejected(report.until - now)),
            _ => Ok(()),
        }
    }

    /// Whether a new token may be handed out.
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
            "The service refuses the new token of this user too, or gave the rejected one again. A new \
             exchange is made in {} ms at the earliest. Check that this application may still act for the user.",
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
    fn the_same_token_again_blocks_until_five_seconds_after_the_report() {
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
            "the service decides anew"
        );
    }

    #[test]
    fn a_replacement_that_is_reported_too_blocks() {
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
    fn a_report_of_long_ago_does_not_cost_the_next_one_its_exchange() {
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
    fn another_users_report_is_another_matter() {
        let (mut rejections, start) = fresh();
        rejections.report(USER, OLD, true, start);
        assert!(rejections.check_new(USER, OLD, start).is_err());
        assert!(rejections.check(2, start).is_ok());
        assert!(rejections.check_new(2, OLD, start).is_ok());
    }

    #[test]
    fn the_oldest_reports_go_when_there_are_too_many() {
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
