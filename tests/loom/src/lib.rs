//! The library's `src/cache/flights.rs` on loom's primitives, and models of what can meet in it.
//!
//! What is around the flights in the library's `src/cache/fetch.rs` (who locks when, who wakes whom) is
//! in `cache.rs` once more, for one user and without the store, under the same names and in the same
//! order: whoever changes one changes the other. The rest is stand-ins.

#![cfg(test)]

mod cache;
mod models;

mod error {
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) enum Error {
        /// The exchange failed, for whoever asked.
        Refused,
        /// The caller was stopped, or its time was up.
        Stopped,
    }
}

mod random {
    /// Loom tries every order of the threads, and needs the same keys in each.
    pub(crate) type Keyed =
        std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>;
}

mod exchange {
    use std::time::Instant;

    use crate::error::Error;

    #[derive(Default)]
    pub(crate) struct Progress {
        pub(crate) requests: u64,
        /// Until when it must pause, and what stands if nobody can.
        pub(crate) pause: Option<(Instant, Error)>,
    }

    impl Progress {
        pub(crate) fn stands_at(&self, latest: Instant) -> Option<&Error> {
            self.pause.as_ref().filter(|(until, _)| latest <= *until).map(|(_, failure)| failure)
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) enum Outcome {
        Granted,
        Failed,
        /// The caller was stopped.
        Unfinished,
        /// The caller's time is up before the next attempt, which must not come before then.
        Pausing(Instant),
    }
}
