//! Who makes the exchange for all processes: the one that holds the lease.
//!
//! A lease saves requests. Nothing is wrong without it: a leader that comes late writes over nothing newer,
//! and a process that waited long enough makes an exchange of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::claim::{Claim, swap};
use super::process::{count, hash};
use super::record::{LEASE_TIME, Lease, UserKeys, lease_in};
use super::wire::{Commands, Replies, Reply, command};
use super::{Failure, Operation, Store, errors, set_lease};
use crate::context::Context;
use crate::error::Error;
use crate::random;
use crate::token::TokenResponse;
use crate::user_id::UserId;

/// Between two looks while another process leads.
const PAUSE_FIRST: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// How far a flight has come with the store. A call that goes on with the flight goes on from here.
#[derive(Default)]
pub(crate) enum Sharing {
    /// The store has no part in what follows.
    #[default]
    Over,
    /// It is asked next. A token with the hash `renews` is no answer: it is to be renewed. `again`: a lease that was
    /// waited for has run out.
    Look { renews: Option<u64>, again: bool },
    /// Another process makes the exchange.
    Waits(Box<Wait>),
    /// This one makes the exchange, and hands the token to the store.
    Leads(Box<Claim>),
}

pub(crate) struct Wait {
    keys: UserKeys,
    renews: Option<u64>,
    /// The lease that is waited for, and when it runs out; `None`: another process was faster a moment ago.
    lease: Option<(Lease, Instant)>,
    /// It is the second one.
    again: bool,
    began: Instant,
    pause: Duration,
    next: Instant,
}

/// What was found in the store.
enum Value {
    Nothing,
    MyLease,
    /// And when it runs out.
    Lease(Lease, Instant),
    Token(TokenResponse),
    /// A token that was rejected or is to be renewed, or what cannot be read.
    Unusable(Vec<u8>),
}

/// What became of the command that takes the lease.
enum Taken {
    Yes,
    No,
    Refused,
}

impl Sharing {
    pub(crate) fn look(renews: Option<&[u8]>) -> Self {
        Self::Look { renews: renews.map(hash), again: false }
    }

    /// Whether the store is asked next.
    pub(crate) fn asks(&self) -> bool {
        matches!(self, Self::Look { .. } | Self::Waits(_))
    }

    /// Until when to wait first.
    pub(crate) fn pause(&self) -> Option<Instant> {
        match self {
            Self::Waits(wait) => Some(wait.next),
            _ => None,
        }
    }

    /// The exchange brought a token.
    #[inline(never)] // its stack is not that of an exchange
    pub(crate) fn put(&mut self, response: &TokenResponse, context: &Context) {
        if let Self::Leads(claim) = std::mem::take(self) {
            claim.put(response, context);
        }
    }

    /// The exchange failed.
    #[inline(never)]
    pub(crate) fn release(&mut self, context: &Context) {
        if let Self::Leads(claim) = std::mem::take(self) {
            claim.release(context);
        }
    }
}

impl Store {
    /// One operation of a flight that [asks](Sharing::asks). Returns a token, or goes on with `sharing`. Fails if the
    /// call is stopped.
    #[inline(never)] // its stack is not that of an exchange
    pub(crate) fn step(
        self: &Arc<Self>,
        user: UserId<'_>,
        context: &Context,
        sharing: &mut Sharing,
    ) -> Result<Option<TokenResponse>, Error> {
        let step = match sharing {
            Sharing::Look { renews, again } => self.first_look(user, *renews, *again, context),
            Sharing::Waits(wait) => self.look_again(wait, context),
            Sharing::Over | Sharing::Leads(_) => return Ok(None),
        };
        let counters = &self.process().counters;
        *sharing = match step {
            Ok(Step::Token(response)) => return Ok(Some(response)),
            Ok(Step::Waits(wait)) => Sharing::Waits(Box::new(wait)),
            Ok(Step::WaitsOn) => return Ok(None),
            Ok(Step::LooksAgain(renews)) => Sharing::Look { renews, again: true },
            Ok(Step::Leads(claim)) => {
                count(&counters.misses);
                Sharing::Leads(Box::new(claim))
            }
            Err(Failure::Stopped(error)) => return Err(error), // the next leader asks again
            Err(Failure::Skipped) => {
                count(&counters.skipped);
                Sharing::Over
            }
            // After a failed look no write is tried.
            Ok(Step::Over) | Err(Failure::Unusable(_)) => Sharing::Over,
        };
        Ok(None)
    }

    /// Looks, and takes the lease if nothing is there: one write, three replies. A record that is of no use is
    /// replaced by the lease.
    fn first_look(
        self: &Arc<Self>,
        user: UserId<'_>,
        renews: Option<u64>,
        again: bool,
        context: &Context,
    ) -> Result<Step, Failure> {
        let keys = self.keys.of(user).map_err(Failure::Unusable)?;
        let lease = self.process().lease;
        let asked = Instant::now();
        let name = keys.name;
        let write = |out: &mut Commands| {
            look(out, &name);
            set_lease(out, &name, &lease);
        };
        let read = |replies: &Replies<'_>| {
            let value = self.value(replies, &keys, renews, asked)?;
            let taken = match replies.get(2) {
                Reply::Status(_) => Taken::Yes,
                Reply::Nil => Taken::No,
                Reply::Error(_) => Taken::Refused,
                _ => return Err(errors::unexpected("SET")),
            };
            Ok((value, taken))
        };
        let undo = |out: &mut Commands| swap(out, &name, &lease, b"", Duration::ZERO);
        let operation = Operation { name: &name, count: 3, write: &write, undo: Some(&undo) };
        let (value, taken) = self.ask(context, false, &operation, read)?;
        let waits = |keys, lease| Ok(Step::Waits(Wait::new(keys, renews, lease, again, context)));
        match (value, taken) {
            (_, Taken::Yes) | (Value::MyLease, _) => Ok(self.leads(keys)),
            (Value::Token(response), _) => Ok(Step::Token(response)),
            (Value::Unusable(record), _) => {
                match self.swap(&keys, &record, &lease, LEASE_TIME, context)? {
                    Some(true) => Ok(self.leads(keys)),
                    Some(false) => waits(keys, None), // another was faster
                    None => Ok(Step::Over),
                }
            }
            (Value::Lease(lease, ends), _) => {
                count(&self.process().counters.waits);
                waits(keys, Some((lease, ends)))
            }
            (Value::Nothing, Taken::No) => waits(keys, None),
            (Value::Nothing, Taken::Refused) => {
                self.note_refusal();
                Ok(Step::Over)
            }
        }
    }

    /// Looks whether the leader is done.
    fn look_again(self: &Arc<Self>, wait: &mut Wait, context: &Context) -> Result<Step, Failure> {
        let (name, asked) = (wait.keys.name, Instant::now());
        let write = |out: &mut Commands| look(out, &name);
        let read = |replies: &Replies<'_>| self.value(replies, &wait.keys, wait.renews, asked);
        let operation = Operation { name: &name, count: 2, write: &write, undo: None };
        let value = self.ask(context, false, &operation, read)?;
        let expected = match value {
            Value::Token(response) => return Ok(Step::Token(response)),
            Value::MyLease => return Ok(self.leads(wait.keys.take())),
            Value::Lease(lease, ends) if wait.goes_on_for(lease, context) => {
                if wait.lease.replace((lease, ends)).is_none() {
                    count(&self.process().counters.waits);
                }
                return Ok(Step::WaitsOn);
            }
            Value::Unusable(record) => record,
            // Its holder died. One of those that waited takes the lease, and the others wait once more: otherwise
            // each would make an exchange.
            Value::Lease(..) | Value::Nothing if wait.has_run_out() => {
                return Ok(Step::LooksAgain(wait.renews));
            }
            // Over without a token, or held by yet another, or too long: an exchange without a lease. To take one at
            // each look would make failures serial.
            Value::Lease(..) | Value::Nothing => {
                wait.lease.map(|(lease, _)| Vec::from(lease)).unwrap_or_default()
            }
        };
        Ok(Step::Leads(self.claim(wait.keys.take(), expected, false)))
    }

    fn leads(self: &Arc<Self>, keys: UserKeys) -> Step {
        let lease = self.process().lease.to_vec();
        Step::Leads(self.claim(keys, lease, true))
    }

    /// Judges the replies to [`look`], for which the store was asked at `asked`.
    fn value(
        &self,
        replies: &Replies<'_>,
        keys: &UserKeys,
        renews: Option<u64>,
        asked: Instant,
    ) -> Result<Value, Error> {
        let left = match replies.get(1) {
            Reply::Integer(ms) => ms,
            other => return Err(errors::refused("PTTL", other)),
        };
        let value = match replies.get(0) {
            Reply::Bulk(value) => value,
            Reply::Nil => return Ok(Value::Nothing),
            other => return Err(errors::refused("GET", other)),
        };
        let process = self.process();
        if value == process.lease {
            return Ok(Value::MyLease);
        }
        if let Some(lease) = lease_in(value) {
            let left = u64::try_from(left).map_or(LEASE_TIME, Duration::from_millis);
            return Ok(Value::Lease(lease, asked + left.min(LEASE_TIME)));
        }
        let lifetime = match u64::try_from(left) {
            // Never later than the store removes it, however long the reply took.
            Ok(ms) => Duration::from_millis(ms).saturating_sub(asked.elapsed()).min(self.age_max),
            Err(_) if left == -1 => self.age_max, // an operator made it stay
            Err(_) => Duration::ZERO,             // it ended between the two commands
        };
        if lifetime.is_zero() {
            return Ok(Value::Nothing);
        }
        Ok(match keys.open(value) {
            Some(token)
                if !process.is_reported(token.as_bytes())
                    && renews.is_none_or(|renews| renews != hash(token.as_bytes())) =>
            {
                Value::Token(TokenResponse { token, lifetime: Some(lifetime) })
            }
            _ => Value::Unusable(value.to_vec()),
        })
    }
}

/// What comes of a look.
enum Step {
    Token(TokenResponse),
    Waits(Wait),
    /// As before.
    WaitsOn,
    /// The lease has run out. Holds what is renewed.
    LooksAgain(Option<u64>),
    /// The store takes no writes.
    Over,
    Leads(Claim),
}

impl Wait {
    /// `lease`: another process makes the exchange. `None`: looks again at once.
    fn new(
        keys: UserKeys,
        renews: Option<u64>,
        lease: Option<(Lease, Instant)>,
        again: bool,
        context: &Context,
    ) -> Self {
        let (now, pause) = (Instant::now(), PAUSE_FIRST);
        let mut this = Self { keys, renews, lease, again, began: now, pause, next: now };
        if lease.is_some() {
            this.advance(context);
        }
        this
    }

    /// Whether to wait on, now that `lease` was found: for one lease.
    fn goes_on_for(&mut self, lease: Lease, context: &Context) -> bool {
        let is_another = self.lease.is_some_and(|(awaited, _)| awaited != lease);
        if is_another || Instant::now() >= self.last_look(context) {
            return false;
        }
        self.advance(context);
        true
    }

    /// A wait takes at most as long as a lease lasts, and half the time that the call had left.
    fn last_look(&self, context: &Context) -> Instant {
        let had = context.deadline.at.saturating_duration_since(self.began);
        self.began + LEASE_TIME.min(had / 2)
    }

    /// Whether the first lease lasted to its end. A leader whose exchange failed releases it before.
    fn has_run_out(&self) -> bool {
        !self.again && self.lease.is_some_and(|(_, ends)| ends <= Instant::now())
    }

    fn advance(&mut self, context: &Context) {
        // A quarter more or less: those that wait do not all look at once.
        let next = Instant::now() + self.pause.mul_f64(0.75 + random::fraction() / 2.0);
        self.next = next.min(self.last_look(context));
        self.pause = PAUSE_MAX.min(self.pause * 2);
    }
}

/// The record, and how long it stands.
fn look(out: &mut Commands, name: &[u8]) {
    command(out, &[b"GET", name]);
    command(out, &[b"PTTL", name]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::context::CancelToken;
    use crate::keyring::Keyring;

    fn keys() -> UserKeys {
        let mut config = Config::new().unwrap();
        config.set_application_id(b"1").unwrap();
        config.set_hmac_key(b"key").unwrap();
        config.set_store(b"redis://localhost").unwrap();
        let ring = Arc::new(Keyring::new(&config));
        let store =
            Store::new(&config, config.application_id.as_ref().unwrap(), &ring).unwrap().unwrap();
        store.keys.of(UserId::new(b"alice").unwrap()).unwrap()
    }

    #[test]
    fn no_look_is_later_than_half_the_time_of_a_call_or_a_lease() {
        for (timeout_ms, longest_ms) in [(1, 0), (4, 2), (8, 4), (1000, 500), (60_000, 5000)] {
            let timeout = Duration::from_millis(timeout_ms);
            let context = Context::new(timeout, None, &CancelToken::new());
            let lease = ([0; 17], Instant::now() + LEASE_TIME);
            let mut wait = Wait::new(keys(), None, Some(lease), false, &context);
            let latest = wait.began + Duration::from_millis(longest_ms + 1);
            for _ in 0..20 {
                assert!(wait.next <= latest, "{timeout_ms}");
                wait.advance(&context);
            }
        }
    }
}
