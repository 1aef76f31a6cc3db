//! The pool: each slot is one connection at most, and whoever uses it now.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use super::IDLE_MAX;
use super::connect::Target;
use super::control::{Control, internal};
use super::transport::{ResolvedLater, SlotConnector};
use crate::error::Error;

/// A ureq agent that keeps one connection, and the control of the call that uses it.
///
/// One agent per slot, and not one for all: so the connection is the call's own, and what stops
/// one call touches no other.
pub(crate) struct Slot {
    pub(crate) agent: ureq::Agent,
    pub(crate) control: Arc<Control>,
    idle_since: Instant,
}

/// All slots of a client. The lock is held for a few instructions, never across I/O.
pub(crate) struct Slots {
    target: Arc<Target>,
    config: ureq::config::Config,
    state: Mutex<State>,
}

struct State {
    closed: bool,
    /// The one used last is at the back and is used next: it is the least likely to be stale, and
    /// those that are not needed grow old at the front.
    idle: VecDeque<Slot>,
    /// Every slot that there is, idle or in use.
    all: Vec<Weak<Control>>,
}

impl Slots {
    pub(crate) fn new(target: Arc<Target>, config: ureq::config::Config) -> Self {
        let state = State {
            closed: false,
            idle: VecDeque::new(),
            all: Vec::new(),
        };
        Self {
            target,
            config,
            state: Mutex::new(state),
        }
    }

    /// An idle slot, else a new one.
    pub(crate) fn take(&self) -> Result<Slot, Error> {
        let (idle, expired) = {
            let mut state = self.state();
            if state.closed {
                return Err(Error::closed());
            }
            (state.idle.pop_back(), state.take_expired())
        };
        drop(expired); // closes connections: not under the lock
        idle.map_or_else(|| self.make(), Ok)
    }

    pub(crate) fn put_back(&self, mut slot: Slot) {
        slot.idle_since = Instant::now();
        let mut state = self.state();
        if state.closed {
            drop(state);
            drop(slot);
            return;
        }
        state.idle.push_back(slot);
    }

    /// Ends every call in flight at once; `take` fails from now on.
    pub(crate) fn close(&self) {
        let (idle, all) = {
            let mut state = self.state();
            state.closed = true;
            (
                std::mem::take(&mut state.idle),
                std::mem::take(&mut state.all),
            )
        };
        drop(idle);
        all.iter()
            .filter_map(Weak::upgrade)
            .for_each(|control| control.close());
    }

    fn make(&self) -> Result<Slot, Error> {
        let control = Arc::new(Control::new().map_err(|error| internal("a socket pair", &error))?);
        self.register(&control)?;
        let connector = SlotConnector {
            target: Arc::clone(&self.target),
            control: Arc::clone(&control),
        };
        let agent = ureq::Agent::with_parts(self.config.clone(), connector, ResolvedLater);
        Ok(Slot {
            agent,
            control,
            idle_since: Instant::now(),
        })
    }

    fn register(&self, control: &Arc<Control>) -> Result<(), Error> {
        let mut state = self.state();
        if state.closed {
            return Err(Error::closed()); // since `take` looked
        }
        state.all.retain(|control| control.strong_count() > 0);
        state.all.push(Arc::downgrade(control));
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take_expired(&mut self) -> Vec<Slot> {
        let now = Instant::now();
        let fresh = self
            .idle
            .partition_point(|slot| now.duration_since(slot.idle_since) >= IDLE_MAX);
        self.idle.drain(..fresh).collect()
    }
}
