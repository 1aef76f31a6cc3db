//! Calls that were started: they wait without a thread of the caller.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | one started call and its states |
//! | `engine.rs` | the threads that make exchanges and keep deadlines |
//! | `queue.rs` | the calls that have ended, and their descriptor |
//!
//! A call that waits, for another call's flight or for its own turn, is an entry in a list. Worker threads
//! make the exchanges, each as a caller that blocks would. A call ends once: by its result, its deadline,
//! its cancellation, or the end of its client. The one who ends it also takes it out of the list that it
//! was in, so nothing is handed over twice.

mod engine;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Instant;

use crate::cache::{Entry, FlightResult, Follower, Start, Step, WaiterId};
use crate::context::Context;
use crate::error::Error;
use crate::exchange::{Fetcher, Later, Outcome, Progress, SignedUser};
use crate::signing::Signature;
use crate::token::AccessToken;
use crate::user_id::{OwnedUserId, UserId};
pub(crate) use engine::Engine;
pub(crate) use queue::Queue;

/// One started call.
pub(crate) struct Request {
    user: OwnedUserId,
    /// `None` where the token is in the cache: nothing is signed then.
    signature: Option<Signature>,
    context: Context,
    id: WaiterId,
    tag: u64,
    queue: Arc<Queue>,
    /// Its waker was woken since its job was taken.
    is_woken: AtomicBool,
    state: Mutex<State>,
}

enum State {
    Pending(Arc<Engine>, Stage),
    Ended(Ending),
}

enum Stage {
    /// It waits for a flight that another call leads.
    Follows,
    /// It makes an exchange. It waits for a worker, or until a time.
    Waits(Job, Option<Instant>),
    /// A worker has its job.
    Runs,
}

/// What a worker needs to go on.
struct Job {
    kind: Kind,
    progress: Progress,
}

#[derive(Clone)]
enum Kind {
    /// It leads a flight. On failure it falls back on the token that it renews.
    Token(Option<Arc<Entry>>),
    /// An exchange that the cache does not see.
    Exchange,
}

/// The result of a started call.
#[derive(Clone)]
pub(crate) enum Ending {
    Cached(Arc<Entry>, u32),
    Exchanged(Box<AccessToken>, u32),
    Failed(Error),
    Panicked,
}

impl Ending {
    fn of_flight(result: FlightResult) -> Self {
        match result {
            Ok(fetched) => Self::Cached(fetched.entry, fetched.attempts),
            Err(error) => Self::Failed(error),
        }
    }
}

/// The state of a started call, for its caller.
pub(crate) enum Peeked {
    Pending,
    Ended(Ending),
    /// It was started in a parent of this process.
    Inherited,
}

/// What a caller wants to have started.
pub(crate) struct Order<'a> {
    pub(crate) user: UserId<'a>,
    pub(crate) context: Context,
    pub(crate) tag: u64,
    pub(crate) queue: Arc<Queue>,
}

impl Request {
    fn new(order: Order<'_>, signature: Option<Signature>, state: State) -> Arc<Self> {
        Arc::new(Self {
            user: order.user.into(),
            signature,
            id: WaiterId::new(order.context.deadline.at),
            context: order.context,
            tag: order.tag,
            queue: order.queue,
            is_woken: AtomicBool::new(false),
            state: Mutex::new(state),
        })
    }

    /// A call whose token is in the cache.
    pub(crate) fn hit(order: Order<'_>, entry: Arc<Entry>) -> Arc<Self> {
        let this = Self::new(order, None, State::Ended(Ending::Cached(entry, 0)));
        this.queue.put(Arc::clone(&this));
        this
    }

    /// A call for a token that is missing. With `held`, which is due: one that leads its renewal.
    pub(crate) fn token(
        engine: &Arc<Engine>,
        order: Order<'_>,
        held: Option<Arc<Entry>>,
        signature: Signature,
    ) -> Arc<Self> {
        let (this, registered) = Self::pending(engine, order, signature);
        if held.is_some() {
            this.begin(engine, Kind::Token(held), registered);
        } else if let Err(error) = registered {
            this.stop(error);
        } else if let Some(core) = engine.core() {
            let call: Arc<dyn Follower> = Arc::clone(&this) as _;
            match core.cache().start(this.user.as_id(), this.id, call, &this.context) {
                Start::Follow => {}
                Start::Ended(result) => drop(this.end(Ending::of_flight(result))),
                Start::Lead => this.begin(engine, Kind::Token(None), Ok(())),
            }
        }
        this.check_stopped();
        this
    }

    /// A call for an exchange.
    pub(crate) fn exchange(
        engine: &Arc<Engine>,
        order: Order<'_>,
        signature: Signature,
    ) -> Arc<Self> {
        let (this, registered) = Self::pending(engine, order, signature);
        this.begin(engine, Kind::Exchange, registered);
        this.check_stopped();
        this
    }

    fn pending(
        engine: &Arc<Engine>,
        order: Order<'_>,
        signature: Signature,
    ) -> (Arc<Self>, Result<(), Error>) {
        let state = State::Pending(Arc::clone(engine), Stage::Follows);
        let this = Self::new(order, Some(signature), state);
        let registered = engine.register(&this);
        (this, registered)
    }

    /// The call may have been stopped before it was registered.
    fn check_stopped(self: &Arc<Self>) {
        if let Err(error) = self.context.check() {
            self.stop(error);
        }
    }

    pub(crate) fn id(&self) -> WaiterId {
        self.id
    }

    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// Its handle was freed.
    pub(crate) fn is_freed(&self) -> bool {
        self.context.is_withdrawn()
    }

    pub(crate) fn peek(&self) -> Peeked {
        if self.is_inherited() {
            return Peeked::Inherited;
        }
        match &*self.state() {
            State::Pending(..) => Peeked::Pending,
            State::Ended(ending) => Peeked::Ended(ending.clone()),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(&*self.state(), State::Ended(_))
    }

    /// By its queue, which belongs to one process: a signal handler may fork in the middle of a start.
    fn is_inherited(&self) -> bool {
        self.queue.is_inherited()
    }

    /// The caller cancelled it, or freed its handle: it ends now.
    pub(crate) fn cancel(self: &Arc<Self>) {
        if !self.is_inherited() {
            self.stop(Error::cancelled());
        }
    }

    /// Ends it with a failure, from outside.
    fn stop(self: &Arc<Self>, error: Error) {
        self.stop_if(error, |_| true);
    }

    /// The same, if it only waits for another call's flight.
    fn stop_following(self: &Arc<Self>, error: Error) {
        self.stop_if(error, |stage| matches!(stage, Stage::Follows));
    }

    /// The same, unless a worker has it: that one sees the deadline itself.
    fn expire(self: &Arc<Self>) {
        let error =
            self.context.deadline.missed("waiting for its turn, or for the same user's exchange");
        self.stop_if(error, |stage| !matches!(stage, Stage::Runs));
    }

    fn stop_if(self: &Arc<Self>, error: Error, may_stop: impl Fn(&Stage) -> bool) {
        let ending = |engine: &Engine, stage: &Stage| {
            may_stop(stage).then(|| match stage {
                Stage::Waits(job, _) => self.interrupted(engine, job, error),
                Stage::Follows | Stage::Runs => Ending::Failed(error),
            })
        };
        let Some((engine, stage)) = self.end_if(ending) else {
            return;
        };
        match stage {
            Stage::Runs => {}
            Stage::Waits(job, until) => {
                engine.remove(until, self);
                self.give_up(&engine, job);
            }
            Stage::Follows => {
                if let Some(core) = engine.core() {
                    core.cache().stop_following(self.user.as_id(), self.id);
                }
            }
        }
    }

    /// The result of a call that is stopped while it waits with its job, as for a thread that waits.
    fn interrupted(&self, engine: &Engine, job: &Job, error: Error) -> Ending {
        let error = error.with_attempts(job.progress.requests());
        match (&job.kind, engine.core()) {
            (Kind::Token(held), Some(core)) => Ending::of_flight(core.cache().fail_started(
                self.user.as_id(),
                held.as_ref(),
                error,
            )),
            _ => Ending::Failed(error),
        }
    }

    /// It has ended, and its job has not.
    fn give_up(&self, engine: &Arc<Engine>, job: Job) {
        if let (Kind::Token(_), Some(core)) = (job.kind, engine.core()) {
            core.cache().stop_leading(self.user.as_id(), job.progress, &self.context);
        }
    }

    fn end(self: &Arc<Self>, ending: Ending) -> Option<(Arc<Engine>, Stage)> {
        self.end_if(|_, _| Some(ending))
    }

    /// Ends it, unless it has ended, or `ending` returns `None`. Returns what it was in. The lock of the state
    /// is held meanwhile; locks of the cache may be taken under it.
    fn end_if(
        self: &Arc<Self>,
        ending: impl FnOnce(&Engine, &Stage) -> Option<Ending>,
    ) -> Option<(Arc<Engine>, Stage)> {
        let before = {
            let mut state = self.state();
            let State::Pending(engine, stage) = &*state else {
                return None;
            };
            let ending = ending(engine, stage)?;
            std::mem::replace(&mut *state, State::Ended(ending))
        };
        let State::Pending(engine, stage) = before else {
            return None;
        };
        engine.forget(self.id);
        if !self.is_freed() {
            self.queue.put(Arc::clone(self));
        }
        Some((engine, stage))
    }

    /// It makes an exchange from now on, unless there are no threads to keep its time.
    fn begin(self: &Arc<Self>, engine: &Arc<Engine>, kind: Kind, registered: Result<(), Error>) {
        let job = Job { kind, progress: Progress::default() };
        match self.wait_with(job, None) {
            Err(job) => self.give_up(engine, job),
            Ok(()) => {
                if let Err(error) = registered.and_then(|()| engine.enqueue(self)) {
                    self.stop(error);
                }
            }
        }
    }

    /// Takes the job into its state, unless it has ended.
    fn wait_with(&self, job: Job, until: Option<Instant>) -> Result<(), Job> {
        match &mut *self.state() {
            State::Pending(_, stage) => {
                *stage = Stage::Waits(job, until);
                Ok(())
            }
            State::Ended(_) => Err(job),
        }
    }

    /// Runs its job, in a worker.
    fn run(self: &Arc<Self>, engine: &Arc<Engine>) {
        self.take_wake();
        let Some(job) = self.take_job() else {
            return; // it has ended
        };
        let kind = job.kind.clone();
        match catch_unwind(AssertUnwindSafe(|| self.step(engine, job))) {
            Ok(Stepped::Ended(ending)) => drop(self.end(ending)),
            Ok(Stepped::Paused(progress, time)) => self.pause(engine, Job { kind, progress }, time),
            Err(panic) => {
                std::mem::forget(panic); // its drop may panic
                drop(self.end(Ending::Panicked));
            }
        }
    }

    fn take_job(&self) -> Option<Job> {
        match &mut *self.state() {
            State::Pending(_, stage @ Stage::Waits(..)) => {
                match std::mem::replace(stage, Stage::Runs) {
                    Stage::Waits(job, _) => Some(job),
                    Stage::Follows | Stage::Runs => None,
                }
            }
            _ => None,
        }
    }

    fn step(self: &Arc<Self>, engine: &Arc<Engine>, job: Job) -> Stepped {
        let (Some(core), Some(signature)) = (engine.core(), &self.signature) else {
            return Stepped::Ended(Ending::Failed(Error::closed()));
        };
        let user = SignedUser { user: self.user.as_id(), signature };
        let waker = Waker::from(Arc::clone(self));
        let Job { kind, progress } = job;
        let Kind::Token(held) = kind else {
            return exchange(&core.exchange, &user, &self.context, progress, &waker);
        };
        let (held, context) = (held.as_ref(), &self.context);
        let cache = core.cache();
        match cache.go_on_leading(&user, held, progress, &core.exchange, context, &waker) {
            Step::Ended(result) => Stepped::Ended(Ending::of_flight(result)),
            Step::Paused(progress, time) => Stepped::Paused(progress, time),
        }
    }

    /// Gives its worker up until `time`.
    fn pause(self: &Arc<Self>, engine: &Arc<Engine>, job: Job, time: Instant) {
        if let Err(job) = engine.pause(time, self, || self.wait_with(job, Some(time))) {
            return self.give_up(engine, job);
        }
        // The timer may have looked while it ran.
        if self.context.deadline.left().is_zero() {
            self.expire();
        }
    }

    /// Whether it was woken since its worker took its job.
    fn take_wake(&self) -> bool {
        self.is_woken.swap(false, Ordering::SeqCst)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Follower for Request {
    fn complete(self: Arc<Self>, result: FlightResult) {
        drop(self.end(Ending::of_flight(result)));
    }

    fn lead(self: Arc<Self>, progress: Progress) -> Option<Progress> {
        let engine = match &*self.state() {
            State::Pending(engine, _) => Arc::clone(engine),
            State::Ended(_) => return Some(progress),
        };
        let job = Job { kind: Kind::Token(None), progress };
        if let Err(job) = self.wait_with(job, None) {
            return Some(job.progress);
        }
        let error = engine.enqueue(&self).err()?;
        // Not `stop`, which hands over itself.
        match self.end(Ending::Failed(error)) {
            Some((_, Stage::Waits(job, _))) => Some(job.progress),
            _ => None,
        }
    }
}

/// It may go on before its pause is over.
impl Wake for Request {
    fn wake(self: Arc<Self>) {
        self.is_woken.store(true, Ordering::SeqCst);
        let paused = match &*self.state() {
            State::Pending(engine, Stage::Waits(_, Some(time))) => {
                Some((Arc::clone(engine), *time))
            }
            _ => None,
        };
        if let Some((engine, time)) = paused
            && let Err(error) = engine.resume(time, &self)
        {
            self.stop(error);
        }
    }
}

enum Stepped {
    Ended(Ending),
    Paused(Progress, Instant),
}

fn exchange<F: Fetcher>(
    fetcher: &F,
    user: &SignedUser<'_>,
    context: &Context,
    mut progress: Progress,
    waker: &Waker,
) -> Stepped {
    loop {
        let outcome = match fetcher.poll_turn(context, &mut progress, waker) {
            Ok(turn) => fetcher.attempt(turn, user, context, &mut progress),
            Err(Later::Over(outcome)) => Some(outcome),
            Err(Later::At(time)) => return Stepped::Paused(progress, time),
        };
        return Stepped::Ended(match outcome {
            None => continue,
            Some(Outcome::Granted(response)) => {
                Ending::Exchanged(Box::new(response.token), progress.requests())
            }
            Some(Outcome::Failed(error) | Outcome::Interrupted(error)) => Ending::Failed(error),
        });
    }
}

#[cfg(test)]
mod tests;
