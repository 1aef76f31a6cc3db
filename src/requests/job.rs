//! The exchange that a started call makes: in a worker, with pauses in which it has none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Wake, Waker};
use std::time::Instant;

use super::{Ending, Engine, Request, Stage, State};
use crate::cache::{Entry, FlightResult, Follower, Step};
use crate::context::Context;
use crate::error::Error;
use crate::exchange::{Fetcher, Later, Outcome, Progress, SignedUser};

/// What a worker needs to go on.
pub(super) struct Job {
    pub(super) kind: Kind,
    pub(super) progress: Progress,
}

#[derive(Clone)]
pub(super) enum Kind {
    /// It leads a flight. On failure it falls back on the token that it renews.
    Token(Option<Arc<Entry>>),
    /// An exchange that the cache does not see.
    Exchange,
}

impl Request {
    /// It makes an exchange from now on, unless there are no threads to keep its time.
    pub(super) fn begin(
        self: &Arc<Self>,
        engine: &Arc<Engine>,
        kind: Kind,
        registered: Result<(), Error>,
    ) {
        let progress = match (&kind, engine.core()) {
            (Kind::Token(held), Some(core)) => {
                let held = held.as_ref().map(|held| held.token().as_bytes());
                core.exchange.begin(held)
            }
            _ => Progress::default(),
        };
        let job = Job { kind, progress };
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

    /// Runs its job, in a worker. Whether it was stopped meanwhile.
    pub(super) fn run(self: &Arc<Self>, engine: &Arc<Engine>) -> bool {
        self.take_wake();
        let Some(job) = self.take_job() else {
            return false; // it had ended before
        };
        let kind = job.kind.clone();
        match catch_unwind(AssertUnwindSafe(|| self.step(engine, job))) {
            Ok(Stepped::Ended(ending)) => self.end(ending).is_none(),
            Ok(Stepped::Paused(progress, time)) => {
                self.pause(engine, Job { kind, progress }, time);
                false
            }
            Err(panic) => {
                std::mem::forget(panic); // its drop may panic
                self.end(Ending::Panicked).is_none()
            }
        }
    }

    pub(super) fn take_job(&self) -> Option<Job> {
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
            return exchange(&core.exchange.direct, &user, &self.context, progress, &waker);
        };
        let (held, context) = (held.as_ref(), &self.context);
        let cache = core.cache();
        match cache.go_on_leading(&user, held, progress, &core.exchange, context, &waker) {
            Step::Ended(result) => Stepped::Ended(Ending::of_flight(result)),
            Step::Paused(progress, time) => Stepped::Paused(progress, time),
        }
    }

    /// Gives its worker up until `time`.
    pub(super) fn pause(self: &Arc<Self>, engine: &Arc<Engine>, job: Job, time: Instant) {
        if let Err(job) = engine.pause(time, self, || self.wait_with(job, Some(time))) {
            return self.give_up(engine, job);
        }
        // The timer may have looked while it ran.
        if self.context.deadline.left().is_zero() {
            self.expire();
        }
    }

    /// Whether it was woken since its worker took its job.
    pub(super) fn take_wake(&self) -> bool {
        self.is_woken.swap(false, Ordering::SeqCst)
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
            Some(Outcome::Granted(response) | Outcome::Shared(response)) => {
                Ending::Exchanged(Box::new(response.token), progress.requests())
            }
            Some(Outcome::Failed(error) | Outcome::Interrupted(error)) => Ending::Failed(error),
        });
    }
}
