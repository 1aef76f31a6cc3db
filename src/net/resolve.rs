//! Name lookup.
//!
//! The system's lookup blocks and cannot be interrupted. So it runs on a helper thread, which lives as long
//! as the lookup, while the call waits on a descriptor until its deadline.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::call_io::CallIo;
use super::errors::{Phase, internal};
use super::getaddrinfo::{self, not_found};
use super::own_socket::OwnSocket;
use super::poll::Ready;
use crate::config::Host;
use crate::error::Error;
use crate::fork::{PerProcess, generation, try_lock};
use crate::threads;

/// How long an answer is kept. The system reports no lifetime, and addresses seldom change.
const KEPT: Duration = Duration::from_secs(30);

/// A call shares a lookup that is younger than this. An older one may hang on a network that has recovered
/// since, so another one is started.
const SHARED: Duration = Duration::from_secs(3);

/// The most concurrent lookups of a process. They accumulate only while the resolver hangs.
const HELPERS_MAX: usize = 16;

/// Enough for getaddrinfo. For its default of two megabytes, the standard library reads the environment.
const HELPER_STACK: usize = 512 * 1024;

static HELPERS: PerProcess<AtomicUsize> = PerProcess::empty();

type Found = Result<Vec<SocketAddr>, Error>;

/// The lookups and the last answer of the one host name. Used only for a new connection.
pub(crate) struct NameCache(Arc<Mutex<Names>>);

#[derive(Default)]
struct Names {
    answer: Option<Answer>,
    /// The start of each lookup in progress, the latest last.
    in_progress: Vec<Instant>,
    waiting: Vec<Arc<Waiter>>,
}

struct Answer {
    addresses: Vec<SocketAddr>,
    /// The start of its lookup.
    started: Instant,
    since: Instant,
}

/// A call that waits for the first lookup that answers.
struct Waiter {
    /// Shutting it down wakes the call, which waits on the other end.
    sender: OwnSocket,
    found: OnceLock<Found>,
}

impl NameCache {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// At least one address, or an error.
    pub(crate) fn resolve(&self, host: &Host, port: u16, call: &CallIo) -> Found {
        match host {
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
            // Never looked up: no hosts file or name server may move it to another machine (RFC 6761, 6.3).
            Host::Name(name) if name == "localhost" => Ok(loopback(port)),
            Host::Name(name) => self.look_up(name, port, call),
        }
    }

    /// The addresses did not answer: the next call looks the name up again.
    pub(crate) fn forget(&self) {
        lock(&self.0).answer = None;
    }

    fn look_up(&self, name: &str, port: u16, call: &CallIo) -> Found {
        let (guard, done) = {
            let mut names = lock(&self.0);
            if let Some(addresses) = names.fresh_answer() {
                return Ok(addresses);
            }
            let (sender, done) =
                OwnSocket::pair().map_err(|error| internal("a socket pair", &error))?;
            if !names.has_young_lookup() {
                self.start(&mut names, name, port)?;
            }
            (self.register(&mut names, sender), done)
        };
        call.wait(done.as_fd(), Ready::Read, Phase::Resolve)?;
        let ended = || Err(not_found("the lookup ended without an answer", true));
        guard.waiter.found.get().cloned().unwrap_or_else(ended)
    }

    /// Starts a lookup. Fails only if no older one is in progress, which may still answer.
    fn start(&self, names: &mut Names, name: &str, port: u16) -> Result<(), Error> {
        let started = Instant::now();
        let spawned = match Helper::new() {
            None => Err(not_found("too many lookups are in progress", true)),
            Some(helper) => spawn(helper, Arc::clone(&self.0), started, name.to_owned(), port)
                .map_err(|error| internal("a thread", &error)),
        };
        match spawned {
            Ok(()) => names.in_progress.push(started),
            Err(error) if names.in_progress.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    fn register(&self, names: &mut Names, sender: OwnSocket) -> WaiterGuard<'_> {
        let waiter = Arc::new(Waiter { sender, found: OnceLock::new() });
        names.waiting.push(Arc::clone(&waiter));
        WaiterGuard { names: &self.0, waiter, made_in: generation() }
    }
}

impl Names {
    fn fresh_answer(&self) -> Option<Vec<SocketAddr>> {
        self.answer
            .as_ref()
            .filter(|answer| answer.since.elapsed() < KEPT)
            .map(|answer| answer.addresses.clone())
    }

    fn has_young_lookup(&self) -> bool {
        self.in_progress.last().is_some_and(|started| started.elapsed() < SHARED)
    }

    /// Ends the lookup that started then, and returns the calls to notify: all that wait, for any lookup.
    /// After a temporary failure they go on waiting if another lookup may still answer.
    fn end(&mut self, started: Instant, found: &Found) -> Vec<Arc<Waiter>> {
        if let Some(at) = self.in_progress.iter().position(|other| *other == started) {
            self.in_progress.remove(at);
        }
        match found {
            Ok(addresses) => self.keep(addresses, started),
            Err(error) if error.retryable() && !self.in_progress.is_empty() => return Vec::new(),
            Err(_) => {}
        }
        std::mem::take(&mut self.waiting)
    }

    /// Keeps the addresses, unless a later lookup has answered already.
    fn keep(&mut self, addresses: &[SocketAddr], started: Instant) {
        if self.answer.as_ref().is_none_or(|answer| answer.started <= started) {
            self.answer =
                Some(Answer { addresses: addresses.to_vec(), started, since: Instant::now() });
        }
    }
}

impl Waiter {
    fn notify(&self, found: Found) {
        let _ = self.found.set(found);
        // Dropping it would not close it while a forked child holds a copy.
        self.sender.shutdown();
    }
}

/// A waiting call. Its drop removes the call and its descriptor, even if the lookup still hangs.
struct WaiterGuard<'a> {
    names: &'a Mutex<Names>,
    waiter: Arc<Waiter>,
    made_in: u64,
}

impl Drop for WaiterGuard<'_> {
    fn drop(&mut self) {
        let names = if self.made_in == generation() {
            Some(lock(self.names))
        } else {
            try_lock(self.names) // a helper thread of the parent may hold it
        };
        if let Some(mut names) = names {
            names.waiting.retain(|other| !Arc::ptr_eq(other, &self.waiter));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    helper: Helper,
    names: Arc<Mutex<Names>>,
    started: Instant,
    name: String,
    port: u16,
) -> std::io::Result<()> {
    let work = move || {
        let _helper = helper;
        // The waiting calls must be notified in any case.
        let found = catch_unwind(|| getaddrinfo::addresses(&name, port))
            .unwrap_or_else(|_| Err(not_found("the lookup panicked", true)));
        let waiting = lock(&names).end(started, &found);
        waiting.iter().for_each(|waiter| waiter.notify(found.clone()));
    };
    threads::spawn("spike_auth-dns", HELPER_STACK, work).map(drop)
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}

/// One of the [`HELPERS_MAX`] helper threads.
struct Helper(&'static AtomicUsize);

impl Helper {
    fn new() -> Option<Self> {
        let helpers = HELPERS.get(|_| AtomicUsize::new(0));
        helpers
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < HELPERS_MAX).then_some(count + 1)
            })
            .ok()
            .map(|_| Self(helpers))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::tests::pretend_fork;

    #[test]
    fn a_call_that_leaves_a_hanging_lookup_closes_its_descriptor() {
        let cache = NameCache::new();
        let (sender, done) = OwnSocket::pair().unwrap();
        let waiter = cache.register(&mut lock(&cache.0), sender);
        assert_eq!(lock(&cache.0).waiting.len(), 1);
        drop(waiter);
        assert_eq!(lock(&cache.0).waiting.len(), 0);
        assert_eq!(done.receive(&mut [0]).unwrap(), 0, "the other end is open");
    }

    #[test]
    fn an_inherited_call_leaves_a_lookup_without_waiting_for_its_lock() {
        for held_by_the_parent in [true, false] {
            let cache = NameCache::new();
            let (sender, done) = OwnSocket::pair().unwrap();
            let waiter = cache.register(&mut lock(&cache.0), sender);
            let names = held_by_the_parent.then(|| lock(&cache.0));
            pretend_fork();
            drop(waiter);
            assert_eq!(done.is_silent(), held_by_the_parent, "the other end is open");
            drop(names);
        }
    }

    #[test]
    fn an_older_lookup_does_not_replace_a_later_answer() {
        let mut names = Names::default();
        let old = Instant::now();
        let new = old + Duration::from_secs(3);
        names.in_progress = vec![old, new];
        let address = |port| Ok(loopback(port));
        names.end(new, &address(2));
        names.end(old, &address(1));
        assert_eq!(names.fresh_answer(), Some(loopback(2)));
        assert!(names.in_progress.is_empty());
    }
}
