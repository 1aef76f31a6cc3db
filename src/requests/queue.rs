//! Hands out started calls that have ended, and has one descriptor that is readable while there are any.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Request;
use crate::descriptor::Event;
use crate::error::{Error, ErrorKind};
use crate::fork::{generation, try_lock};

pub(crate) struct Queue {
    made_in: u64,
    state: Mutex<State>,
}

struct State {
    ended: VecDeque<Arc<Request>>,
    /// `None` once the handle was freed: nothing is handed out any more. Call handles keep the queue.
    event: Option<Event>,
    /// The descriptor is readable.
    is_signalled: bool,
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
        let state = State { ended: VecDeque::new(), event: Some(event), is_signalled: false };
        Ok(Self { made_in: generation(), state: Mutex::new(state) })
    }

    /// Whether a parent of this process made it.
    pub(crate) fn is_inherited(&self) -> bool {
        self.made_in != generation()
    }

    /// Readable while there is something to take; `None` in a child of its process, and if the program has closed
    /// it.
    pub(crate) fn descriptor(&self) -> Option<i32> {
        if self.is_inherited() {
            return None;
        }
        self.state().event.as_ref().and_then(Event::descriptor)
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
            state.event.iter().for_each(Event::clear);
        }
        count
    }

    /// Hands out a call. Writes to the descriptor once in a burst.
    pub(super) fn put(&self, request: Arc<Request>) {
        let mut state = self.state();
        if state.event.is_none() {
            return;
        }
        state.ended.push_back(request);
        if !std::mem::replace(&mut state.is_signalled, true) {
            state.event.iter().for_each(Event::set);
        }
    }

    /// Nothing is handed out any more, and the descriptor is closed.
    pub(crate) fn free(&self) {
        let state = if self.is_inherited() { try_lock(&self.state) } else { Some(self.state()) };
        let freed = state.map(|mut state| (state.event.take(), std::mem::take(&mut state.ended)));
        drop(freed); // may be many: not under the lock
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
