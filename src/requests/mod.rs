//! Calls that were started: they wait without a thread of the caller.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | one started call and its states |
//! | `job.rs` | the exchange that it makes, in a worker |
//! | `engine.rs` | the threads that make exchanges and keep deadlines |
//! | `queue.rs` | the calls that have ended, and their descriptor |
//!
//! A call that waits, for another call's flight or for its own turn, is an entry in a list. Worker threads
//! make the exchanges, each as a caller that blocks would. A call ends once: by its result, its deadline,
//! its cancellation, or the end of its client. Whatever ends it also removes it from the list that it
//! was in, so nothing is handed out twice.

mod engine;
mod job;
mod queue;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::cache::{Entry, Fetched, FlightResult, Follower, Start, WaiterId};
use crate::context::Context;
use crate::error::Error;
use crate::signing::Signature;
use crate::token::AccessToken;
use crate::user_id::{OwnedUserId, UserId};
pub(crate) use engine::Engine;
use job::{Job, Kind};
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

/// The result of a started call.
#[derive(Clone)]
pub(crate) enum Ending {
    Cached(Fetched),
    Exchanged(Box<AccessToken>, u32),
    Failed(Error),
    Panicked,
}

impl Ending {
    fn of_flight(result: FlightResult) -> Self {
        match result {
            Ok(fetched) => Self::Cached(fetched),
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
        let this = Self::new(order, None, State::Ended(Ending::Cached(Fetched::held(entry))));
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
