//! A stand-in for the library's `src/requests/`: a started call whose thread is its worker too.

use std::sync::Arc;
use std::task::Waker;

use loom::sync::{Mutex, MutexGuard};

use crate::cache::{Cache, FlightResult, Follower, Start, Step, WaiterId};
use crate::context::Context;
use crate::error::Error;
use crate::exchange::{Fetcher, Progress, SignedUser};
use crate::sync::{self, Thread};

pub(crate) struct Started {
    state: Mutex<State>,
    worker: Thread,
}

enum State {
    Follows,
    /// It leads, and its worker has not begun.
    Waits(Progress),
    Runs,
    Ended(FlightResult),
}

impl Started {
    /// Starts a call, cancels it if its context says so, and works until it has ended.
    pub(crate) fn run<F: Fetcher>(
        cache: &Cache,
        user: &SignedUser<'_>,
        fetcher: &F,
        context: &Context,
    ) -> FlightResult {
        let this = Arc::new(Self { state: Mutex::new(State::Follows), worker: sync::current() });
        let (id, call) = (WaiterId::new(context.deadline.at), Arc::clone(&this));
        match cache.start(user.user, id, call, context) {
            Start::Follow => {}
            Start::Ended(result) => drop(this.end(result)),
            Start::Lead => this.wait_with(Progress::default()).ok().expect("nobody else ends it"),
        }
        if context.gives_up {
            match this.end(Err(Error::Stopped)) {
                Some(State::Follows) => cache.stop_following(user.user, id),
                Some(State::Waits(progress)) => cache.stop_leading(user.user, progress, context),
                _ => {}
            }
        }
        loop {
            if let Some(progress) = this.take_job() {
                let waker = Waker::noop();
                match cache.go_on_leading(user, None, progress, fetcher, context, waker) {
                    Step::Ended(result) => drop(this.end(result)),
                    Step::Paused(progress, _) => {
                        if let Err(progress) = this.wait_with(progress) {
                            cache.stop_leading(user.user, progress, context);
                        }
                    }
                }
                continue;
            }
            if let State::Ended(result) = &*this.state() {
                return result.clone();
            }
            sync::park();
        }
    }

    /// Ends it, unless it has ended. Returns what it was in.
    fn end(&self, result: FlightResult) -> Option<State> {
        let before = {
            let mut state = self.state();
            if matches!(*state, State::Ended(_)) {
                return None;
            }
            std::mem::replace(&mut *state, State::Ended(result))
        };
        self.worker.unpark();
        Some(before)
    }

    fn wait_with(&self, progress: Progress) -> Result<(), Progress> {
        let mut state = self.state();
        if matches!(*state, State::Ended(_)) {
            return Err(progress);
        }
        *state = State::Waits(progress);
        Ok(())
    }

    fn take_job(&self) -> Option<Progress> {
        let mut state = self.state();
        if !matches!(*state, State::Waits(_)) {
            return None;
        }
        match std::mem::replace(&mut *state, State::Runs) {
            State::Waits(progress) => Some(progress),
            _ => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Follower for Started {
    fn complete(self: Arc<Self>, result: FlightResult) {
        let before = self.end(result);
        assert!(!matches!(before, Some(State::Waits(_) | State::Runs)), "it leads the flight");
    }

    fn lead(self: Arc<Self>, progress: Progress) -> Option<Progress> {
        let refused = self.wait_with(progress).err();
        self.worker.unpark();
        refused
    }
}
