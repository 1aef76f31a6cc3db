//! Step two: the signature for the access token, by the rules of `POST /v3/auth/hmac`.

mod hold;
mod judgement;
mod problem;
mod reply;
mod request;
mod retry;
mod retry_after;
mod scrub;

use std::time::{Duration, Instant};

use crate::config::{ApplicationId, Config};
use crate::error::{Error, ErrorKind};
pub(crate) use crate::http::{Cancel, Deadline};
use crate::http::{HttpClient, Phase, Settings};
use crate::random;
use crate::signing::Signature;
use crate::token::{AccessToken, Grant};
use crate::user_id::UserId;
use hold::{Admission, Hold, Pass};
use request::RequestBody;
use retry::Budget;
use scrub::Secrets;

/// The endpoint's path below the base URL.
const PATH: &str = "/auth/hmac";

/// Exchanges signatures for tokens; shared by all threads.
pub(crate) struct Exchange {
    http: HttpClient,
    body: RequestBody,
    timeout: Duration,
    max_attempts: u32,
    budget: Budget,
    hold: Hold,
}

/// One user, and the signature that speaks for that user.
pub(crate) struct Claim<'a> {
    pub(crate) user: UserId<'a>,
    pub(crate) signature: &'a Signature,
}

/// Within what a call must keep.
pub(crate) struct Leave<'a> {
    pub(crate) deadline: Deadline,
    pub(crate) cancel: &'a Cancel,
    /// Asked when it is the call's turn, right before anything is sent: it may have waited long.
    pub(crate) to_send: &'a dyn Fn() -> Result<(), Error>,
}

/// What came of an attempt.
enum Attempt {
    /// Nothing was sent: meanwhile the service has asked to wait.
    Withdrawn,
    /// With the number of requests that were sent.
    Ended(Result<Grant, Error>, u32),
}

impl Exchange {
    pub(crate) fn new(config: &Config, application_id: &ApplicationId) -> Result<Self, Error> {
        let http = HttpClient::new(Settings {
            base_url: &config.base_url,
            path: PATH,
            user_agent: &config.user_agent,
            connect_timeout: config.checked_connect_timeout()?,
            in_flight_max: config.max_concurrency as usize,
            roots: config.tls_roots,
            ca: &config.ca_certificates,
            proxy: config.proxy.for_url(&config.base_url)?,
        })?;
        Ok(Self {
            http,
            body: RequestBody::new(application_id),
            timeout: config.timeout,
            max_attempts: config.max_attempts,
            budget: Budget::new(),
            hold: Hold::new(),
        })
    }

    /// One exchange: as many attempts as the retry policy and the time allow. With the token comes the
    /// number of requests that were sent.
    pub(crate) fn run(
        &self,
        claim: &Claim<'_>,
        deadline: Deadline,
        cancel: &Cancel,
    ) -> Result<(AccessToken, u32), Error> {
        let leave = Leave { deadline, cancel, to_send: &|| Ok(()) };
        let mut progress = Progress::default();
        match self.resume(claim, &leave, &mut progress) {
            Outcome::Granted(grant) => Ok((grant.token, progress.sent)),
            Outcome::Failed(error) | Outcome::Unfinished(error) => Err(error),
        }
    }

    /// Goes on with an exchange from where `progress` stands, and keeps that up to date.
    pub(crate) fn resume(
        &self,
        claim: &Claim<'_>,
        leave: &Leave<'_>,
        progress: &mut Progress,
    ) -> Outcome {
        let body = self.body.with(claim.user, claim.signature);
        loop {
            let pass = match self.admit(leave, progress) {
                Ok(pass) => pass,
                Err(outcome) => return outcome,
            };
            let Attempt::Ended(result, requests) = self.attempt(claim, &body, leave, pass) else {
                continue;
            };
            progress.attempts += 1;
            progress.sent += requests;
            let failure = match result {
                Ok(grant) => {
                    if progress.attempts == 1 {
                        self.budget.refund();
                    }
                    return Outcome::Granted(grant);
                }
                Err(failure) => failure.with_attempts(progress.sent),
            };
            if is_the_callers_own(&failure) {
                progress.break_off(requests, self.max_attempts);
                return Outcome::Unfinished(failure);
            }
            match retry::wait_before_next(
                &failure,
                progress.attempts,
                self.max_attempts,
                random::fraction(),
            ) {
                None => return Outcome::Failed(failure),
                Some(wait) => {
                    progress.pause =
                        Some(Pause { until: Instant::now() + wait, failure, paid: false });
                }
            }
        }
    }

    /// Waits for the next attempt: between two of this call, and as the service has asked all calls.
    fn admit(&self, leave: &Leave<'_>, progress: &mut Progress) -> Result<Pass<'_>, Outcome> {
        loop {
            self.pause(leave, progress)?;
            match self.hold.admit(Instant::now()) {
                Admission::Go(pass) => return Ok(pass),
                Admission::Wait(until, failure) => {
                    progress.pause = Some(Pause {
                        until,
                        failure: failure.with_attempts(progress.sent),
                        paid: true,
                    });
                }
                Admission::Queue(first) => self
                    .http
                    .wait_at_most(
                        first.gives_way_at(),
                        leave.deadline,
                        leave.cancel,
                        Phase::Hold,
                        &|| first.is_over(),
                    )
                    .map_err(|error| Outcome::Unfinished(error.with_attempts(progress.sent)))?,
            }
        }
    }

    /// Whether the service has asked to be left alone for a while.
    pub(crate) fn is_on_hold(&self) -> bool {
        self.hold.is_on(Instant::now())
    }

    /// The wait between two attempts, if one is due.
    fn pause(&self, leave: &Leave<'_>, progress: &mut Progress) -> Result<(), Outcome> {
        let Some(pause) = &mut progress.pause else {
            return Ok(());
        };
        let wait = pause.until.saturating_duration_since(Instant::now());
        if !retry::fits(wait, leave.deadline.left()) {
            return Err(Outcome::Unfinished(pause.failure.clone()));
        }
        pause.paid = pause.paid || self.budget.pay(&pause.failure);
        if !pause.paid {
            return Err(Outcome::Failed(pause.failure.clone()));
        }
        self.http
            .sleep(pause.until, leave.cancel)
            .map_err(|error| Outcome::Unfinished(error.with_attempts(progress.sent)))?;
        progress.pause = None;
        Ok(())
    }

    fn attempt(
        &self,
        claim: &Claim<'_>,
        body: &[u8],
        leave: &Leave<'_>,
        pass: Pass<'_>,
    ) -> Attempt {
        let permit = match self.http.permit(leave.deadline, leave.cancel) {
            Ok(permit) => permit,
            Err(error) => return Attempt::Ended(Err(error), 0),
        };
        if let Err(error) = (leave.to_send)() {
            return Attempt::Ended(Err(error), 0);
        }
        if pass.was_withdrawn() {
            return Attempt::Withdrawn;
        }
        let secrets = Secrets { user: claim.user, signature: claim.signature };
        let (result, requests) =
            match self.http.post_json(&permit, body, leave.deadline, leave.cancel) {
                Ok(reply) => {
                    let requests = reply.requests;
                    (judgement::judge(reply, &secrets), requests)
                }
                Err(error) => {
                    let requests = error.attempts();
                    (Err(error), requests)
                }
            };
        // Before the permit goes to the next call.
        pass.end(result.as_ref().err(), Instant::now());
        Attempt::Ended(result, requests)
    }

    /// Waits until `done`, for something that another call does; fails when the time is up, or the
    /// call is stopped. Whoever makes it done unparks the thread.
    pub(crate) fn wait(
        &self,
        deadline: Deadline,
        cancel: &Cancel,
        done: &dyn Fn() -> bool,
    ) -> Result<(), Error> {
        self.http.wait(deadline, cancel, Phase::Shared, done)
    }

    /// The deadline of a call that begins now. `timeout` takes the place of the client's.
    pub(crate) fn deadline(&self, timeout: Option<Duration>) -> Deadline {
        Deadline::after(timeout.unwrap_or(self.timeout))
    }

    /// Ends exchanges in flight at once and refuses later ones.
    pub(crate) fn close(&self) {
        self.http.close();
    }
}

/// Whether a failure says something about the call, and nothing about the exchange.
fn is_the_callers_own(failure: &Error) -> bool {
    matches!(failure.kind(), ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::Closed)
}

/// How far an exchange has come. Whoever goes on with it goes on from here.
#[derive(Default)]
pub(crate) struct Progress {
    /// Attempts that were begun.
    attempts: u32,
    /// Requests that were sent.
    sent: u32,
    /// What stands between the last attempt and the next.
    pause: Option<Pause>,
}

struct Pause {
    until: Instant,
    /// What it is for, and what stands if there is no next attempt.
    failure: Error,
    /// The retry is paid for: it is not paid again by whoever goes on.
    paid: bool,
}

impl Progress {
    /// How many requests were sent.
    pub(crate) fn requests(&self) -> u32 {
        self.sent
    }

    /// A failure that was found in a good reply.
    pub(crate) fn with_reply(&self, failure: Error) -> Error {
        failure.with_http_status(200).with_attempts(self.sent)
    }

    /// The failure that stands if nobody goes on, where nobody can before `latest`.
    pub(crate) fn stands_at(&self, latest: Instant) -> Option<&Error> {
        self.pause
            .as_ref()
            .filter(|pause| {
                !retry::fits(Duration::ZERO, latest.saturating_duration_since(pause.until))
            })
            .map(|pause| &pause.failure)
    }

    /// The last attempt came to no end. It counts if a request went out, but whoever goes on has
    /// one left in any case: nobody fails because somebody else had no time. So callers that are
    /// stopped one after the other send a request each, as they would alone.
    fn break_off(&mut self, requests: u32, max_attempts: u32) {
        if requests == 0 {
            self.attempts -= 1;
        }
        self.attempts = self.attempts.min(max_attempts - 1);
    }
}

/// What came of an exchange, for now.
pub(crate) enum Outcome {
    Granted(Grant),
    /// Anybody would have failed.
    Failed(Error),
    /// The caller was stopped, or had no time left. Another may go on.
    Unfinished(Error),
}
