//! poll(2): the one system call in which a call waits.

#![allow(unsafe_code)] // poll(2)

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Instant;

use super::connect::ADDRESSES_MAX;

/// What to wait for.
#[derive(Clone, Copy)]
pub(crate) enum Ready {
    Read,
    Write,
}

pub(crate) enum Polled {
    Woken,
    Ready(usize),
    /// The program closed a descriptor, or the other end of the wake-up.
    Closed,
    Nothing,
}

/// The wake-up and the addresses of a host.
const POLL_MAX: usize = 1 + ADDRESSES_MAX;

/// Waits until `wake` or one of `fds` is ready, or until `until`.
pub(crate) fn poll(
    wake: BorrowedFd<'_>,
    fds: &[BorrowedFd<'_>],
    ready: Ready,
    until: Instant,
) -> io::Result<Polled> {
    let events = match ready {
        Ready::Read => libc::POLLIN,
        Ready::Write => libc::POLLOUT,
    };
    // poll(2) ignores negative descriptors.
    let mut list = [libc::pollfd { fd: -1, events, revents: 0 }; POLL_MAX];
    let (first, others) = list.split_at_mut(1);
    first.fill(libc::pollfd { fd: wake.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    for (entry, fd) in others.iter_mut().zip(fds) {
        entry.fd = fd.as_raw_fd();
    }
    // Rounded up: a wait rounded down would end early and spin through the last millisecond.
    let wait = until.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
    let wait = libc::c_int::try_from(wait).unwrap_or(libc::c_int::MAX);
    let count = (1 + fds.len()).min(POLL_MAX) as libc::nfds_t;
    // SAFETY: `list` has at least `count` entries and outlives the call; poll(2) writes only their `revents`.
    let found = unsafe { libc::poll(list.as_mut_ptr(), count, wait) };
    if found < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(outcome(&list))
}

fn outcome(list: &[libc::pollfd]) -> Polled {
    let (wake, others) = list.split_at(1);
    let any = |list: &[libc::pollfd], what| list.iter().any(|entry| entry.revents & what != 0);
    // This library never closes the other end of the wake-up before this one.
    if any(list, libc::POLLNVAL) || any(wake, libc::POLLERR | libc::POLLHUP) {
        return Polled::Closed;
    }
    if any(wake, !0) {
        return Polled::Woken;
    }
    others.iter().position(|entry| entry.revents != 0).map_or(Polled::Nothing, Polled::Ready)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    fn polled(wake: BorrowedFd<'_>, fds: &[BorrowedFd<'_>], ready: Ready) -> &'static str {
        match poll(wake, fds, ready, Instant::now() + Duration::from_millis(20)).unwrap() {
            Polled::Woken => "woken",
            Polled::Ready(0) => "the first",
            Polled::Ready(_) => "another",
            Polled::Closed => "closed",
            Polled::Nothing => "nothing",
        }
    }

    #[test]
    fn a_closed_descriptor_is_neither_a_wake_up_nor_ready() {
        let (wake, waker) = UnixStream::pair().unwrap();
        let (quiet, _peer) = UnixStream::pair().unwrap();
        let (ended, _) = UnixStream::pair().unwrap();
        // SAFETY: no process can have this number open, and only poll(2) uses it.
        let closed = unsafe { BorrowedFd::borrow_raw(i32::MAX) };
        let (wake, quiet, ended) = (wake.as_fd(), quiet.as_fd(), ended.as_fd());
        for ready in [Ready::Read, Ready::Write] {
            assert_eq!(polled(closed, &[quiet], ready), "closed");
            assert_eq!(polled(wake, &[quiet, closed], ready), "closed");
            assert_eq!(polled(wake, &[ended], ready), "the first");
            assert_eq!(polled(ended, &[quiet], ready), "closed");
        }
        assert_eq!(polled(wake, &[quiet], Ready::Read), "nothing");
        assert_eq!(polled(wake, &[quiet, ended], Ready::Read), "another");
        std::io::Write::write_all(&mut &waker, b"x").unwrap();
        assert_eq!(polled(wake, &[ended], Ready::Read), "woken");
    }
}
