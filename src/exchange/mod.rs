//! Step two: the signature for the access token, by the rules of `POST /v3/auth/hmac`.

mod classify;
mod fetcher;
mod hold;
mod problem;
mod reply;
mod request;
mod retry;
mod retry_after;
mod scrub;
mod shared;

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crate::config::{ApplicationId, Config};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::http::{HttpClient, Permit, Settings};
use crate::random;
use crate::signing::Signature;
use crate::store::Sharing;
use crate::token::{AccessToken, TokenResponse};
use crate::user_id::UserId;
pub(crate) use fetcher::{Fetcher, Later};
use hold::{Admission, First, Hold, Pass};
use request::RequestBody;
use retry::Budget;
pub(crate) use shared::SharedExchange;

/// The endpoint's path below the base URL.
const PATH: &str = "/auth/hmac";

/// Exchanges signatures for tokens; shared by all threads.
pub(crate) struct Exchange {
    http: HttpClient,
    body: RequestBody,
    max_attempts: u32,
    budget: Budget,
    hold: Hold,
}

/// A user and that user's signature.
pub(crate) struct SignedUser<'a> {
    pub(crate) user: UserId<'a>,
    pub(crate) signature: &'a Signature,
}

/// The right to send one request now.
pub(crate) struct Turn<'a> {
    pass: Pass<'a>,
    permit: Permit<'a>,
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
            max_attempts: config.max_attempts,
            budget: Budget::new(),
            hold: Hold::new(),
        })
    }

    /// One exchange: as many attempts as the retry policy and the time allow. Also returns the number
    /// of requests that were sent.
    pub(crate) fn run(
        &self,
        user: &SignedUser<'_>,
        context: &Context,
    ) -> Result<(AccessToken, u32), Error> {
        let mut progress = Progress::default();
        loop {
            let outcome = match self.wait_for_turn(context, &mut progress) {
                Ok(turn) => self.attempt(turn, user, context, &mut progress),
                Err(outcome) => Some(outcome),
            };
            match outcome {
                None => {}
                Some(Outcome::Granted(response) | Outcome::Shared(response)) => {
                    return Ok((response.token, progress.sent));
                }
                Some(Outcome::Failed(error) | Outcome::Interrupted(error)) => return Err(error),
            }
        }
    }

    /// One request, its response, and how many requests were sent: none, one, or two where a kept
    /// connection was dead.
    fn send(
        &self,
        turn: Turn<'_>,
        user: &SignedUser<'_>,
        context: &Context,
    ) -> (Result<TokenResponse, Error>, u32) {
        let body = self.body.with(user.user, user.signature);
        let (result, requests) = match self.http.post_json(&turn.permit, &body, context) {
            Ok(response) => {
                let requests = response.requests;
                (classify::classify(response, user), requests)
            }
            Err(error) => {
                let requests = error.attempts();
                (Err(error), requests)
            }
        };
        // Before the permit goes to the next call.
        turn.pass.end(result.as_ref().err(), Instant::now());
        (result, requests)
    }

    /// Whether the next attempt may begin now: after the wait between two of this exchange, and as the
    /// service asked all calls.
    fn admit(
        &self,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<Pass<'_>, Later<Obstacle>> {
        loop {
            self.check_pause(context, progress)?;
            match self.hold.admit(Instant::now()) {
                Admission::Go(pass) => return Ok(pass),
                Admission::Queue(first) => return Err(Later::At(Obstacle::First(first))),
                Admission::Wait(until, failure) => {
                    progress.pause = Some(Pause {
                        until,
                        failure: failure.with_attempts(progress.sent),
                        paid: true,
                    });
                }
            }
        }
    }

    fn turn<'a>(
        &'a self,
        pass: Pass<'a>,
        context: &Context,
        progress: &Progress,
    ) -> Result<Turn<'a>, Outcome> {
        Ok(Turn { pass, permit: self.permit(context, progress)? })
    }

    /// Bounds how many calls of a client use the network at once.
    fn permit(&self, context: &Context, progress: &Progress) -> Result<Permit<'_>, Outcome> {
        self.http.permit(context).map_err(|error| progress.interrupted(error))
    }

    /// Whether the service has asked to wait.
    pub(crate) fn is_on_hold(&self) -> bool {
        self.hold.is_on(Instant::now())
    }

    /// The wait between two attempts, if one is due.
    fn check_pause(
        &self,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<(), Later<Obstacle>> {
        let Some(pause) = &mut progress.pause else {
            return Ok(());
        };
        let wait = pause.until.saturating_duration_since(Instant::now());
        if !retry::fits(wait, context.deadline.left()) {
            return Err(Later::Over(Outcome::Interrupted(pause.failure.clone())));
        }
        pause.paid = pause.paid || self.budget.pay(&pause.failure);
        if !pause.paid {
            return Err(Later::Over(Outcome::Failed(pause.failure.clone())));
        }
        if !wait.is_zero() {
            return Err(Later::At(Obstacle::Pause(pause.until)));
        }
        progress.pause = None;
        Ok(())
    }

    /// Closes the connections that are idle.
    pub(crate) fn close_idle(&self) {
        self.http.close_idle();
    }
}

impl Fetcher for Exchange {
    type Turn<'a> = Turn<'a>;

    fn wait_for_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<Turn<'_>, Outcome> {
        loop {
            let waited = match self.admit(context, progress) {
                Ok(pass) => return self.turn(pass, context, progress),
                Err(Later::Over(outcome)) => return Err(outcome),
                Err(Later::At(Obstacle::Pause(until))) => context.sleep(until),
                Err(Later::At(Obstacle::First(first))) => first.wait(context),
            };
            waited.map_err(|error| progress.interrupted(error))?;
        }
    }

    fn poll_turn(
        &self,
        context: &Context,
        progress: &mut Progress,
        waker: &Waker,
    ) -> Result<Turn<'_>, Later<Instant>> {
        match self.admit(context, progress) {
            Ok(pass) => self.turn(pass, context, progress).map_err(Later::Over),
            Err(Later::Over(outcome)) => Err(Later::Over(outcome)),
            Err(Later::At(Obstacle::Pause(until))) => Err(Later::At(until)),
            Err(Later::At(Obstacle::First(first))) => Err(Later::At(first.wake_at_end(waker))),
        }
    }

    fn attempt(
        &self,
        turn: Turn<'_>,
        user: &SignedUser<'_>,
        context: &Context,
        progress: &mut Progress,
    ) -> Option<Outcome> {
        if turn.pass.was_withdrawn() {
            return None;
        }
        let (result, requests) = self.send(turn, user, context);
        progress.attempts += 1;
        progress.sent += requests;
        let failure = match result {
            Ok(response) => {
                if progress.attempts == 1 {
                    self.budget.refund();
                }
                return Some(Outcome::Granted(response));
            }
            Err(failure) => failure.with_attempts(progress.sent),
        };
        if is_the_callers_own(&failure) {
            progress.break_off(requests, self.max_attempts);
            return Some(Outcome::Interrupted(failure));
        }
        let wait = retry::wait_before_next(
            &failure,
            progress.attempts,
            self.max_attempts,
            random::fraction(),
        );
        let Some(wait) = wait else {
            return Some(Outcome::Failed(failure));
        };
        progress.pause = Some(Pause { until: Instant::now() + wait, failure, paid: false });
        None
    }
}

/// What an attempt has to wait for.
enum Obstacle {
    Pause(Instant),
    /// The call that goes first after a hold.
    First(Arc<First>),
}

/// Whether a failure says something about the call, and nothing about the exchange.
fn is_the_callers_own(failure: &Error) -> bool {
    matches!(failure.kind(), ErrorKind::Timeout | ErrorKind::Cancelled | ErrorKind::Closed)
}

/// How far an exchange has come. Another call may go on with it from here.
#[derive(Default)]
pub(crate) struct Progress {
    /// Attempts that were begun.
    attempts: u32,
    /// Requests that were sent.
    sent: u32,
    /// The wait between the last attempt and the next.
    pause: Option<Pause>,
    /// The part of the store.
    sharing: Sharing,
    /// It was counted as an exchange.
    is_counted: bool,
}

struct Pause {
    until: Instant,
    /// The reason, and the result if there is no next attempt.
    failure: Error,
    /// The retry is paid for. A call that goes on with the exchange does not pay again.
    paid: bool,
}

impl Progress {
    /// After an attempt that failed; no other before `until`.
    #[cfg(test)]
    pub(crate) fn paused(until: Instant, failure: Error) -> Self {
        let pause = Some(Pause { until, failure, paid: false });
        Self { attempts: 1, sent: 1, pause, ..Self::default() }
    }

    /// Before the store is asked. It must not answer with the token that is to be renewed.
    pub(crate) fn beginning_with_store(renews: Option<&[u8]>) -> Self {
        Self { sharing: Sharing::look(renews), ..Self::default() }
    }

    /// The exchange has not begun: the store may have a token.
    pub(crate) fn asks_store(&self) -> bool {
        self.sharing.asks()
    }

    /// The store is of no use: an exchange is next.
    pub(crate) fn leave_store(&mut self) {
        self.sharing = Sharing::Over;
    }

    /// Whether to count an exchange now: once, and not while the store is asked.
    pub(crate) fn begins(&mut self) -> bool {
        !self.asks_store() && !std::mem::replace(&mut self.is_counted, true)
    }

    /// How many requests were sent.
    pub(crate) fn requests(&self) -> u32 {
        self.sent
    }

    /// A failure that was found in a good response.
    pub(crate) fn with_response(&self, failure: Error) -> Error {
        failure.with_http_status(200).with_attempts(self.sent)
    }

    /// The failure of the last attempt, if a call with this deadline has no time for the next one.
    pub(crate) fn failure_at(&self, deadline: Instant) -> Option<&Error> {
        let pause = self.pause.as_ref()?;
        let left = deadline.saturating_duration_since(pause.until);
        (!retry::fits(Duration::ZERO, left)).then_some(&pause.failure)
    }

    fn interrupted(&self, error: Error) -> Outcome {
        Outcome::Interrupted(error.with_attempts(self.sent))
    }

    /// The last attempt was interrupted. It counts if a request went out, but one more is always left:
    /// no call fails because another ran out of time. So callers that are stopped one after the other
    /// send a request each, as they would alone.
    fn break_off(&mut self, requests: u32, max_attempts: u32) {
        if requests == 0 {
            self.attempts -= 1;
        }
        self.attempts = self.attempts.min(max_attempts - 1);
    }
}

/// The result of an exchange, for now.
pub(crate) enum Outcome {
    Granted(TokenResponse),
    /// No exchange was made: another process has made one.
    Shared(TokenResponse),
    /// Every caller would have failed.
    Failed(Error),
    /// The caller was stopped, or had no time left. Another may go on.
    Interrupted(Error),
}

#[cfg(test)]
mod tests;
