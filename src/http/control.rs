//! One call's deadline, what wakes it, and the reason why it stopped.
//!
//! Everything that may block blocks in [`Control::wait`], on the socket and on the wake-up
//! descriptor together. So a call that is closed comes back at once, whatever it was doing.

#![allow(unsafe_code)] // poll(2)

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};

/// When a call must be over, and the time it was given, for its message.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self {
            at: Instant::now() + timeout,
            timeout,
        }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// What a call is doing, for its deadline and its error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Slot,
    Shared,
    Hold,
    Start,
    Resolve,
    Connect,
    Tunnel,
    Handshake,
    Exchange,
}

impl Phase {
    /// Whether the connect timeout holds beside the deadline.
    fn makes_connection(self) -> bool {
        matches!(
            self,
            Self::Resolve | Self::Connect | Self::Tunnel | Self::Handshake
        )
    }
}

/// What to wait for.
#[derive(Clone, Copy)]
pub(crate) enum Ready {
    Read,
    Write,
}

/// Shared by the call that uses a slot and whoever may stop it.
pub(crate) struct Control {
    closed: AtomicBool,
    cancelled: AtomicBool,
    wake_sender: UnixStream,
    wake_receiver: UnixStream,
    call: Mutex<Call>,
}

/// One attempt of a call.
struct Call {
    deadline: Deadline,
    /// The same for making a connection.
    connect: Deadline,
    /// Whether it makes a connection of its own, rather than using a kept one.
    connects: bool,
    /// Whether the request went out.
    sent: bool,
    /// Whether any byte of a reply has come.
    answered: bool,
    /// The first failure. It is kept here, because a detour through ureq's and rustls's errors
    /// would lose what kind it was.
    failure: Option<Error>,
}

impl Control {
    /// Costs two descriptors, close-on-exec.
    pub(crate) fn new() -> io::Result<Self> {
        let (wake_sender, wake_receiver) = UnixStream::pair()?;
        wake_sender.set_nonblocking(true)?;
        wake_receiver.set_nonblocking(true)?;
        let past = Deadline {
            at: Instant::now(),
            timeout: Duration::ZERO,
        };
        let call = Call {
            deadline: past,
            connect: past,
            connects: false,
            sent: false,
            answered: false,
            failure: None,
        };
        Ok(Self {
            closed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            wake_sender,
            wake_receiver,
            call: Mutex::new(call),
        })
    }

    /// Starts an attempt. Nobody may be able to cancel the one before any more.
    pub(crate) fn begin(&self, deadline: Deadline, connect: Deadline) {
        *self.call() = Call {
            deadline,
            connect,
            connects: false,
            sent: false,
            answered: false,
            failure: None,
        };
        if self.cancelled.swap(false, Ordering::AcqRel) {
            self.drain();
        }
    }

    fn drain(&self) {
        // At most one byte for a cancel and one for a close; the flags say what they meant.
        let _ = (&self.wake_receiver).read(&mut [0; 2]);
    }

    /// Ends the attempt at once, from any thread.
    pub(crate) fn cancel(&self) {
        if !self.cancelled.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// Likewise, and every later one.
    pub(crate) fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    fn wake(&self) {
        // A full pipe means that it is awake already.
        let _ = (&self.wake_sender).write(&[1]);
    }

    /// The attempt makes a connection of its own.
    pub(crate) fn note_connect(&self) {
        self.call().connects = true;
    }

    /// The request goes out.
    pub(crate) fn note_request(&self) {
        self.call().sent = true;
    }

    /// Whether the attempt ended before it did anything.
    pub(crate) fn did_nothing(&self) -> bool {
        let call = self.call();
        !call.connects && !call.sent
    }

    /// How many requests the attempt has sent: one or none.
    pub(crate) fn requests(&self) -> u32 {
        self.call().sent.into()
    }

    /// A byte of the reply has come.
    pub(crate) fn note_answer(&self) {
        self.call().answered = true;
    }

    /// Whether the attempt failed only because the connection that was kept is dead. Then it cost
    /// the service nothing, and goes again on a new one.
    pub(crate) fn was_stale(&self, failure: &Error) -> bool {
        let call = self.call();
        failure.kind() == ErrorKind::ConnectionLost && !call.connects && !call.answered
    }

    /// Waits until `fd` is ready, and not longer than `phase` may take.
    pub(crate) fn wait(&self, fd: BorrowedFd<'_>, ready: Ready, phase: Phase) -> Result<(), Error> {
        self.wait_any(&[fd], ready, phase, None).map(|_| ())
    }

    /// Waits until one of `fds` is ready and says which; `None` when `pause` is over first.
    pub(crate) fn wait_any(
        &self,
        fds: &[BorrowedFd<'_>],
        ready: Ready,
        phase: Phase,
        pause: Option<Instant>,
    ) -> Result<Option<usize>, Error> {
        loop {
            let limit = self.limit(phase)?;
            let until = pause.map_or(limit, |pause| pause.min(limit));
            match poll(self.wake_receiver.as_raw_fd(), fds, ready, until) {
                Ok(Polled::Woken) => {
                    self.check()?;
                    self.drain(); // of a cancel that came too late for the attempt before
                }
                Ok(Polled::Ready(index)) => return Ok(Some(index)),
                Ok(Polled::Nothing) if pause.is_some_and(|pause| Instant::now() >= pause) => {
                    return Ok(None);
                }
                Ok(Polled::Nothing) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(internal("poll", &error)),
            }
        }
    }

    /// Why the attempt must not even begin, if it must not.
    pub(crate) fn may_go_on(&self) -> Result<(), Error> {
        self.limit(Phase::Start).map(|_| ())
    }

    /// When `phase` must be over, or why it must not go on.
    fn limit(&self, phase: Phase) -> Result<Instant, Error> {
        self.check()?;
        let (deadline, connect) = {
            let call = self.call();
            (call.deadline, call.connect)
        };
        let now = Instant::now();
        if now >= deadline.at {
            return Err(timed_out(deadline.timeout, phase));
        }
        if !phase.makes_connection() {
            return Ok(deadline.at);
        }
        if now >= connect.at {
            return Err(connect_timed_out(connect.timeout, phase));
        }
        Ok(deadline.at.min(connect.at))
    }

    /// Whether anybody has stopped the call.
    fn check(&self) -> Result<(), Error> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::closed());
        }
        if self.cancelled.load(Ordering::Acquire) {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    /// Keeps `error` as the reason of the call's failure, and gives ureq one to carry.
    pub(crate) fn fail(&self, error: Error) -> ureq::Error {
        self.call().failure.get_or_insert(error);
        ureq::Error::ConnectionFailed
    }

    /// Likewise for code that speaks `std::io`.
    pub(crate) fn fail_io(&self, error: Error) -> io::Error {
        self.call().failure.get_or_insert(error);
        // Not a kind that means "the connection ended": ureq takes that for the end of a body.
        io::Error::other("stopped")
    }

    /// What ended the call, in our own terms.
    pub(crate) fn cause_of(&self, error: ureq::Error) -> Error {
        self.call()
            .failure
            .take()
            .unwrap_or_else(|| translate(&error))
    }

    fn call(&self) -> MutexGuard<'_, Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Polled {
    Woken,
    Ready(usize),
    Nothing,
}

/// The most descriptors that are waited for at once: the wake-up and the addresses of a host.
const POLL_MAX: usize = 1 + super::connect::ADDRESSES_MAX;

fn poll(wake: i32, fds: &[BorrowedFd<'_>], ready: Ready, until: Instant) -> io::Result<Polled> {
    let events = match ready {
        Ready::Read => libc::POLLIN,
        Ready::Write => libc::POLLOUT,
    };
    // A negative descriptor is one that poll(2) passes over.
    let mut list = [libc::pollfd {
        fd: -1,
        events,
        revents: 0,
    }; POLL_MAX];
    let (first, others) = list.split_at_mut(1);
    first.fill(libc::pollfd {
        fd: wake,
        events: libc::POLLIN,
        revents: 0,
    });
    for (entry, fd) in others.iter_mut().zip(fds) {
        entry.fd = fd.as_raw_fd();
    }
    // Rounded up: one that is rounded down wakes too early and spins through the last millisecond.
    let wait = until
        .saturating_duration_since(Instant::now())
        .as_micros()
        .div_ceil(1000);
    let wait = libc::c_int::try_from(wait).unwrap_or(libc::c_int::MAX);
    let count = (1 + fds.len()).min(POLL_MAX) as libc::nfds_t;
    // SAFETY: `list` is an array of at least `count` entries that lives throughout the call, and
    // poll(2) writes to nothing but their `revents`.
    let found = unsafe { libc::poll(list.as_mut_ptr(), count, wait) };
    if found < 0 {
        return Err(io::Error::last_os_error());
    }
    let (first, others) = list.split_at(1);
    if first.iter().any(|entry| entry.revents != 0) {
        return Ok(Polled::Woken);
    }
    Ok(others
        .iter()
        .position(|entry| entry.revents != 0)
        .map_or(Polled::Nothing, Polled::Ready))
}

pub(crate) fn timed_out(timeout: Duration, phase: Phase) -> Error {
    let doing = match phase {
        Phase::Slot => "waiting until another exchange of this client had ended",
        Phase::Shared => "waiting for the same user's exchange, which another call had begun",
        Phase::Hold => "waiting for a first request, after the service had asked to wait",
        Phase::Start => "before the request was sent",
        Phase::Resolve => "looking up the host's name",
        Phase::Connect => "connecting",
        Phase::Tunnel => "waiting for the proxy",
        Phase::Handshake => "in the TLS handshake",
        Phase::Exchange => "waiting for the reply",
    };
    Error::new(
        ErrorKind::Timeout,
        format!(
            "The call did not finish within its timeout of {} ms; it ended {doing}. Try again, or \
             set a longer timeout.",
            timeout.as_millis()
        ),
    )
    .with_retryable(true)
}

fn connect_timed_out(timeout: Duration, phase: Phase) -> Error {
    let ms = timeout.as_millis();
    let network = "the network between, a firewall, and the base URL";
    let (kind, what, check) = match phase {
        Phase::Resolve => (ErrorKind::Resolve, "The host's name was not found", network),
        Phase::Tunnel => (
            ErrorKind::Proxy,
            "The proxy did not answer",
            "the proxy's URL, and that it is up",
        ),
        Phase::Handshake => (
            ErrorKind::Connect,
            "The TLS handshake did not finish",
            network,
        ),
        _ => (ErrorKind::Connect, "The host did not answer", network),
    };
    Error::new(
        kind,
        format!("{what} within the connect timeout of {ms} ms. Check {check}."),
    )
    .with_retryable(true)
    .with_timed_out()
}

pub(crate) fn internal(what: &str, error: &io::Error) -> Error {
    Error::new(
        ErrorKind::Internal,
        format!("The operating system refused {what}: {error}. Check the limits of the process, on open files (RLIMIT_NOFILE) first."),
    )
    .with_retryable(true)
}

pub(crate) fn connection_lost(why: &str) -> Error {
    Error::new(
        ErrorKind::ConnectionLost,
        format!("The connection ended before the whole reply was there: {why}. Try again."),
    )
    .with_retryable(true)
}

/// An error that ureq found by itself: in the reply's HTTP, or at the end of the connection.
fn translate(error: &ureq::Error) -> Error {
    match error {
        ureq::Error::Io(error) => connection_lost(crate::error::cut(&error.to_string(), 100)),
        ureq::Error::BodyStalled => connection_lost("the reply ends in the middle"),
        ureq::Error::LargeResponseHeader(..) => super::too_large(),
        // ureq-proto's own error type cannot be named here.
        ureq::Error::Protocol(error) if error.to_string().contains("too many headers") => {
            super::too_large()
        }
        ureq::Error::Protocol(_) | ureq::Error::Http(_) => Error::new(
            ErrorKind::InvalidResponse,
            "The reply is not valid HTTP. Check that the base URL is the service's, and that nothing \
             between answers in its place.",
        ),
        other => Error::new(
            ErrorKind::Internal,
            format!(
                "The HTTP layer failed: {}.",
                crate::error::cut(&other.to_string(), 100)
            ),
        ),
    }
}
