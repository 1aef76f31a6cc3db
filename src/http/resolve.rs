//! From a host's name to its addresses.
//!
//! The system's lookup blocks and cannot be interrupted, so it runs on a helper thread that lives
//! as long as the lookup; whoever asked waits on a descriptor and goes when the time is up.

#![allow(unsafe_code)] // pthread_sigmask(3)

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::control::Control;
use super::errors::{Phase, internal};
use super::getaddrinfo::{self, not_found};
use super::own_socket::OwnSocket;
use super::poll::Ready;
use crate::config::Host;
use crate::error::Error;
use crate::fork::PerProcess;

/// How long an answer is kept. The system tells no lifetime, and a name seldom moves.
const KEPT: Duration = Duration::from_secs(30);

/// How old a lookup may be for a call to wait for it alone. One that hangs longer may be hanging on a
/// network that has come back since: another is begun beside it.
const SHARED: Duration = Duration::from_secs(3);

/// The most lookups of one process at once. They pile up only while the resolver hangs.
const HELPERS_MAX: usize = 16;

/// What a helper needs for getaddrinfo, and not the default of two megabytes; the standard library
/// reads the environment for that one.
const HELPER_STACK: usize = 512 * 1024;

static HELPERS: PerProcess<AtomicUsize> = PerProcess::empty();

type Found = Result<Vec<SocketAddr>, Error>;

/// The one name that is looked up here. Asked only for a new connection.
pub(crate) struct NameCache(Arc<Mutex<Names>>);

/// What is known of the name, who looks it up, and who waits.
#[derive(Default)]
struct Names {
    answer: Option<Answer>,
    /// When each lookup under way was begun, the latest last.
    under_way: Vec<Instant>,
    waiting: Vec<Arc<Waiter>>,
}

struct Answer {
    addresses: Vec<SocketAddr>,
    /// Of its lookup.
    begun: Instant,
    since: Instant,
}

/// A call that waits, for whichever lookup answers first.
struct Waiter {
    /// Shutting it down wakes the call, which has the other end.
    sender: OwnSocket,
    found: OnceLock<Found>,
}

impl NameCache {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// At least one address, or an error.
    pub(crate) fn resolve(&self, host: &Host, port: u16, control: &Control) -> Found {
        match host {
            Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
            // Never looked up: no entry in a table or a name server may move it to another machine
            // (RFC 6761, 6.3).
            Host::Name(name) if name == "localhost" => Ok(loopback(port)),
            Host::Name(name) => self.look_up(name, port, control),
        }
    }

    /// Its addresses did not answer: the next one looks up again.
    pub(crate) fn forget(&self) {
        lock(&self.0).answer = None;
    }

    fn look_up(&self, name: &str, port: u16, control: &Control) -> Found {
        let (seat, done) = {
            let mut names = lock(&self.0);
            if let Some(addresses) = names.fresh_answer() {
                return Ok(addresses);
            }
            let (sender, done) =
                OwnSocket::pair().map_err(|error| internal("a socket pair", &error))?;
            if !names.has_young_lookup() {
                self.begin(&mut names, name, port)?;
            }
            (self.seat(&mut names, sender), done)
        };
        control.wait(done.as_fd(), Ready::Read, Phase::Resolve)?;
        let ended = || Err(not_found("the lookup ended without an answer", true));
        seat.waiter.found.get().cloned().unwrap_or_else(ended)
    }

    /// Begins a lookup. That it cannot is no failure while an older one may still answer.
    fn begin(&self, names: &mut Names, name: &str, port: u16) -> Result<(), Error> {
        let begun = Instant::now();
        let started = match Helper::new() {
            None => Err(not_found("too many lookups are hanging already", true)),
            Some(helper) => spawn(helper, Arc::clone(&self.0), begun, name.to_owned(), port)
                .map_err(|error| internal("a thread", &error)),
        };
        match started {
            Ok(()) => names.under_way.push(begun),
            Err(error) if names.under_way.is_empty() => return Err(error),
            Err(_) => {}
        }
        Ok(())
    }

    fn seat(&self, names: &mut Names, sender: OwnSocket) -> Seat<'_> {
        let waiter = Arc::new(Waiter { sender, found: OnceLock::new() });
        names.waiting.push(Arc::clone(&waiter));
        Seat { names: &self.0, waiter }
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
        self.under_way.last().is_some_and(|begun| begun.elapsed() < SHARED)
    }

    /// The lookup that was begun then has ended. Gives who is to be told: all who wait, whichever
    /// lookup they came for. For a failure that may pass there must be no other lookup that could
    /// still answer; "no such host" is an answer.
    fn end(&mut self, begun: Instant, found: &Found) -> Vec<Arc<Waiter>> {
        if let Some(at) = self.under_way.iter().position(|other| *other == begun) {
            self.under_way.remove(at);
        }
        match found {
            Ok(addresses) => self.keep(addresses, begun),
            Err(error) if error.retryable() && !self.under_way.is_empty() => return Vec::new(),
            Err(_) => {}
        }
        std::mem::take(&mut self.waiting)
    }

    /// Not in the place of what a later lookup has found.
    fn keep(&mut self, addresses: &[SocketAddr], begun: Instant) {
        if self.answer.as_ref().is_none_or(|answer| answer.begun <= begun) {
            self.answer =
                Some(Answer { addresses: addresses.to_vec(), begun, since: Instant::now() });
        }
    }
}

impl Waiter {
    fn tell(&self, found: Found) {
        let _ = self.found.set(found);
        // Not by dropping it: a child that was forked meanwhile holds it too, and keeps it open.
        self.sender.shutdown();
    }
}

/// The place of a call among those that wait.
struct Seat<'a> {
    names: &'a Mutex<Names>,
    waiter: Arc<Waiter>,
}

/// A call that goes takes its descriptor with it, however long the lookup hangs on.
impl Drop for Seat<'_> {
    fn drop(&mut self) {
        lock(self.names).waiting.retain(|other| !Arc::ptr_eq(other, &self.waiter));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    helper: Helper,
    names: Arc<Mutex<Names>>,
    begun: Instant,
    name: String,
    port: u16,
) -> std::io::Result<()> {
    let work = move || {
        let _helper = helper;
        // Whatever happens here, those who wait must be told.
        let found = catch_unwind(|| getaddrinfo::addresses(&name, port))
            .unwrap_or_else(|_| Err(not_found("the lookup panicked", true)));
        let told = lock(&names).end(begun, &found);
        told.iter().for_each(|waiter| waiter.tell(found.clone()));
    };
    let builder =
        std::thread::Builder::new().name("spike_auth-dns".into()).stack_size(HELPER_STACK);
    without_signals(|| builder.spawn(work).map(|_| ()))
}

/// Runs `body`, and lets a thread that it makes begin with all signals blocked: the handlers of the
/// host are not ours to run.
fn without_signals<T>(body: impl FnOnce() -> T) -> T {
    let _restored = BlockedSignals::new();
    body()
}

/// All signals are blocked in this thread until it is dropped; `None` if they could not be.
struct BlockedSignals(Option<libc::sigset_t>);

impl BlockedSignals {
    fn new() -> Self {
        // SAFETY: both sets live on this stack throughout; a signal set is plain numbers, of which any
        // are valid, and the two functions write to nothing else.
        unsafe {
            let (mut all, mut before) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigfillset(&mut all);
            let failed = libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before) != 0;
            Self((!failed).then_some(before))
        }
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // SAFETY: a set that pthread_sigmask(3) itself has filled; nothing is written.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) };
        }
    }
}

fn loopback(port: u16) -> Vec<SocketAddr> {
    vec![
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
        SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
    ]
}

/// One of the helpers that may be at work.
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

    #[test]
    fn a_call_that_goes_while_a_lookup_hangs_leaves_no_descriptor() {
        let cache = NameCache::new();
        let (sender, done) = OwnSocket::pair().unwrap();
        let seat = cache.seat(&mut lock(&cache.0), sender);
        assert_eq!(lock(&cache.0).waiting.len(), 1);
        drop(seat);
        assert_eq!(lock(&cache.0).waiting.len(), 0);
        assert_eq!(done.receive(&mut [0]).unwrap(), 0, "the other end is open");
    }

    #[test]
    fn what_an_older_lookup_brings_does_not_replace_a_later_answer() {
        let mut names = Names::default();
        let old = Instant::now();
        let new = old + Duration::from_secs(3);
        names.under_way = vec![old, new];
        let address = |port| Ok(loopback(port));
        names.end(new, &address(2));
        names.end(old, &address(1));
        assert_eq!(names.fresh_answer(), Some(loopback(2)));
        assert!(names.under_way.is_empty());
    }
}
