//! What one call carries from the boundary down to the socket: its deadline, and what can stop it.
//!
//! A call stops for one of three reasons: its time is up, its own token was cancelled, or its client was
//! closed. Each wait below the boundary ends for all three, within milliseconds.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind};
use crate::fork::{self, PerProcess, generation};

/// When a call must be over.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    /// The whole time that the call was given, for its message.
    pub(crate) timeout: Duration,
}

impl Deadline {
    pub(crate) fn after(timeout: Duration) -> Self {
        Self { at: Instant::now() + timeout, timeout }
    }

    pub(crate) fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The failure of a call that was still `doing` something when its time was up.
    #[cold]
    #[inline(never)]
    pub(crate) fn missed(&self, doing: &str) -> Error {
        let ms = self.timeout.as_millis();
        Error::new(
            ErrorKind::Timeout,
            format!(
                "The call did not finish within its timeout of {ms} ms; it ended {doing}. Try again, or \
                 set a longer timeout."
            ),
        )
        .with_retryable(true)
    }
}

/// Stops calls from another thread. A call may have one of its own; closing a client cancels the one that
/// all its calls share. A cancelled token stays cancelled. Clones are the same token.
#[derive(Clone)]
pub(crate) struct CancelToken(Arc<State>);

struct State {
    cancelled: AtomicBool,
    /// Nobody asks for the results any more.
    withdrawn: AtomicBool,
    /// Wakes the calls that wait now. Per process: a child does not wake calls of its parent.
    wakers: PerProcess<Mutex<Wakers>>,
}

#[derive(Default)]
struct Wakers {
    next_id: u64,
    waiting: Vec<(u64, Waker)>,
}

impl CancelToken {
    pub(crate) fn new() -> Self {
        // A token may be older than the first client. A client is not made where this fails.
        let _ = fork::watch();
        let state = State {
            cancelled: AtomicBool::new(false),
            withdrawn: AtomicBool::new(false),
            wakers: PerProcess::empty(),
        };
        Self(Arc::new(state))
    }

    pub(crate) fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst); // pairs with the one in `add`
        if let Some(wakers) = self.0.wakers.existing() {
            // Not under the lock: each call that is woken takes it next, and there may be thousands. Taken
            // out: a token is cancelled once.
            let waiting = std::mem::take(&mut lock(wakers).waiting);
            waiting.into_iter().for_each(|(_, waker)| waker.wake());
        }
    }

    /// Cancels it, because the handle of its calls is freed.
    pub(crate) fn withdraw(&self) {
        self.0.withdrawn.store(true, Ordering::Release);
        self.cancel();
    }

    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.cancelled.load(Ordering::Acquire)
    }

    /// The caller checks [`CancelToken::is_cancelled`] afterwards: either it sees the flag, or `cancel`
    /// finds the waker.
    fn add(&self, waker: &Waker) -> Registered<'_> {
        let wakers = self.0.wakers.get(|_| Mutex::default());
        fence(Ordering::SeqCst);
        let mut state = lock(wakers);
        let id = state.next_id;
        state.next_id += 1;
        state.waiting.push((id, waker.clone()));
        Registered { wakers, id, made_in: generation() }
    }
}

/// A waker's place in a token, until this is dropped. A wake-up may still come then.
struct Registered<'a> {
    wakers: &'a Mutex<Wakers>,
    id: u64,
    made_in: u64,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        if self.made_in != generation() {
            return;
        }
        let waiting = &mut lock(self.wakers).waiting;
        if let Some(at) = waiting.iter().position(|(id, _)| *id == self.id) {
            waiting.swap_remove(at);
        }
    }
}

fn lock(wakers: &Mutex<Wakers>) -> MutexGuard<'_, Wakers> {
    wakers.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes a call for as long as this lives.
pub(crate) struct WakeOnStop<'a> {
    _of_call: Option<Registered<'a>>,
    _of_client: Registered<'a>,
}

/// One call's deadline, its own token if it has one, and its client's.
#[derive(Clone)]
pub(crate) struct Context {
    pub(crate) deadline: Deadline,
    cancel: Option<CancelToken>,
    closed: CancelToken,
    /// The generation of the process in which the call began.
    made_in: u64,
}

impl Context {
    /// The context of a call that begins now.
    pub(crate) fn new(
        timeout: Duration,
        cancel: Option<&CancelToken>,
        closed: &CancelToken,
    ) -> Self {
        Self {
            deadline: Deadline::after(timeout),
            cancel: cancel.cloned(),
            closed: closed.clone(),
            made_in: generation(),
        }
    }

    /// The same call, for a part of it that has less time.
    pub(crate) fn within(&self, time: Duration) -> Self {
        Self { deadline: Deadline::after(time), ..self.clone() }
    }

    /// Whether the client was closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.is_cancelled()
    }

    /// Whether the handle of the call was freed.
    pub(crate) fn is_withdrawn(&self) -> bool {
        self.cancel.as_ref().is_some_and(|cancel| cancel.0.withdrawn.load(Ordering::Acquire))
    }

    /// Whether the call began in the parent, and a signal handler forked in the middle of it. Then a
    /// thread of the parent may hold any lock.
    pub(crate) fn is_inherited(&self) -> bool {
        self.made_in != generation()
    }

    fn check_process(&self) -> Result<(), Error> {
        if self.is_inherited() { Err(left_to_the_parent()) } else { Ok(()) }
    }

    /// Fails if the call was stopped. Does not look at the deadline.
    pub(crate) fn check(&self) -> Result<(), Error> {
        self.check_process()?;
        if self.is_closed() {
            return Err(Error::closed());
        }
        if self.cancel.as_ref().is_some_and(CancelToken::is_cancelled) {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    /// Until the result is dropped, `waker` is woken when the call is stopped, and perhaps a moment later.
    /// [`Context::check`] afterwards: the call may have been stopped before.
    pub(crate) fn wake_on_stop(&self, waker: &Waker) -> WakeOnStop<'_> {
        WakeOnStop {
            _of_call: self.cancel.as_ref().map(|token| token.add(waker)),
            _of_client: self.closed.add(waker),
        }
    }

    /// Parks until `done` (true) or until `until` (false); fails if the call is stopped first, and always
    /// if it is [inherited](Context::is_inherited). The thread that makes it `done` unparks this one.
    pub(crate) fn wait(&self, until: Instant, done: impl Fn() -> bool) -> Result<bool, Error> {
        let _wake = self.wake_on_stop(&unparker());
        loop {
            // First: in a child, what the parent's threads did may make it `done`, and then the caller
            // would take their locks, or wait for a step that they cannot take here.
            self.check_process()?;
            if done() {
                return Ok(true);
            }
            self.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            thread::park_timeout(left);
        }
    }

    /// The same until the deadline, which is a failure of a call that was `doing` something.
    pub(crate) fn wait_for(&self, doing: &str, done: impl Fn() -> bool) -> Result<(), Error> {
        match self.wait(self.deadline.at, done)? {
            true => Ok(()),
            false => Err(self.deadline.missed(doing)),
        }
    }

    /// Waits until `until`, unless the call is stopped first.
    pub(crate) fn sleep(&self, until: Instant) -> Result<(), Error> {
        self.wait(until, || false).map(|_| ())
    }
}

/// Unparks this thread.
pub(crate) fn unparker() -> Waker {
    Waker::from(Arc::new(Parked(thread::current())))
}

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// In a child, when a signal handler forked inside a call: both processes would read one reply.
fn left_to_the_parent() -> Error {
    Error::new(
        ErrorKind::Cancelled,
        "A signal handler forked in the middle of this call: the parent goes on with it, and the child \
         cannot. Make the call again.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fork::tests::pretend_fork;
    use std::sync::atomic::AtomicU32;

    struct Count(AtomicU32);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn context(timeout: Duration) -> (Context, CancelToken, CancelToken) {
        let (cancel, closed) = (CancelToken::new(), CancelToken::new());
        (Context::new(timeout, Some(&cancel), &closed), cancel, closed)
    }

    #[test]
    fn each_token_wakes_a_call_that_waits_and_says_why() {
        type Pick = fn(&CancelToken, &CancelToken) -> CancelToken;
        let cases: [(Pick, ErrorKind); 2] = [
            (|cancel, _| cancel.clone(), ErrorKind::Cancelled),
            (|_, closed| closed.clone(), ErrorKind::Closed),
        ];
        for (pick, kind) in cases {
            let (context, cancel, closed) = context(Duration::from_secs(60));
            let token = pick(&cancel, &closed);
            let other = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                token.cancel();
            });
            assert_eq!(context.wait_for("waiting", || false).unwrap_err().kind(), kind);
            other.join().unwrap();
            assert_eq!(context.check().unwrap_err().kind(), kind, "it stays so");
        }
    }

    #[test]
    fn a_wait_ends_by_what_it_waits_for_or_at_its_deadline() {
        let (context, ..) = context(Duration::from_millis(20));
        assert!(context.wait_for("waiting", || true).is_ok());
        let error = context.wait_for("waiting for a test", || false).unwrap_err();
        assert_eq!((error.kind(), error.retryable()), (ErrorKind::Timeout, true));
        assert!(error.message().contains("20 ms; it ended waiting for a test"), "{error}");
        assert!(context.sleep(Instant::now() + Duration::from_millis(5)).is_ok());
    }

    #[test]
    fn an_inherited_call_ends_without_a_look_at_what_it_waited_for() {
        let (context, ..) = context(Duration::from_secs(60));
        pretend_fork();
        let error = context.wait_for("waiting", || panic!("it is the parent's")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(error.message().contains("signal handler"), "{error}");
    }

    #[test]
    fn a_waker_is_woken_only_while_it_is_registered() {
        let (context, cancel, closed) = context(Duration::from_secs(60));
        let count = Arc::new(Count(AtomicU32::new(0)));
        let waker = Waker::from(Arc::clone(&count));
        drop(context.wake_on_stop(&waker));
        cancel.cancel();
        assert_eq!(count.0.load(Ordering::SeqCst), 0);
        let _first = context.wake_on_stop(&waker);
        let _second = context.wake_on_stop(&waker);
        closed.cancel();
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
    }
}
