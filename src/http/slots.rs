//! The pool: a bounded number of slots, each with one connection at most and whoever uses it now.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use super::connect::Target;
use super::control::Control;
use super::errors::{Phase, internal};
use super::limits::IDLE_MAX;
use super::transport::{ResolvedLater, SlotConnector};
use crate::context::Context;
use crate::error::Error;
use crate::fork::{Inherit, try_lock};

/// A ureq agent that keeps one connection, and the control of the call that uses it.
///
/// One agent per slot, and not one for all: so the connection is the call's own, and what stops
/// one call touches no other.
pub(crate) struct Slot {
    pub(crate) agent: ureq::Agent,
    pub(crate) control: Arc<Control>,
    idle_since: Instant,
}

/// All slots of a client in this process. The lock is held for a few instructions, never across
/// I/O.
pub(crate) struct Slots {
    target: Arc<Target>,
    config: ureq::config::Config,
    in_flight_max: usize,
    state: Mutex<State>,
}

struct State {
    /// How many more exchanges may be in flight.
    free: usize,
    /// Who waits for one of them, in the order in which they came.
    queue: VecDeque<Arc<Ticket>>,
    /// The one used last is at the back and is used next: it is the least likely to be stale, and
    /// those that are not needed grow old at the front.
    idle: VecDeque<Slot>,
}

/// One place in the queue.
struct Ticket {
    thread: Thread,
    granted: AtomicBool,
}

/// The right to one exchange in flight; it goes to the next in the queue when this is dropped.
pub(crate) struct Permit<'a>(&'a Slots);

impl<'a> Permit<'a> {
    pub(crate) fn slots(&self) -> &'a Slots {
        self.0
    }
}

impl Slots {
    pub(crate) fn new(
        target: Arc<Target>,
        config: ureq::config::Config,
        in_flight_max: usize,
    ) -> Self {
        let state = State { free: in_flight_max, queue: VecDeque::new(), idle: VecDeque::new() };
        Self { target, config, in_flight_max, state: Mutex::new(state) }
    }

    /// Waits for its turn, first come first served.
    pub(crate) fn permit(&self, context: &Context) -> Result<Permit<'_>, Error> {
        context.check()?;
        let ticket = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Permit(self));
            }
            let ticket = Arc::new(Ticket {
                thread: std::thread::current(),
                granted: AtomicBool::new(false),
            });
            state.queue.push_back(Arc::clone(&ticket));
            ticket
        };
        match context.wait_for(Phase::Permit.doing(), || ticket.granted.load(Ordering::Acquire)) {
            Ok(()) => Ok(Permit(self)),
            Err(error) => Err(self.give_up(&ticket, error)),
        }
    }

    /// Leaves the queue. A permit that was granted meanwhile goes to the next.
    fn give_up(&self, ticket: &Arc<Ticket>, why: Error) -> Error {
        let mut state = self.state();
        state.queue.retain(|other| !Arc::ptr_eq(other, ticket));
        if ticket.granted.load(Ordering::Acquire) {
            state.release();
        }
        why
    }

    /// An idle slot, else a new one.
    pub(crate) fn take(&self, context: &Context) -> Result<Slot, Error> {
        let now = Instant::now();
        let (idle, expired) = {
            let mut state = self.state();
            (state.idle.pop_back(), state.take_expired(now))
        };
        drop(expired); // closes connections: not under the lock
        idle.map_or_else(|| self.make(context), Ok)
    }

    pub(crate) fn put_back(&self, mut slot: Slot, context: &Context) {
        slot.idle_since = Instant::now();
        let mut state = self.state();
        // Under the lock: the client is marked as closed before its idle connections are dropped.
        if !context.is_closed() {
            state.idle.push_back(slot);
        }
    }

    /// Later calls make new ones.
    pub(crate) fn drop_idle(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle); // closes connections: not under the lock
    }

    /// In a child: closes its copies of the connections at rest, without a word to the service. Those
    /// that were in use at the fork are out of reach: what holds them is a stack that is gone.
    pub(crate) fn drop_inherited_connections(&self) {
        let idle = try_lock(&self.state).map(|mut state| std::mem::take(&mut state.idle));
        drop(idle);
    }

    /// A slot without a connection.
    pub(crate) fn make(&self, context: &Context) -> Result<Slot, Error> {
        let control = Control::new(context).map_err(|error| internal("a socket pair", &error))?;
        let control = Arc::new(control);
        let connector =
            SlotConnector { target: Arc::clone(&self.target), control: Arc::clone(&control) };
        let agent = ureq::Agent::with_parts(self.config.clone(), connector, ResolvedLater);
        Ok(Slot { agent, control, idle_since: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inherit for Slots {
    fn abandon(self) {
        // Only an exchange locks what a target holds.
        let at_rest = try_lock(&self.state).is_some_and(|state| state.free == self.in_flight_max);
        if !at_rest {
            std::mem::forget(self);
        }
    }
}

impl State {
    fn take_expired(&mut self, now: Instant) -> Vec<Slot> {
        let fresh = self
            .idle
            .partition_point(|slot| now.saturating_duration_since(slot.idle_since) >= IDLE_MAX);
        self.idle.drain(..fresh).collect()
    }

    /// Gives a permit to whoever has waited longest.
    fn release(&mut self) {
        match self.queue.pop_front() {
            Some(next) => {
                next.granted.store(true, Ordering::Release);
                next.thread.unpark();
            }
            None => self.free += 1,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.0.state().release();
    }
}
