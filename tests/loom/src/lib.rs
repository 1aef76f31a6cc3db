//! The library's `src/cache/fetch.rs` and `flights.rs` on loom's primitives, and models of the threads that
//! can meet in them. Everything else that these two files use has a stand-in here.

#![cfg(test)]

mod cache;
mod context;
mod models;
mod sync;

mod error {
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    pub(crate) enum Error {
        /// The exchange failed, for every caller.
        Refused,
        /// The caller was stopped, or its time was up.
        Stopped,
    }

    impl Error {
        pub(crate) fn http_status(&self) -> Option<u16> {
            None
        }

        pub(crate) fn with_attempts(self, _: u32) -> Self {
            self
        }
    }
}

mod exchange {
    use std::time::Instant;

    use crate::error::Error;
    use crate::token::TokenResponse;

    pub(crate) struct SignedUser<'a> {
        pub(crate) user: &'a [u8],
    }

    #[derive(Default)]
    pub(crate) struct Progress {
        pub(crate) requests: u32,
        /// No request may be sent before.
        pub(crate) pause: Option<Instant>,
    }

    impl Progress {
        pub(crate) fn requests(&self) -> u32 {
            self.requests
        }

        pub(crate) fn with_response(&self, error: Error) -> Error {
            error
        }
    }

    pub(crate) enum Outcome {
        Granted(TokenResponse),
        Failed(Error),
        Interrupted(Error),
    }
}

mod random {
    /// Loom tries every order of the threads, and needs the same keys in each.
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
