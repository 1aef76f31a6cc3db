//! The library's `src/cache/fetch.rs`, `started.rs` and `flights.rs` on loom's primitives, with models of the threads that
//! meet in them. Everything else that these files use has a stand-in here.

#![cfg(test)]

mod cache;
mod context;
mod exchange;
mod models;
mod started;
mod sync;

mod error {
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) enum Error {
        /// The exchange failed, for every caller.
        Refused,
        /// The caller was cancelled, or timed out.
        Stopped,
    }

    impl Error {
        pub(crate) fn http_status(&self) -> Option<u16> {
            None
        }

        pub(crate) fn with_attempts(self, _: u32) -> Self {
            self
        }

        pub(crate) fn with_shared(self) -> Self {
            self
        }
    }

    /// Of a renewal that failed, which no model makes.
    #[derive(Clone, Copy)]
    pub(crate) enum ErrorKind {}
}

mod fork {
    pub(crate) fn generation() -> u64 {
        0
    }
}

mod random {
    /// Loom needs the same keys in every order of the threads.
    pub(crate) type Keyed =
        std::hash::BuildHasherDefault<std::collections::hash_map::DefaultHasher>;
}

mod token {
    /// A token, told from others by the request that brought it.
    pub(crate) struct Token(pub(crate) u32);

    impl Token {
        pub(crate) fn as_bytes(&self) -> &[u8] {
            &[]
        }
    }

    pub(crate) struct TokenResponse {
        pub(crate) token: Token,
    }
}

mod user_id {
    pub(crate) type UserId<'a> = &'a [u8];
}
