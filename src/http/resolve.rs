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

use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType};

use super::control::{Control, Phase, Ready, internal};
use super::fork::PerProcess;
use super::own_socket::OwnSocket;
use crate::config::Host;
use crate::error::{Error, ErrorKind, cut};

/// How long an answer is kept. The system tells no lifetime, and a name seldom moves.
const KEPT: Duration = Duration::from_secs(30);

/// How long a lookup is waited for by those who come later. One that hangs longer may be hanging on
/// a network that has come back since: another is begun beside it.
const SHARED: Duration = Duration::from_secs(3);

/// The most lookups of one process at once. They pile up only while the resolver hangs.
const HELPERS_MAX: usize = 16;

/// What a helper needs for getaddrinfo, and not the default of two megabytes; the standard library
/// reads the environment for that one.
const HELPER_STACK: usize = 512 * 1024;

static HELPERS: PerProcess<AtomicUsize> = PerProcess::first(AtomicUsize::new(0));

/// The one name that is looked up here: the last answer, and the lookup in flight. Asked only for a
/// new connection.
pub(crate) struct NameCache(Arc<Mutex<Names>>);

#[derive(Default)]
struct Names {
    answer: Option<Answer>,
    flight: Option<Arc<Flight>>,
}

struct Answer {
    addresses: Vec<SocketAddr>,
    since: Instant,
}

/// A lookup that many wait for.
struct Flight {
    since: Instant,
    /// One end for each who waits; shutting it down wakes the other.
    waiting: Mutex<Vec<OwnSocket>>,
    found: OnceLock<Result<Vec<SocketAddr>, NotFound>>,
}

impl NameCache {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// At least one address, or an error.
    pub(crate) fn resolve(
        &self,
        host: &Host,
        port: u16,
        control: &Control,
    ) -> Result<Vec<SocketAddr>, Error> {
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

    fn look_up(&self, name: &str, port: u16, control: &Control) -> Result<Vec<SocketAddr>, Error> {
        let flight = {
            let mut names = lock(&self.0);
            if let Some(answer) = names
                .answer
                .as_ref()
                .filter(|answer| answer.since.elapsed() < KEPT)
            {
                return Ok(answer.addresses.clone());
            }
            self.join(&mut names, name, port)?
        };
        let (sender, done) =
            OwnSocket::pair().map_err(|error| internal("a socket pair", &error))?;
        // A flight that has ended meanwhile wakes at once.
        flight.wake_at_end(sender);
        control.wait(done.as_fd(), Ready::Read, Phase::Resolve)?;
        match flight.found.get() {
            Some(Ok(addresses)) => Ok(addresses.clone()),
            Some(Err(why)) => Err(why.to_error()),
            None => Err(NotFound::passing("the lookup ended without an answer").to_error()),
        }
    }

    /// The lookup in flight, or a new one.
    fn join(&self, names: &mut Names, name: &str, port: u16) -> Result<Arc<Flight>, Error> {
        let in_flight = names.flight.clone();
        if let Some(flight) = in_flight
            .as_ref()
            .filter(|flight| flight.since.elapsed() < SHARED)
        {
            return Ok(Arc::clone(flight));
        }
        let Some(helper) = Helper::new() else {
            let many = NotFound::passing("too many lookups are hanging already");
            return in_flight.ok_or_else(|| many.to_error());
        };
        let flight = Arc::new(Flight {
            since: Instant::now(),
            waiting: Mutex::default(),
            found: OnceLock::new(),
        });
        spawn(
            helper,
            Arc::clone(&flight),
            Arc::clone(&self.0),
            name.to_owned(),
            port,
        )
        .map_err(|error| internal("a thread", &error))?;
        names.flight = Some(Arc::clone(&flight));
        Ok(flight)
    }
}

impl Flight {
    fn wake_at_end(&self, sender: OwnSocket) {
        let mut waiting = lock(&self.waiting);
        match self.found.get() {
            None => waiting.push(sender),
            Some(_) => wake(&sender),
        }
    }

    fn end(&self, found: Result<Vec<SocketAddr>, NotFound>) {
        // Under the lock, so that nobody comes to wait for what has been.
        let mut waiting = lock(&self.waiting);
        let _ = self.found.set(found);
        waiting.drain(..).for_each(|sender| wake(&sender));
    }
}

/// Not by dropping it: a child that was forked meanwhile holds it too, and keeps it open.
fn wake(sender: &OwnSocket) {
    sender.shutdown();
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn spawn(
    helper: Helper,
    flight: Arc<Flight>,
    names: Arc<Mutex<Names>>,
    name: String,
    port: u16,
) -> std::io::Result<()> {
    let work = move || {
        let _helper = helper;
        // Whatever happens here, those who wait must be told.
        let found = catch_unwind(|| ask_the_system(&name, port))
            .unwrap_or_else(|_| Err(NotFound::passing("the lookup panicked")));
        {
            let mut names = lock(&names);
            let newer = names
                .answer
                .as_ref()
                .is_some_and(|answer| answer.since > flight.since);
            if let Ok(addresses) = &found
                && !newer
            {
                names.answer = Some(Answer {
                    addresses: addresses.clone(),
                    since: Instant::now(),
                });
            }
            names
                .flight
                .take_if(|current| Arc::ptr_eq(current, &flight));
        }
        flight.end(found);
    };
    let builder = std::thread::Builder::new()
        .name("spike_auth-dns".into())
        .stack_size(HELPER_STACK);
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

fn ask_the_system(name: &str, port: u16) -> Result<Vec<SocketAddr>, NotFound> {
    let hints = AddrInfoHints {
        socktype: SockType::Stream.into(),
        ..AddrInfoHints::default()
    };
    let found =
        dns_lookup::getaddrinfo(Some(name), None, Some(hints)).map_err(|error| {
            match error.kind() {
                LookupErrorKind::NoName | LookupErrorKind::NoData => {
                    NotFound::lasting("there is no such host")
                }
                _ => NotFound::passing(cut(&std::io::Error::from(error).to_string(), 120)),
            }
        })?;
    let addresses: Vec<_> = found
        .flatten()
        .map(|info| SocketAddr::new(info.sockaddr.ip(), port))
        .collect();
    if addresses.is_empty() {
        return Err(NotFound::lasting("it has no address"));
    }
    Ok(addresses)
}

/// One of the helpers that may be at work.
struct Helper(&'static AtomicUsize);

impl Helper {
    fn new() -> Option<Self> {
        let helpers = HELPERS.get(|| AtomicUsize::new(0));
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

/// Why a lookup failed, for each who waited for it.
#[derive(Debug)]
struct NotFound {
    why: String,
    may_pass: bool,
}

impl NotFound {
    fn passing(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            may_pass: true,
        }
    }

    fn lasting(why: &str) -> Self {
        Self {
            why: why.to_owned(),
            may_pass: false,
        }
    }

    fn to_error(&self) -> Error {
        Error::new(
            ErrorKind::Resolve,
            format!("The host's name was not found: {}. Check the base URL and this machine's name servers.", self.why),
        )
        .with_retryable(self.may_pass)
    }
}
