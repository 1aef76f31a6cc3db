//! The clock of renewal and expiry: monotonic, independent of the wall clock.

use std::time::Instant;

/// The cache's source of the current time.
pub(crate) trait Clock: Send + Sync {
    fn now(&self) -> Instant;
}

/// The system's monotonic clock. It stops while the machine is suspended.
pub(crate) struct Monotonic;

impl Clock for Monotonic {
    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }
}

#[cfg(test)]
pub(super) mod manual {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    /// A clock that a test moves.
    pub(crate) struct Manual(Mutex<Instant>);

    impl Manual {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(Instant::now()))
        }

        pub(crate) fn advance(&self, time: Duration) {
            *self.0.lock().unwrap() += time;
        }
    }

    impl Clock for Manual {
        fn now(&self) -> Instant {
            *self.0.lock().unwrap()
        }
    }
}
