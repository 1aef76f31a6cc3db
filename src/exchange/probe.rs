//! One attempt of an exchange, for a report.

use std::time::{Instant, SystemTime};

use super::{Exchange, Fetcher, Outcome, Progress, SignedUser, classify};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::http::Route;
use crate::signing::Signature;
use crate::token::TokenResponse;

/// The reply, and what it tells of the clocks.
pub(crate) struct Trial {
    pub(crate) result: Result<TokenResponse, Error>,
    /// By how many seconds this machine's clock is ahead of the service's, if the reply has a date.
    pub(crate) clock_ahead: Option<i64>,
}

impl Exchange {
    /// The way to the service.
    pub(crate) fn route(&self, context: &Context) -> Result<Route, Error> {
        self.http.probe(context)
    }

    /// Sends one request, when the hold and the rate limit allow it, and never repeats it, except with a key that has
    /// changed. The breaker is not asked.
    pub(crate) fn probe(&self, user: &SignedUser<'_>, context: &Context) -> Trial {
        let mut progress = Progress::default();
        let mut anew: Option<Signature> = None;
        loop {
            let signed = SignedUser { signature: anew.as_ref().unwrap_or(user.signature), ..*user };
            match self.send_once(&signed, context, &mut progress) {
                Ok(None) => {}
                Ok(Some(trial)) => match self.signature_in_place_of(&signed, &trial) {
                    None => return trial,
                    other => anew = other,
                },
                Err(error) => return Trial { result: Err(error), clock_ahead: None },
            }
        }
    }

    /// One with another key, if the service refused this one and there is another by now.
    fn signature_in_place_of(&self, signed: &SignedUser<'_>, trial: &Trial) -> Option<Signature> {
        let error = trial.result.as_ref().err()?;
        let is_refused = error.kind() == ErrorKind::Unauthorized;
        is_refused.then(|| self.ring.after_refusal(signed.user, signed.signature))?
    }

    /// `None` if another call used up the turn.
    fn send_once(
        &self,
        user: &SignedUser<'_>,
        context: &Context,
        progress: &mut Progress,
    ) -> Result<Option<Trial>, Error> {
        let turn = match self.wait_for_turn(context, progress) {
            Ok(turn) => turn,
            Err(Outcome::Failed(error) | Outcome::Interrupted(error)) => return Err(error),
            Err(_) => return Ok(None),
        };
        if turn.pass.was_withdrawn() {
            return Ok(None);
        }
        let now = Instant::now();
        if self.rate.as_ref().is_some_and(|rate| !rate.spend(&mut progress.slot, now)) {
            return Ok(None);
        }
        let body = self.body.with(user.user, user.signature);
        let response = self.http.post_json(&turn.permit, &body, context);
        let clock_ahead = response.as_ref().ok().and_then(|response| {
            let date = httpdate::parse_http_date(response.date.as_deref()?.trim()).ok()?;
            Some(seconds_ahead(SystemTime::now(), date))
        });
        let result = response.and_then(|response| classify::classify(response, user));
        turn.pass.end(result.as_ref().err(), Instant::now());
        Ok(Some(Trial { result, clock_ahead }))
    }
}

/// Whole seconds, rounded towards zero: a `Date` has no fractions.
fn seconds_ahead(ours: SystemTime, theirs: SystemTime) -> i64 {
    match ours.duration_since(theirs) {
        Ok(ahead) => ahead.as_secs() as i64,
        Err(behind) => -(behind.duration().as_secs() as i64),
    }
}
