//! Tokens that processes share, in a Redis or Valkey.
//!
//! It stands between a flight and its exchange: the leader of a flight looks here first, and what its
//! exchange brings is put here for others. It never makes a call fail: whatever goes wrong, the exchange is
//! made as it is without a store.
//!
//! | file | holds |
//! |---|---|
//! | `record.rs` | what stands in the store, and how it is sealed |
//! | `lease.rs`, `claim.rs` | look, wait, lead: who makes the exchange for all processes; what becomes of it |
//! | `wire.rs` | RESP2: commands and replies |
//! | `connection.rs` | one connection, and how it is made |
//! | `process.rs` | what belongs to one process: connections, breaker, reports, counters |
//! | `errors.rs` | why the store cannot be used |

mod claim;
mod connection;
mod errors;
mod lease;
mod process;
mod record;
mod wire;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::{ApplicationId, Config, StoreUrl};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::fork::PerProcess;
use crate::random;
use crate::token;
use crate::user_id::UserId;
use claim::swap;
use connection::{Connection, Endpoint};
pub(crate) use lease::Sharing;
use process::{Admission, Process, count};
use record::{Keys, LEASE_TIME, name_of};
use wire::{Replies, Reply, command};

/// The greatest age of a token in the store.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The store of one client; shared by all threads, and by the processes that are forked off.
pub(crate) struct Store {
    url: StoreUrl,
    /// For one operation.
    timeout: Duration,
    age_max: Duration,
    keys: Keys,
    endpoint: Endpoint,
    process: PerProcess<Process>,
}

type Write<'a> = &'a dyn Fn(&mut Vec<u8>);

/// Commands in one write.
struct Operation<'a> {
    count: usize,
    write: Write<'a>,
    /// The last command if the call is stopped before the replies are there.
    undo: Option<Write<'a>>,
}

/// Why an operation has no result.
enum Failure {
    /// The store failed often, so it was not asked.
    Skipped,
    /// The call was cancelled, or its client closed.
    Stopped(Error),
    /// The store could not be used.
    Unusable(Error),
}

/// Counters of this process.
#[derive(Default)]
pub(crate) struct StoreStats {
    pub(crate) misses: u64,
    pub(crate) waits: u64,
    pub(crate) errors: u64,
    pub(crate) skipped: u64,
}

impl Store {
    /// The store of a configuration that has one, and a key. Connects to nothing yet.
    pub(crate) fn new(
        config: &Config,
        application_id: &ApplicationId,
    ) -> Result<Option<Arc<Self>>, Error> {
        let (Some(url), Some(key)) = (&config.store, &config.store_key) else {
            return Ok(None);
        };
        let endpoint = Endpoint::new(&url.address, config.tls_roots, &config.ca_certificates)?;
        Ok(Some(Arc::new(Self {
            url: url.clone(),
            timeout: config.store_timeout,
            age_max: config.cache.ttl.map_or(AGE_MAX, |ttl| ttl.min(AGE_MAX)),
            keys: Keys::new(key.clone(), application_id, &config.base_url),
            process: PerProcess::empty(),
            endpoint,
        })))
    }

    /// `token` was reported as rejected: it is not taken from the store any more.
    pub(crate) fn report(&self, token: &[u8]) {
        self.process().report(token);
    }

    /// Tries every command that the store needs, on a random key.
    pub(crate) fn check(&self, context: &Context) -> Result<(), Error> {
        let mut random = [0; 16];
        random::fill(&mut random).map_err(|_| random::missing())?;
        let (name, lease) = (name_of(&random), self.process().lease);
        let expected: [(&str, Reply<'_>); 5] = [
            ("SET", Reply::Status(b"OK")),
            ("GET", Reply::Bulk(&lease)),
            // Before the script, which fails with another code where one of its commands is forbidden.
            ("DEL", Reply::Integer(1)),
            ("EVAL", Reply::Integer(1)),
            ("EVAL", Reply::Integer(1)),
        ];
        let write = |out: &mut Vec<u8>| {
            set_lease(out, &name, &lease);
            command(out, &[b"GET", &name]);
            command(out, &[b"DEL", &name]);
            swap(out, &name, &lease, b"T", LEASE_TIME);
            swap(out, &name, b"T", b"", Duration::ZERO);
            command(out, &[b"PTTL", &name]);
        };
        let read = |replies: &Replies<'_>| {
            for (index, (command, reply)) in expected.into_iter().enumerate() {
                if replies.get(index) != reply {
                    return Err(errors::refused(command, replies.get(index)));
                }
            }
            match replies.get(expected.len()) {
                Reply::Integer(_) => Ok(()),
                other => Err(errors::refused("PTTL", other)),
            }
        };
        let operation = Operation { count: expected.len() + 1, write: &write, undo: None };
        shown(self.ask(context, true, &operation, read))
    }

    /// Deletes what stands there for `user`.
    pub(crate) fn forget(&self, user: UserId<'_>, context: &Context) -> Result<(), Error> {
        shown(self.delete(&self.keys.of(user).name, true, context))
    }

    fn delete(&self, name: &[u8], always: bool, context: &Context) -> Result<(), Failure> {
        let write = |out: &mut Vec<u8>| command(out, &[b"DEL", name]);
        let read = |replies: &Replies<'_>| match replies.get(0) {
            Reply::Integer(_) => Ok(()),
            other => Err(errors::refused("DEL", other)),
        };
        let operation = Operation { count: 1, write: &write, undo: None };
        self.ask(context, always, &operation, read)
    }

    pub(crate) fn stats(&self) -> StoreStats {
        let counters = &self.process().counters;
        StoreStats {
            misses: counters.misses.load(Ordering::Relaxed),
            waits: counters.waits.load(Ordering::Relaxed),
            errors: counters.errors.load(Ordering::Relaxed),
            skipped: counters.skipped.load(Ordering::Relaxed),
        }
    }

    /// Closes the connections that are idle, once no call holds a lease.
    pub(crate) fn close_idle(&self) {
        self.process().close();
    }

    /// How long a token with this lifetime stands in the store.
    fn term(&self, lifetime: Option<Duration>) -> Duration {
        token::term(lifetime, Some(self.age_max)).unwrap_or(self.age_max)
    }

    fn process(&self) -> &Process {
        self.process.get(|parent| Process::new(self.endpoint.of_this_process(), parent))
    }

    /// One operation: one write and as many replies. `always`: also while the store is skipped.
    fn ask<T>(
        &self,
        context: &Context,
        always: bool,
        operation: &Operation<'_>,
        read: impl FnOnce(&Replies<'_>) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let (mut read, mut value) = (Some(read), None);
        // One copy of the code for all operations.
        self.operate(context, always, operation, &mut |replies| {
            value = read.take().map(|read| read(replies)).transpose()?;
            Ok(())
        })?;
        value.ok_or_else(|| Failure::Unusable(errors::malformed()))
    }

    /// On a connection that is kept if all went well.
    fn operate(
        &self,
        context: &Context,
        always: bool,
        operation: &Operation<'_>,
        read: &mut dyn FnMut(&Replies<'_>) -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let process = self.process();
        let Admission::Go(kept) = process.admit(always, Instant::now()) else {
            return Err(Failure::Skipped);
        };
        let limited = context.within(self.timeout.min(context.deadline.left() / 4));
        let opened = match kept {
            Some(connection) => Ok(connection),
            None => Connection::open(&process.endpoint, &self.url, &limited),
        };
        let mut connection = match opened {
            Ok(connection) => connection,
            Err(error) => return Err(self.failed(process, context, &limited, error)),
        };
        let replies = connection.ask(&limited, operation.count, operation.write);
        let result = replies.and_then(|replies| read(&replies));
        match result {
            _ if context.is_inherited() => {
                Err(Failure::Stopped(context.check().err().unwrap_or_else(Error::cancelled)))
            }
            Ok(()) => {
                process.put_back(connection);
                Ok(())
            }
            Err(error) => {
                let failure = self.failed(process, context, &limited, error);
                if let (Failure::Stopped(_), Some(write)) = (&failure, operation.undo) {
                    connection.say(context, write);
                }
                Err(failure)
            }
        }
    }

    fn failed(
        &self,
        process: &Process,
        context: &Context,
        limited: &Context,
        error: Error,
    ) -> Failure {
        if let Err(error) = context.check() {
            return Failure::Stopped(error);
        }
        count(&process.counters.errors);
        // The time of a call that had hardly any says nothing about the store.
        let is_hasty = limited.deadline.timeout < self.timeout / 10;
        if !(is_hasty && error.kind() == ErrorKind::Timeout) {
            process.note_failure(Instant::now());
        }
        Failure::Unusable(match error.kind() {
            ErrorKind::Store => error,
            _ => errors::unreachable(&error),
        })
    }
}

/// `SET` of a lease where nothing stands.
fn set_lease(out: &mut Vec<u8>, name: &[u8], lease: &[u8]) {
    let time = LEASE_TIME.as_millis().to_string();
    command(out, &[b"SET", name, lease, b"NX", b"PX", time.as_bytes()]);
}

/// A failure as a caller sees it who asked for the store.
fn shown<T>(result: Result<T, Failure>) -> Result<T, Error> {
    result.map_err(|failure| match failure {
        Failure::Stopped(error) | Failure::Unusable(error) => error,
        Failure::Skipped => errors::not_set(), // never: it is asked always
    })
}

/// The failure of a client without a store.
pub(crate) fn not_set() -> Error {
    errors::not_set()
}
