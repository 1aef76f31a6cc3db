//! The pool of connections, and the permits that bound how many are in use.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::Instant;

use super::agent::{Agent, AgentConfig};
use super::limits::IDLE_MAX;
use super::target::Target;
use crate::context::Context;
use crate::error::Error;
use crate::fork::{Inherit, generation, try_lock};
use crate::net::{CallIo, Phase, internal};

/// A connection, once its first call has made it.
///
/// Each has an agent of its own: so a connection belongs to one call at a time, and stopping a call
/// touches no other.
pub(crate) struct PooledConnection {
    pub(crate) agent: Agent,
    pub(crate) call: Arc<CallIo>,
    idle_since: Instant,
}

/// The connections of a client in this process. The lock is held for a few instructions, never across
/// I/O.
pub(crate) struct ConnectionPool {
    target: Arc<Target>,
    config: AgentConfig,
    in_flight_max: usize,
    state: Mutex<State>,
}

struct State {
    /// How many more exchanges may be in flight.
    free: usize,
    /// The calls that wait for a permit, first come first served.
    queue: VecDeque<Arc<Waiter>>,
    /// The one used last is at the back and is used next, because it is the least likely to be stale.
    /// Least-recently used connections expire from the front.
    idle: VecDeque<PooledConnection>,
}

struct Waiter {
    thread: Thread,
    granted: AtomicBool,
}

/// The right to one exchange in flight. Its drop hands it to the next waiter.
pub(crate) struct Permit<'a> {
    pool: &'a ConnectionPool,
    made_in: u64,
}

impl<'a> Permit<'a> {
    fn new(pool: &'a ConnectionPool) -> Self {
        Self { pool, made_in: generation() }
    }

    pub(crate) fn pool(&self) -> &'a ConnectionPool {
        self.pool
    }
}

impl ConnectionPool {
    pub(crate) fn new(target: Arc<Target>, config: AgentConfig, in_flight_max: usize) -> Self {
        let state = State { free: in_flight_max, queue: VecDeque::new(), idle: VecDeque::new() };
        Self { target, config, in_flight_max, state: Mutex::new(state) }
    }

    /// Waits for its turn, first come first served.
    pub(crate) fn permit(&self, context: &Context) -> Result<Permit<'_>, Error> {
        context.check()?;
        let waiter = {
            let mut state = self.state();
            if state.free > 0 {
                state.free -= 1;
                return Ok(Permit::new(self));
            }
            let waiter = Arc::new(Waiter {
                thread: std::thread::current(),
                granted: AtomicBool::new(false),
            });
            state.queue.push_back(Arc::clone(&waiter));
            waiter
        };
        match context.wait_for(Phase::Permit.doing(), || waiter.granted.load(Ordering::Acquire)) {
            Ok(()) => Ok(Permit::new(self)),
            Err(error) => Err(self.give_up(&waiter, context, error)),
        }
    }

    /// Leaves the queue. A permit that was granted meanwhile goes to the next.
    fn give_up(&self, waiter: &Arc<Waiter>, context: &Context, why: Error) -> Error {
        if context.is_inherited() {
            return why;
        }
        let mut state = self.state();
        state.queue.retain(|other| !Arc::ptr_eq(other, waiter));
        if waiter.granted.load(Ordering::Acquire) {
            state.release();
        }
        why
    }

    /// An idle connection, else a new one.
    pub(crate) fn take(&self, context: &Context) -> Result<PooledConnection, Error> {
        let now = Instant::now();
        let (idle, expired) = {
            let mut state = self.state();
            (state.idle.pop_back(), state.take_expired(now))
        };
        drop(expired); // closes connections: not under the lock
        idle.map_or_else(|| self.make(context), Ok)
    }

    pub(crate) fn put_back(&self, mut connection: PooledConnection, context: &Context) {
        connection.idle_since = Instant::now();
        let mut state = self.state();
        // Under the lock: the client is marked as closed before its idle connections are dropped.
        if !context.is_closed() {
            state.idle.push_back(connection);
        }
    }

    /// Later calls make new ones.
    pub(crate) fn drop_idle(&self) {
        let idle = std::mem::take(&mut self.state().idle);
        drop(idle); // closes connections: not under the lock
    }

    /// In a child: closes its copies of the idle connections, and sends nothing. Connections that were in
    /// use at the fork stay: the stacks that hold them are gone.
    pub(crate) fn drop_inherited_connections(&self) {
        let idle = try_lock(&self.state).map(|mut state| std::mem::take(&mut state.idle));
        drop(idle);
    }

    /// A new one, which its first call connects.
    pub(crate) fn make(&self, context: &Context) -> Result<PooledConnection, Error> {
        let call = CallIo::new(context).map_err(|error| internal("a socket pair", &error))?;
        let call = Arc::new(call);
        let agent = Agent::new(&self.config, Arc::clone(&self.target), Arc::clone(&call));
        Ok(PooledConnection { agent, call, idle_since: Instant::now() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inherit for ConnectionPool {
    fn abandon(self) {
        // Only an exchange locks what a target holds.
        let at_rest = try_lock(&self.state).is_some_and(|state| state.free == self.in_flight_max);
        if !at_rest {
            std::mem::forget(self);
        }
    }
}

impl State {
    fn take_expired(&mut self, now: Instant) -> Vec<PooledConnection> {
        let fresh = self.idle.partition_point(|connection| {
            now.saturating_duration_since(connection.idle_since) >= IDLE_MAX
        });
        self.idle.drain(..fresh).collect()
    }

    /// Hands a permit to the first waiter.
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
        if self.made_in == generation() {
            self.pool.state().release();
        }
    }
}
