//! The library's `src/cache/sync.rs` on loom.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::sync::Notify;
pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};

/// A flag that says whether there is a value, and a cell whose accesses loom checks.
pub(crate) struct OnceLock<T> {
    is_set: AtomicBool,
    value: UnsafeCell<Option<T>>,
}

// SAFETY: the value is written once, before it is read; loom checks this.
unsafe impl<T: Send + Sync> Sync for OnceLock<T> {}

impl<T> OnceLock<T> {
    pub(crate) fn get(&self) -> Option<&T> {
        if !self.is_set.load(Ordering::Acquire) {
            return None;
        }
        // SAFETY: after it is set there are no writes; loom fails if the write did not happen before.
        self.value.with(|value| unsafe { (*value).as_ref() })
    }

    /// Two threads must not set it at once, which std's allows.
    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        if self.is_set.load(Ordering::Acquire) {
            return Err(value);
        }
        // SAFETY: no thread reads before it is set; loom fails if another thread writes too.
        self.value.with_mut(|place| unsafe { *place = Some(value) });
        self.is_set.store(true, Ordering::Release);
        Ok(())
    }
}

impl<T> Default for OnceLock<T> {
    fn default() -> Self {
        Self { is_set: AtomicBool::new(false), value: UnsafeCell::new(None) }
    }
}

loom::thread_local! {
    static CURRENT: Thread = Thread(Arc::default());
}

/// A thread to park and unpark. Loom's own forgets an `unpark` if the thread takes a lock before it parks.
/// This one also wakes spuriously, as std's may.
#[derive(Clone)]
pub(crate) struct Thread(Arc<Notify>);

impl Thread {
    pub(crate) fn unpark(&self) {
        self.0.notify();
    }
}

pub(crate) fn current() -> Thread {
    CURRENT.with(Thread::clone)
}

pub(crate) fn park() {
    current().0.wait();
}
