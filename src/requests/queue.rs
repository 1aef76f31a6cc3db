//! Hands out started calls that have ended, and has one descriptor that is readable while there are any.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Request;
use crate::descriptor::Event;
use crate::error::{Error, ErrorKind};
use crate::fork::generation;

pub(crate) struct Queue {
    made_in: u64,
    event: Event,
    state: Mutex<State>,
}

struct State {
    ended: VecDeque<Arc<Request>>,
    /// The descriptor is readable.
    is_signalled: bool,
    /// The handle was freed: nothing is handed out any more.
    is_freed: bool,
}

impl Queue {
    pub(crate) fn new() -> Result<Self, Error> {
        let event = Event::new().map_err(|error| {
            Error::new(
                ErrorKind::Internal,
                format!(
                    "The operating system refused a descriptor for the queue: {error}. Check the limit on \
                     open files (RLIMIT_NOFILE)."
                ),
            )
        })?;
        let state = State { ended: VecDeque::new(), is_signalled: false, is_freed: false };
        Ok(Self { made_in: generation(), event, state: Mutex::new(state) })
    }

    /// Whether a parent of this process made it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.made_in != generation()
    }

    /// Readable while there is something to take; `None` in a child of its process.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        (!self.is_inherited()).then(|| self.event.descriptor())
    }

    /// Fills `tags` with calls that have ended, first ended first. Returns how many.
    pub(crate) fn take(&self, tags: &mut [u64]) -> usize {
        if self.is_inherited() {
            return 0;
        }
        let mut state = self.state();
        let mut count = 0;
        for place in tags {
            let Some(request) = next(&mut state.ended) else {
                break;
            };
            *place = request.tag();
            count += 1;
        }
        // Under the lock: an event of a call that ends now is not cleared.
        if state.ended.is_empty() && std::mem::take(&mut state.is_signalled) {
            self.event.clear();
        }
        count
    }

    /// Hands out a call. Writes to the descriptor once in a burst.
    pub(super) fn put(&self, request: Arc<Request>) {
        let mut state = self.state();
        if state.is_freed {
            return;
        }
        state.ended.push_back(request);
        if !std::mem::replace(&mut state.is_signalled, true) {
            self.event.set();
        }
    }

    /// Nothing is handed out any more.
    pub(crate) fn free(&self) {
        if self.is_inherited() {
            return;
        }
        let ended = {
            let mut state = self.state();
            state.is_freed = true;
            std::mem::take(&mut state.ended)
        };
        drop(ended); // may be many: not under the lock
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next call whose handle was not freed.
fn next(ended: &mut VecDeque<Arc<Request>>) -> Option<Arc<Request>> {
    loop {
        let request = ended.pop_front()?;
        if !request.is_freed() {
            return Some(request);
        }
    }
}
