//! From a host's name to its addresses.
//!
//! The system's lookup blocks and cannot be interrupted, so it runs on a helper thread that lives
//! as long as the lookup; whoever asked waits on a descriptor and goes when the time is up.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use super::control::{Control, Phase, Ready, internal};
use crate::config::Host;
use crate::error::{Error, ErrorKind, cut};

/// The most lookups of one process at once. They pile up only while the resolver hangs.
const HELPERS_MAX: usize = 16;

static HELPERS: AtomicUsize = AtomicUsize::new(0);

/// At least one address, or an error.
pub(crate) fn resolve(host: &Host, port: u16, control: &Control) -> Result<Vec<SocketAddr>, Error> {
    match host {
        Host::Ip(ip) => Ok(vec![SocketAddr::new(*ip, port)]),
        // Never looked up: no entry in a table or a name server may move it to another machine
        // (RFC 6761, 6.3).
        Host::Name(name) if name == "localhost" => Ok(vec![
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port),
            SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), port),
        ]),
        Host::Name(name) => look_up(name, port, control),
    }
}

type Found = io::Result<Vec<SocketAddr>>;

fn look_up(name: &str, port: u16, control: &Control) -> Result<Vec<SocketAddr>, Error> {
    let (answer_sender, answer) = sync_channel(1);
    let (done_sender, done) =
        UnixStream::pair().map_err(|error| internal("a socket pair", &error))?;
    spawn(name.to_owned(), port, answer_sender, done_sender)?;
    // The helper drops its end when it has answered, and that end of file is what wakes us.
    control.wait(done.as_fd(), Ready::Read, Phase::Resolve)?;
    match answer.try_recv() {
        Ok(Ok(addresses)) if !addresses.is_empty() => Ok(addresses),
        Ok(Ok(_)) => Err(not_found("it has no address")),
        Ok(Err(error)) => Err(not_found(cut(&error.to_string(), 120))),
        Err(_) => Err(not_found("the lookup ended without an answer")),
    }
}

fn spawn(
    name: String,
    port: u16,
    answer: SyncSender<Found>,
    done: UnixStream,
) -> Result<(), Error> {
    let helper = Helper::new().ok_or_else(|| not_found("too many lookups are hanging already"))?;
    let work = move || {
        let _helper = helper;
        let found = (name.as_str(), port)
            .to_socket_addrs()
            .map(Iterator::collect);
        // Nobody may be waiting any more.
        let _ = answer.send(found);
        drop(done);
    };
    std::thread::Builder::new()
        .name("spike_auth-dns".into())
        .spawn(work)
        .map(|_| ())
        .map_err(|error| internal("a thread", &error))
}

/// One of the helpers that may be at work.
struct Helper;

impl Helper {
    fn new() -> Option<Self> {
        HELPERS
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
                (count < HELPERS_MAX).then_some(count + 1)
            })
            .ok()
            .map(|_| Self)
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        HELPERS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn not_found(why: &str) -> Error {
    Error::new(
        ErrorKind::Resolve,
        format!("The host's name was not found: {why}. Check the base URL and this machine's name servers."),
    )
    .with_retryable(true)
}
