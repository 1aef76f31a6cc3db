//! The threads behind started calls: workers that make exchanges, and one that keeps time.
//!
//! They are made when they are needed, and exist only while started calls are under way.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Request;
use crate::cache::WaiterId;
use crate::core::Core;
use crate::error::{Error, ErrorKind};
use crate::fork::Inherit;
use crate::threads;

const NAME: &str = "spike_auth";
/// A call needs up to 52 KiB.
const STACK: usize = 256 * 1024;
/// How long a worker waits when its call was stopped.
const AFTER_A_STOP: Duration = Duration::from_millis(5);
/// How long a thread without work stays, for the next call.
const LINGER: Duration = Duration::from_millis(10);

/// The started calls of one client in one process.
pub(crate) struct Engine {
    /// Weak: an engine that a child inherits is never freed, and must not keep tokens.
    core: Weak<Core>,
    workers_max: usize,
    state: Mutex<State>,
    work: Condvar,
    time: Condvar,
}

#[derive(Default)]
struct State {
    /// Calls that have not ended.
    pending: u64,
    /// The same by deadline, until it has passed.
    deadlines: BTreeMap<WaiterId, Arc<Request>>,
    /// First in, first out.
    runnable: VecDeque<Arc<Request>>,
    /// About how many of `runnable` have ended.
    stale: usize,
    paused: BTreeMap<(Instant, WaiterId), Arc<Request>>,
    workers: usize,
    /// Workers that wait for work.
    idle: usize,
    /// When the timer looks next by itself; `None` without a timer.
    timer: Option<Instant>,
    /// When the last call ended.
    idle_since: Option<Instant>,
    /// Threads without work end at once.
    is_closing: bool,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    pub(crate) fn new(core: &Arc<Core>, workers_max: usize) -> Self {
        Self {
            core: Arc::downgrade(core),
            workers_max,
            state: Mutex::default(),
            work: Condvar::new(),
            time: Condvar::new(),
        }
    }

    /// `None` once the client is being freed.
    pub(super) fn core(&self) -> Option<Arc<Core>> {
        self.core.upgrade()
    }

    /// The number of calls that are under way.
    pub(crate) fn pending(&self) -> u64 {
        self.state().pending
    }

    /// Keeps the deadline of a call. Call [`Engine::forget`] when it ends, also after a failure.
    pub(super) fn register(self: &Arc<Self>, request: &Arc<Request>) -> Result<(), Error> {
        let mut state = self.state();
        state.pending += 1;
        state.deadlines.insert(request.id(), Arc::clone(request));
        self.keep_time_for(&mut state, request.id().deadline())
    }

    /// The call has ended.
    pub(super) fn forget(&self, id: WaiterId) {
        let mut state = self.state();
        state.pending -= 1;
        let request = state.deadlines.remove(&id);
        if state.pending == 0 {
            let now = Instant::now();
            state.idle_since = Some(now);
            // A thread that makes one call after the other does not wake the timer for each.
            if state.timer.is_some_and(|look| look > now + LINGER) {
                self.time.notify_one();
            }
        }
        drop(state);
        drop(request);
    }

    /// Gives a call that has a job to a worker, in its turn.
    pub(super) fn enqueue(self: &Arc<Self>, request: &Arc<Request>) -> Result<(), Error> {
        let mut state = self.state();
        self.make_runnable(&mut state, request)?;
        let has_idle = state.idle > 0;
        drop(state); // else the worker would wake and wait for the lock
        if has_idle {
            self.work.notify_one();
        }
        Ok(())
    }

    /// Gives it to a worker at `time`, or at once if it was woken, once `give_job` has given its job back.
    /// Under the lock: else a worker could look for the job before it is there.
    pub(super) fn pause<E>(
        self: &Arc<Self>,
        time: Instant,
        request: &Arc<Request>,
        give_job: impl FnOnce() -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.state();
        give_job()?;
        // Neither fails: the thread that calls this is a worker, and the timer is there for its deadline.
        if request.take_wake() {
            let _ = self.make_runnable(&mut state, request);
            self.work.notify_one();
        } else {
            state.paused.insert((time, request.id()), Arc::clone(request));
            let _ = self.keep_time_for(&mut state, time);
        }
        Ok(())
    }

    /// A call that waited for a worker, or until `time`, has ended. It does not stay in its list: a worker may
    /// come to it much later.
    pub(super) fn remove(&self, time: Option<Instant>, request: &Request) {
        let mut state = self.state();
        let paused = time.and_then(|time| state.paused.remove(&(time, request.id())));
        let ended = if paused.is_none() { state.take_ended() } else { Vec::new() };
        drop(state);
        drop((paused, ended));
    }

    /// Gives it to a worker before its time.
    pub(super) fn resume(
        self: &Arc<Self>,
        time: Instant,
        request: &Arc<Request>,
    ) -> Result<(), Error> {
        let mut state = self.state();
        match state.paused.remove(&(time, request.id())) {
            Some(request) => self.make_runnable(&mut state, &request)?,
            None => return Ok(()),
        }
        drop(state);
        self.work.notify_one();
        Ok(())
    }

    /// The caller notifies a worker.
    fn make_runnable(
        self: &Arc<Self>,
        state: &mut State,
        request: &Arc<Request>,
    ) -> Result<(), Error> {
        state.runnable.push_back(Arc::clone(request));
        self.provide_workers(state).inspect_err(|_| drop(state.runnable.pop_back()))
    }

    /// The client was closed: ends all calls.
    pub(crate) fn close(&self) {
        let all = self.state().deadlines.values().cloned().collect::<Vec<_>>();
        // Followers first: else each leader would hand over to the next.
        all.iter().for_each(|request| request.stop_following(Error::closed()));
        all.iter().for_each(|request| request.stop(Error::closed()));
    }

    /// Waits for the threads, after [`Engine::close`].
    pub(crate) fn join(&self) {
        self.state().is_closing = true;
        self.work.notify_all();
        self.time.notify_all();
        loop {
            let threads = std::mem::take(&mut self.state().threads);
            if threads.is_empty() {
                return;
            }
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }

    #[cfg(test)]
    pub(super) fn is_runnable(&self, request: &Arc<Request>) -> bool {
        self.state().runnable.iter().any(|other| Arc::ptr_eq(other, request))
    }

    fn provide_workers(self: &Arc<Self>, state: &mut State) -> Result<(), Error> {
        if state.runnable.len() <= state.idle || state.workers >= self.workers_max {
            return Ok(());
        }
        match self.spawn(state, Self::work) {
            Ok(()) => state.workers += 1,
            Err(error) if state.workers == 0 => return Err(no_thread(&error)),
            Err(_) => {} // those that are there do it
        }
        Ok(())
    }

    /// Makes sure that the timer looks at `time`.
    fn keep_time_for(self: &Arc<Self>, state: &mut State, time: Instant) -> Result<(), Error> {
        match state.timer {
            Some(look) if time < look => self.time.notify_one(),
            Some(_) => {}
            None => {
                self.spawn(state, Self::keep_time).map_err(|error| no_thread(&error))?;
                state.timer = Some(time);
            }
        }
        Ok(())
    }

    fn spawn(self: &Arc<Self>, state: &mut State, run: fn(&Arc<Self>)) -> io::Result<()> {
        let this = Arc::clone(self);
        let thread = threads::spawn(NAME, STACK, move || run(&this))?;
        state.threads.push(thread);
        Ok(())
    }

    /// A worker.
    fn work(self: &Arc<Self>) {
        while let Some(request) = self.next() {
            if request.run(self) {
                // Stops come in storms: the next call would connect, and be stopped too.
                thread::sleep(AFTER_A_STOP);
            }
        }
    }

    /// The next call to run; `None` if there is none for a while.
    fn next(self: &Arc<Self>) -> Option<Arc<Request>> {
        let mut state = self.state();
        loop {
            if let Some(request) = state.runnable.pop_front() {
                // Many pauses may have ended at once: each worker sees to the next.
                if !state.runnable.is_empty() {
                    let _ = self.provide_workers(&mut state);
                }
                return Some(request);
            }
            state.idle += 1;
            let (guard, timeout) =
                self.work.wait_timeout(state, LINGER).unwrap_or_else(PoisonError::into_inner);
            state = guard;
            state.idle -= 1;
            if (timeout.timed_out() || state.is_closing) && state.runnable.is_empty() {
                state.workers -= 1;
                join_finished(state);
                return None;
            }
        }
    }

    /// The timer.
    fn keep_time(self: &Arc<Self>) {
        let mut state = self.state();
        loop {
            let now = Instant::now();
            let (resumed, expired) = (state.take_resumed(now), state.take_expired(now));
            if resumed || !expired.is_empty() {
                let failed = if resumed { self.provide_workers(&mut state).err() } else { None };
                if resumed {
                    self.work.notify_all();
                }
                let stranded = failed.map(|error| (error, std::mem::take(&mut state.runnable)));
                drop(state);
                if let Some((error, stranded)) = stranded {
                    stranded.iter().for_each(|request| request.stop(error.clone()));
                }
                expired.iter().for_each(Request::expire);
                drop(expired);
                state = self.state();
                continue;
            }
            let next = state.next_time();
            let linger = state.idle_since.filter(|_| !state.is_closing).map(|since| since + LINGER);
            let look = next.or(linger).unwrap_or(now);
            if look <= now {
                state.timer = None;
                return join_finished(state);
            }
            state.timer = Some(look);
            let (guard, _) =
                self.time.wait_timeout(state, look - now).unwrap_or_else(PoisonError::into_inner);
            state = guard;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One more call in `runnable` has ended. Takes such calls out once they are the half, so that each costs a
    /// few steps.
    fn take_ended(&mut self) -> Vec<Arc<Request>> {
        self.stale += 1;
        if self.stale < 64 || self.stale * 2 < self.runnable.len() {
            return Vec::new();
        }
        self.stale = 0;
        let (ended, runnable) = std::mem::take(&mut self.runnable)
            .into_iter()
            .partition::<Vec<_>, _>(|call| call.has_ended());
        self.runnable = runnable.into();
        ended
    }

    fn next_time(&self) -> Option<Instant> {
        let deadline = self.deadlines.keys().next().map(|id| id.deadline());
        let pause = self.paused.keys().next().map(|(time, _)| *time);
        deadline.into_iter().chain(pause).min()
    }

    /// Calls whose pause is over become runnable.
    fn take_resumed(&mut self, now: Instant) -> bool {
        let before = self.runnable.len();
        while let Some(first) = self.paused.first_entry()
            && first.key().0 <= now
        {
            self.runnable.push_back(first.remove());
        }
        self.runnable.len() > before
    }

    fn take_expired(&mut self, now: Instant) -> Vec<Arc<Request>> {
        let mut expired = Vec::new();
        while let Some(first) = self.deadlines.first_entry()
            && first.key().deadline() <= now
        {
            expired.push(first.remove());
        }
        expired
    }
}

/// A thread that ends frees the stacks of those that have ended before: a stack is kept until a join.
fn join_finished(mut state: MutexGuard<'_, State>) {
    let finished: Vec<_> = state.threads.extract_if(.., |thread| thread.is_finished()).collect();
    drop(state);
    finished.into_iter().for_each(|thread| drop(thread.join()));
}

/// A child has none of the threads, and a thread of the parent may have held the lock.
impl Inherit for Arc<Engine> {
    fn abandon(self) {
        std::mem::forget(self);
    }
}

fn no_thread(error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!(
            "The operating system refused a thread: {error}. Check the limits of the process (RLIMIT_NPROC, \
             the pids controller of its cgroup, memory)."
        ),
    )
    .with_retryable(true)
}
