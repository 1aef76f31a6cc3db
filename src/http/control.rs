//! One call's deadline, what wakes it, and the reason why it stopped.
//!
//! Everything that may block blocks in [`Control::wait`], on the socket and on the wake-up
//! descriptor together. So a call that is closed comes back at once, whatever it was doing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::errors::{Phase, connect_timed_out, internal, left_to_the_parent, timed_out};
use super::framing;
use super::own_socket::OwnSocket;
use super::poll::{Polled, Ready, poll};
use crate::error::{Error, ErrorKind};
use crate::fork::generation;

/// When a call must be over, and the time it was given, for its message.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    /// What is left of it.
    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }
}

/// Shared by the call that uses a slot and whoever may stop it.
pub(crate) struct Control {
    /// The generation of the process whose connection it is.
    made_in: u64,
    closed: AtomicBool,
    cancelled: AtomicBool,
    /// A descriptor of the slot was closed by the program.
    broken: AtomicBool,
    /// The reply's body is being read, and comes in chunks.
    chunked: AtomicBool,
    wake_sender: OwnSocket,
    wake_receiver: OwnSocket,
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
        let (wake_sender, wake_receiver) = OwnSocket::pair()?;
        let past = Deadline { at: Instant::now(), timeout: Duration::ZERO };
        let call = Call {
            deadline: past,
            connect: past,
            connects: false,
            sent: false,
            answered: false,
            failure: None,
        };
        Ok(Self {
            made_in: generation(),
            closed: AtomicBool::new(false),
            cancelled: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            chunked: AtomicBool::new(false),
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
        self.chunked.store(false, Ordering::Relaxed);
        if self.cancelled.swap(false, Ordering::AcqRel) {
            self.drain();
        }
    }

    /// Whether there is a wake-up to rely on. What is not ours any more is not read from.
    fn drain(&self) -> bool {
        // At most one byte for a cancel and one for a close; the flags say what they meant.
        self.wake_receiver.is_ours()
            && match self.wake_receiver.receive(&mut [0; 2]) {
                Ok(count) => count > 0,
                Err(error) => is_passing(&error),
            }
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
        // A full buffer means that it is awake already. One that the program closed ends the wait by
        // itself, and what has its number now is not ours to write to.
        if self.wake_sender.is_ours() {
            let _ = self.wake_sender.send(&[1]);
        }
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

    /// From now on the body is read, and it comes in chunks.
    pub(crate) fn note_chunks(&self) {
        self.chunked.store(true, Ordering::Relaxed);
    }

    pub(crate) fn reads_chunks(&self) -> bool {
        self.chunked.load(Ordering::Relaxed)
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
            match poll(self.wake_receiver.as_fd(), fds, ready, until) {
                Ok(Polled::Woken) => {
                    self.check()?;
                    // By a cancel that came too late for the attempt before.
                    if !self.drain() {
                        return Err(self.descriptor_closed());
                    }
                }
                Ok(Polled::Closed) => return Err(self.descriptor_closed()),
                Ok(Polled::Ready(index)) => return Ok(Some(index)),
                Ok(Polled::Nothing) if pause.is_some_and(|pause| Instant::now() >= pause) => {
                    return Ok(None);
                }
                Ok(Polled::Nothing) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(internal("poll", &error)),
            }
        }
    }

    /// A descriptor of the slot does not stand for what it did: the slot is of no more use, and so are
    /// the others that rest.
    pub(crate) fn descriptor_closed(&self) -> Error {
        self.broken.store(true, Ordering::Release);
        Error::new(
            ErrorKind::Internal,
            "A descriptor of this library was closed by the program, for example by closefrom(3). Let the \
             program close its own descriptors only; the next call makes a new connection.",
        )
        .with_retryable(true)
    }

    /// Whether what wakes the call is still there, and `socket` what it was. Two system calls for each
    /// exchange on a kept connection: without them a request could be written to a stranger's socket.
    pub(crate) fn is_intact(&self, socket: &OwnSocket) -> bool {
        self.wake_receiver.is_ours() && socket.is_ours()
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
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
        if self.made_in != generation() {
            return Err(left_to_the_parent());
        }
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
        self.call().failure.take().unwrap_or_else(|| framing::translate(&error))
    }

    fn call(&self) -> MutexGuard<'_, Call> {
        self.call.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a system call may go through when it is made again.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}
