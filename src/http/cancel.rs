//! Stopping one call from another thread.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;

use super::control::Control;
use crate::fork::{self, PerProcess};

/// A switch that stops the call it was given to, wherever that call is. Once thrown it stays so.
pub(crate) struct Cancel {
    thrown: AtomicBool,
    /// How the call in flight is woken. Per process: what a parent's call waits on is not a
    /// child's to touch.
    waker: PerProcess<Mutex<Option<Waker>>>,
}

/// What wakes a call that waits.
pub(crate) enum Waker {
    /// It waits for a connection.
    Control(Arc<Control>),
    /// It is parked: in a back-off, or until a slot is free.
    Thread(Thread),
}

impl Waker {
    fn cancel(&self) {
        match self {
            Self::Control(control) => control.cancel(),
            Self::Thread(thread) => thread.unpark(),
        }
    }
}

impl Cancel {
    pub(crate) fn new() -> Self {
        // A handle may be older than the first client. Without memory to watch, no client is made.
        let _ = fork::watch();
        Self { thrown: AtomicBool::new(false), waker: PerProcess::empty() }
    }

    pub(crate) fn throw(&self) {
        self.thrown.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst); // pairs with the one in `attach`
        if let Some(place) = self.waker.existing()
            && let Some(waker) = &*lock(place)
        {
            waker.cancel();
        }
    }

    pub(crate) fn is_thrown(&self) -> bool {
        self.thrown.load(Ordering::SeqCst)
    }

    /// From now until the result is dropped, `waker` is what wakes the call.
    pub(crate) fn attach(&self, waker: Waker) -> Attached<'_> {
        let place = self.waker.get(|_| Mutex::new(None));
        // Thrown before or after: one of the two sides sees the other's store.
        fence(Ordering::SeqCst);
        let mut held = lock(place);
        if self.is_thrown() {
            waker.cancel();
        }
        *held = Some(waker);
        Attached(place)
    }
}

fn lock(place: &Mutex<Option<Waker>>) -> MutexGuard<'_, Option<Waker>> {
    place.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Once it is dropped, no wake-up of this call is on its way any more.
pub(crate) struct Attached<'a>(&'a Mutex<Option<Waker>>);

impl Drop for Attached<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}
