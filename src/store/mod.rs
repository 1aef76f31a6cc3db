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
//! | `cluster.rs` | which node has a key, and the address of another node in a reply |
//! | `process.rs` | what belongs to one process: connections, breaker, reports, counters |
//! | `errors.rs` | why the store cannot be used |

mod claim;
mod cluster;
mod connection;
mod errors;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
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
use crate::keyring::Keyring;
use crate::random;
use crate::token;
use crate::user_id::UserId;
use claim::swap;
use cluster::{HOPS_MAX, Redirect};
use connection::{Connection, Endpoint};
pub(crate) use lease::Sharing;
use process::{Process, Way, count};
use record::{Keys, LEASE_TIME, name_of};
use wire::{Commands, Replies, Reply, command};

/// The greatest age of a token in the store.
const AGE_MAX: Duration = Duration::from_secs(24 * 3600);

/// The store of one client; shared by all threads, and by the processes that are forked off.
pub(crate) struct Store {
    url: StoreUrl,
    /// For one operation.
    timeout: Duration,
    /// How many connections are kept. There may be more in use: one for each record that is written.
    idle_max: usize,
    age_max: Duration,
    keys: Keys,
    endpoint: Endpoint,
    process: PerProcess<Process>,
}

type Write<'a> = &'a dyn Fn(&mut Commands);

/// Commands in one write, all on one key.
struct Operation<'a> {
    /// Decides which node of a cluster is asked.
    name: &'a [u8],
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
    /// The store of a configuration that has one. Connects to nothing yet.
    pub(crate) fn new(
        config: &Config,
        application_id: &ApplicationId,
        ring: &Arc<Keyring>,
    ) -> Result<Option<Arc<Self>>, Error> {
        let Some(url) = &config.store else {
            return Ok(None);
        };
        let endpoint = Endpoint::new(&url.address, config.tls_roots, &config.ca_certificates)?;
        Ok(Some(Arc::new(Self {
            url: url.clone(),
            timeout: config.store_timeout,
            idle_max: config.max_concurrency as usize,
            age_max: config.cache.ttl.map_or(AGE_MAX, |ttl| ttl.min(AGE_MAX)),
            keys: Keys::new(Arc::clone(ring), application_id, &config.base_url),
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
        let write = |out: &mut Commands| {
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
        let count = expected.len() + 1;
        let operation = Operation { name: &name, count, write: &write, undo: None };
        shown(self.ask(context, true, &operation, read))
    }

    /// Deletes what stands there for `user`.
    pub(crate) fn forget(&self, user: UserId<'_>, context: &Context) -> Result<(), Error> {
        shown(self.delete(&self.keys.of(user)?.name, true, context))
    }

    fn delete(&self, name: &[u8], always: bool, context: &Context) -> Result<(), Failure> {
        let write = |out: &mut Commands| command(out, &[b"DEL", name]);
        let read = |replies: &Replies<'_>| match replies.get(0) {
            Reply::Integer(_) => Ok(()),
            other => Err(errors::refused("DEL", other)),
        };
        let operation = Operation { name, count: 1, write: &write, undo: None };
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
        let endpoint = || self.endpoint.of_this_process();
        self.process.get(|parent| Process::new(endpoint(), self.idle_max, parent))
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

    /// On connections that are kept if all went well. A node that names another one costs a write more, and no time
    /// more: all of it is one operation.
    fn operate(
        &self,
        context: &Context,
        always: bool,
        operation: &Operation<'_>,
        read: &mut dyn FnMut(&Replies<'_>) -> Result<(), Error>,
    ) -> Result<(), Failure> {
        let process = self.process();
        let limited = context.within(self.timeout.min(context.deadline.left() / 4));
        let attempt = Attempt { store: self, process, context, limited: &limited, operation };
        let way = process.admit(operation.name, always).ok_or(Failure::Skipped)?;
        let mut passed = Vec::new();
        let result = attempt.travel(way, always, read, &mut passed);
        if !matches!(result, Err(Failure::Stopped(_))) {
            passed.into_iter().for_each(|connection| process.put_back(connection));
        }
        result
    }
}

/// What the writes of an operation have in common.
struct Attempt<'a> {
    store: &'a Store,
    process: &'a Process,
    context: &'a Context,
    /// Ends when the operation must.
    limited: &'a Context,
    operation: &'a Operation<'a>,
}

impl Attempt<'_> {
    /// From node to node, until one has the key. `passed`: the connections of those that answered well.
    fn travel(
        &self,
        mut way: Way,
        always: bool,
        read: &mut dyn FnMut(&Replies<'_>) -> Result<(), Error>,
        passed: &mut Vec<Connection>,
    ) -> Result<(), Failure> {
        loop {
            let (connection, redirect) = self.run(way, read)?;
            let Some(redirect) = redirect else {
                self.process.put_back(connection);
                return Ok(());
            };
            let endpoint = &connection.endpoint;
            if passed.len() == HOPS_MAX {
                passed.clear(); // each of them is wrong about another
                return Err(self.failed(endpoint, errors::circle()));
            }
            let next = self.process.follow(endpoint, self.operation.name, &redirect, always);
            let next = next.map_err(|error| self.failed(endpoint, error))?;
            passed.push(connection);
            way = next.ok_or(Failure::Skipped)?;
        }
    }

    /// One write at one node. Returns its connection, with the other node that it named.
    fn run(
        &self,
        way: Way,
        read: &mut dyn FnMut(&Replies<'_>) -> Result<(), Error>,
    ) -> Result<(Connection, Option<Redirect>), Failure> {
        let Way { endpoint, kept, asks } = way;
        let opened = match kept {
            Some(connection) => Ok(connection),
            None => Connection::open(&endpoint, &self.store.url, self.limited),
        };
        let mut connection = opened.map_err(|error| self.failed(&endpoint, error))?;
        let Operation { count, write, undo, .. } = *self.operation;
        let replies = connection.ask(self.limited, asks, count, write);
        let result = replies.and_then(|replies| match Redirect::among(&replies, count)? {
            None => read(&replies).map(|()| None),
            redirect => Ok(redirect),
        });
        match result {
            _ if self.context.is_inherited() => {
                Err(Failure::Stopped(self.context.check().err().unwrap_or_else(Error::cancelled)))
            }
            Ok(redirect) => Ok((connection, redirect)),
            Err(error) => {
                let failure = self.failed(&endpoint, error);
                if let (Failure::Stopped(_), Some(write)) = (&failure, undo) {
                    connection.say(self.context, write);
                }
                Err(failure)
            }
        }
    }

    fn failed(&self, endpoint: &Arc<Endpoint>, error: Error) -> Failure {
        if let Err(error) = self.context.check() {
            return Failure::Stopped(error);
        }
        count(&self.process.counters.errors);
        // The time of a call that had hardly any says nothing about the store.
        let is_hasty = self.limited.deadline.timeout < self.store.timeout / 10;
        if !(is_hasty && error.kind() == ErrorKind::Timeout) {
            self.process.note_failure(endpoint, Instant::now());
        }
        Failure::Unusable(match error.kind() {
            ErrorKind::Store => error,
            _ => errors::unreachable(&error),
        })
    }
}

/// `SET` of a lease where nothing stands.
fn set_lease(out: &mut Commands, name: &[u8], lease: &[u8]) {
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
