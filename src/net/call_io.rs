//! How one call waits for its connection, what wakes it, and why it ended.
//!
//! Everything that may block blocks in [`CallIo::wait`], on the socket and on a wake-up descriptor
//! together. So a call that is stopped returns at once, in every phase.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Wake;
use std::time::Instant;

use super::errors::{Phase, connect_timed_out, internal};
use super::own_socket::OwnSocket;
use super::poll::{Polled, Ready, poll};
use crate::context::{Context, Deadline};
use crate::error::{Error, ErrorKind};

/// Shared by the call that uses a connection and the thread that may stop that call.
pub(crate) struct CallIo {
    /// A descriptor of the connection was closed by the program.
    broken: AtomicBool,
    /// The reply's body is being read, and comes in chunks.
    chunked: AtomicBool,
    wake_sender: OwnSocket,
    wake_receiver: OwnSocket,
    attempt: Mutex<Attempt>,
}

/// One attempt of a call.
struct Attempt {
    context: Context,
    /// The deadline for making a connection.
    connect: Deadline,
    /// It makes a connection of its own, rather than using a kept one.
    connects: bool,
    /// The request went out.
    sent: bool,
    /// A byte of a reply has come.
    answered: bool,
    /// The first failure. It is kept here, because a detour through ureq's and rustls's errors
    /// would lose its kind.
    failure: Option<Error>,
}

impl Attempt {
    fn new(context: &Context, connect: Deadline) -> Self {
        Self {
            context: context.clone(),
            connect,
            connects: false,
            sent: false,
            answered: false,
            failure: None,
        }
    }
}

impl CallIo {
    /// Costs two descriptors, close-on-exec.
    pub(crate) fn new(context: &Context) -> io::Result<Self> {
        let (wake_sender, wake_receiver) = OwnSocket::pair()?;
        Ok(Self {
            broken: AtomicBool::new(false),
            chunked: AtomicBool::new(false),
            wake_sender,
            wake_receiver,
            attempt: Mutex::new(Attempt::new(context, context.deadline)),
        })
    }

    /// Starts an attempt. A wake-up for the one before may still come: a wait that is woken checks why.
    pub(crate) fn begin(&self, context: &Context, connect: Deadline) {
        *self.attempt() = Attempt::new(context, connect);
        self.chunked.store(false, Ordering::Relaxed);
    }

    /// Whether there is a wake-up to rely on. What is not ours any more is not read from.
    fn drain(&self) -> bool {
        self.wake_receiver.is_ours()
            && match self.wake_receiver.receive(&mut [0; 2]) {
                Ok(count) => count > 0,
                Err(error) => is_passing(&error),
            }
    }

    /// The attempt makes a connection of its own.
    pub(crate) fn note_connect(&self) {
        self.attempt().connects = true;
    }

    /// The request goes out.
    pub(crate) fn note_request(&self) {
        self.attempt().sent = true;
    }

    /// Whether the attempt ended before it did anything.
    pub(crate) fn did_nothing(&self) -> bool {
        let attempt = self.attempt();
        !attempt.connects && !attempt.sent
    }

    /// How many requests the attempt has sent: one or none.
    pub(crate) fn requests(&self) -> u32 {
        self.attempt().sent.into()
    }

    /// A byte of the reply has come.
    pub(crate) fn note_answer(&self) {
        self.attempt().answered = true;
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
        let attempt = self.attempt();
        failure.kind() == ErrorKind::ConnectionLost && !attempt.connects && !attempt.answered
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
                    self.attempt().context.check()?;
                    // The wake-up was for the attempt before.
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

    /// A descriptor of the connection does not stand for what it did: the connection is of no more use, and so are
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
        let (deadline, connect) = {
            let attempt = self.attempt();
            attempt.context.check()?;
            (attempt.context.deadline, attempt.connect)
        };
        let now = Instant::now();
        if now >= deadline.at {
            return Err(deadline.missed(phase.doing()));
        }
        if !phase.makes_connection() {
            return Ok(deadline.at);
        }
        if now >= connect.at {
            return Err(connect_timed_out(connect.timeout, phase));
        }
        Ok(deadline.at.min(connect.at))
    }

    /// Keeps `error` as the reason of the call's failure, unless there is one.
    pub(crate) fn fail(&self, error: Error) {
        self.attempt().failure.get_or_insert(error);
    }

    /// The same for code that returns `std::io::Error`.
    pub(crate) fn fail_io(&self, error: Error) -> io::Error {
        self.fail(error);
        // Not a kind that means "the connection ended": ureq takes that for the end of a body.
        io::Error::other("stopped")
    }

    /// The reason that was kept, or else `other`.
    pub(crate) fn failure_or(&self, other: impl FnOnce() -> Error) -> Error {
        self.attempt().failure.take().unwrap_or_else(other)
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a wait of the attempt, from any thread.
impl Wake for CallIo {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // A full buffer wakes it already. A descriptor that the program closed ends the wait by itself,
        // and its number may now belong to a file of the program.
        if self.wake_sender.is_ours() {
            let _ = self.wake_sender.send(&[1]);
        }
    }
}

/// Whether a system call may go through when it is made again.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::CancelToken;
    use std::time::Duration;

    const SHORT: Duration = Duration::from_millis(40);
    const LONG: Duration = Duration::from_secs(60);

    fn context(timeout: Duration, cancel: &CancelToken) -> Context {
        Context::new(timeout, Some(cancel), &CancelToken::new())
    }

    #[test]
    fn a_wake_up_for_an_earlier_attempt_neither_ends_nor_delays_a_later_one() {
        let (before, now) = (CancelToken::new(), CancelToken::new());
        let (reader, writer) = OwnSocket::pair().unwrap();
        let call = Arc::new(CallIo::new(&context(LONG, &before)).unwrap());
        let wait = || call.wait(reader.as_fd(), Ready::Read, Phase::Exchange);

        let begin = |timeout, wake_ups| {
            before.cancel();
            (0..wake_ups).for_each(|_| call.wake_by_ref());
            let context = context(timeout, &now);
            call.begin(&context, context.deadline);
            (0..wake_ups).for_each(|_| call.wake_by_ref()); // late
            context
        };
        for wake_ups in [0, 1, 2, 1000] {
            let start = Instant::now();
            begin(SHORT, wake_ups);
            assert_eq!(wait().unwrap_err().kind(), ErrorKind::Timeout, "{wake_ups}");
            assert!(start.elapsed() >= SHORT, "{wake_ups} ended it after {:?}", start.elapsed());

            begin(LONG, wake_ups);
            assert_eq!(writer.send(b"x").unwrap(), 1);
            wait().unwrap();
            assert_eq!(reader.receive(&mut [0; 2]).unwrap(), 1);
        }
        let context = begin(LONG, 3);
        let waker = std::task::Waker::from(Arc::clone(&call));
        let _wake = context.wake_on_stop(&waker);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(SHORT);
                now.cancel();
            });
            assert_eq!(wait().unwrap_err().kind(), ErrorKind::Cancelled);
        });
    }
}
