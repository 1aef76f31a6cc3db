//! Step two: the signature for the access token, by the rules of `POST /v3/auth/hmac`.

mod classify;
mod fetcher;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod hold;
mod probe;
mod problem;
mod progress;
mod rate;
mod reply;
mod request;
mod retry;
mod retry_after;
mod scrub;
mod shared;

use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crate::config::{ApplicationId, Config};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::http::{HttpClient, Permit, Settings};
use crate::keyring::Keyring;
use crate::random;
use crate::signing::Signature;
use crate::token::{AccessToken, TokenResponse};
use crate::user_id::UserId;
pub(crate) use fetcher::{Fetcher, Later};
use hold::{Admission, First, Hold, Pass};
pub(crate) use probe::Trial;
use progress::Pause;
pub(crate) use progress::Progress;
use rate::RateLimit;
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
    rate: Option<Arc<RateLimit>>,
    ring: Arc<Keyring>,
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
    pub(crate) fn new(
        config: &Config,
        application_id: &ApplicationId,
        ring: &Arc<Keyring>,
    ) -> Result<Self, Error> {
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
            rate: RateLimit::new(config.max_rate),
            ring: Arc::clone(ring),
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
    /// connection was dead. `date` receives the response's own.
    #[inline(never)] // two callers
    fn send(
        &self,
        turn: Turn<'_>,
        user: &SignedUser<'_>,
        context: &Context,
        date: Option<&mut Option<String>>,
    ) -> (Result<TokenResponse, Error>, u32) {
        let body = self.body.with(user.user, user.signature);
        let (result, requests) = match self.http.post_json(&turn.permit, &body, context) {
            Ok(response) => {
                let requests = response.requests;
                if let Some(date) = date {
                    date.clone_from(&response.date);
                }
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
            let now = Instant::now();
            if let Some(rate) = &self.rate
                && !self.hold.is_on(now)
            {
                let at = rate.reserve(&mut progress.slot, now);
                if at > now {
                    progress.wait_until(at, rate.failure(at, now));
                    continue;
                }
            }
            match self.hold.admit(now) {
                Admission::Go(pass) => return Ok(pass),
                Admission::Queue(first) => return Err(Later::At(Obstacle::First(first))),
                Admission::Wait(until, failure) => progress.wait_until(until, failure),
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

    /// Whether the client has another key by now, with which the next attempt is made.
    fn sign_anew(
        &self,
        user: &SignedUser<'_>,
        progress: &mut Progress,
        sign: impl Fn(&Keyring, UserId<'_>, &Signature) -> Option<Signature>,
    ) -> bool {
        let anew = sign(&self.ring, user.user, progress.signature_of(user));
        let has_other = anew.is_some();
        if let Some(anew) = anew {
            progress.signature = Some(Box::new(anew));
        }
        has_other
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
        let now = Instant::now();
        if self.rate.as_ref().is_some_and(|rate| !rate.spend(&mut progress.slot, now)) {
            return None;
        }
        self.sign_anew(user, progress, Keyring::sign_anew);
        let signed = SignedUser { signature: progress.signature_of(user), ..*user };
        let (result, requests) = self.send(turn, &signed, context, None);
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
        if failure.kind() == ErrorKind::Unauthorized
            && self.sign_anew(user, progress, Keyring::after_refusal)
        {
            return None; // one more attempt, however many there were
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
        let until = Instant::now() + wait;
        progress.pause = Some(Box::new(Pause { until, failure, paid: false }));
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
