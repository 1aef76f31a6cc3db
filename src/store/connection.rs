//! One connection to the store.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use zeroize::Zeroize;

use super::Write;
use super::cluster::Redirect;
use super::errors;
use super::record::PREFIX;
use super::wire::{self, Commands, INPUT_MAX, Replies, Reply, command};
use crate::config::{CaCertificates, Host, StoreAddress, StoreUrl, TlsRoots};
use crate::context::Context;
use crate::error::Error;
use crate::net::{CallIo, Dialer, Stream, Tls, dial_path, internal, lost};

/// How long a connection may be idle before it is dropped.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Where the store is, and what a process caches about it.
pub(super) enum Endpoint {
    Tcp {
        dialer: Dialer,
        tls: Option<Tls>,
        /// A node of a cluster named it.
        is_named: bool,
    },
    Path(PathBuf),
}

impl Endpoint {
    /// Loads the roots for TLS; connects to nothing yet.
    pub(super) fn new(
        address: &StoreAddress,
        roots: TlsRoots,
        ca: &CaCertificates,
    ) -> Result<Self, Error> {
        Ok(match address {
            StoreAddress::Unix(path) => Self::Path(path.clone()),
            StoreAddress::Tcp { host, port, tls } => {
                let tls = tls.then(|| Tls::new(host, roots, ca, &[])).transpose()?;
                Self::Tcp { dialer: Dialer::new(host.clone(), *port), tls, is_named: false }
            }
        })
    }

    /// A copy that shares no lock with another process.
    pub(super) fn of_this_process(&self) -> Self {
        match self {
            Self::Path(path) => Self::Path(path.clone()),
            Self::Tcp { dialer, tls, is_named } => {
                let tls = tls.as_ref().map(Tls::of_this_process);
                Self::Tcp { dialer: dialer.of_this_process(), tls, is_named: *is_named }
            }
        }
    }

    /// The one that this one named; without a host: on its own. With TLS where this one has it.
    pub(super) fn other(&self, host: Option<&Host>, port: u16) -> Result<Self, Error> {
        let Self::Tcp { dialer, tls, .. } = self else {
            return Err(errors::cluster_on_a_path());
        };
        let host = host.unwrap_or(&dialer.host);
        let tls = tls.as_ref().map(|tls| tls.to(host)).transpose();
        Ok(Self::Tcp {
            dialer: Dialer::new(host.clone(), port),
            tls: tls.map_err(|_| errors::misled())?,
            is_named: true,
        })
    }

    /// Whether `from` named this one.
    pub(super) fn is_at(&self, from: &Self, host: Option<&Host>, port: u16) -> bool {
        match (self, from) {
            (Self::Tcp { dialer, .. }, Self::Tcp { dialer: from, .. }) => {
                dialer.port == port && dialer.host == *host.unwrap_or(&from.host)
            }
            _ => false,
        }
    }

    fn open(&self, call: &Arc<CallIo>) -> Result<Stream, Error> {
        match self {
            Self::Path(path) => Stream::new(dial_path(path, call)?, None, call),
            Self::Tcp { dialer, tls, .. } => Stream::new(dialer.dial(call)?, tls.as_ref(), call),
        }
    }
}

/// A connection, logged in. It serves one call at a time, and is dropped after anything unexpected: what it
/// received next could be the reply to an earlier command.
pub(super) struct Connection {
    pub(super) endpoint: Arc<Endpoint>,
    stream: Stream,
    call: Arc<CallIo>,
    input: Box<[u8]>,
    output: Commands,
    pub(super) idle_since: Instant,
}

impl Connection {
    /// A new one. Costs three descriptors.
    pub(super) fn open(
        endpoint: &Arc<Endpoint>,
        url: &StoreUrl,
        context: &Context,
    ) -> Result<Self, Error> {
        let call = CallIo::new(context).map_err(|error| internal("a socket pair", &error))?;
        let call = Arc::new(call);
        let waker = Waker::from(Arc::clone(&call));
        let _wake = context.wake_on_stop(&waker);
        let stream = endpoint.open(&call)?;
        let mut this = Self {
            endpoint: Arc::clone(endpoint),
            stream,
            call,
            input: vec![0; INPUT_MAX].into(),
            output: Commands::default(),
            idle_since: Instant::now(),
        };
        this.log_in(url)?;
        Ok(this)
    }

    fn log_in(&mut self, url: &StoreUrl) -> Result<(), Error> {
        let mut count = 0;
        if let Some(login) = &url.login {
            let (user, password) = (login.user.as_slice(), login.password.as_slice());
            // Allocated once: growing would leave a copy of the password behind.
            self.output.bytes.reserve(user.len() + password.len() + 64);
            match user {
                [] => command(&mut self.output, &[b"AUTH", password]),
                user => command(&mut self.output, &[b"AUTH", user, password]),
            }
            count += 1;
        }
        if url.database > 0 {
            let number = url.database.to_string();
            command(&mut self.output, &[b"SELECT", number.as_bytes()]);
            count += 1;
        }
        if count == 0 {
            return self.meet();
        }
        let replies = self.talk(count);
        let refused = replies.and_then(|replies| {
            let names: &[&str] =
                if url.login.is_some() { &["AUTH", "SELECT"] } else { &["SELECT"] };
            (0..count).zip(names).try_for_each(|(index, name)| match replies.get(index) {
                Reply::Status(b"OK") => Ok(()),
                other => Err(errors::refused(name, other)),
            })
        });
        self.output.bytes.zeroize();
        refused
    }

    /// Makes sure that an address that a node named is a Redis. Without that, a hostile store could have any program
    /// be sent a command that holds bytes of its choice: [`super::claim`] sends back what it found. A reply to a
    /// login is proof enough.
    fn meet(&mut self) -> Result<(), Error> {
        if !matches!(*self.endpoint, Endpoint::Tcp { is_named: true, .. }) {
            return Ok(());
        }
        command(&mut self.output, &[b"GET", PREFIX]);
        match self.talk(1)?.get(0) {
            Reply::Nil => Ok(()),
            // Another node has that key, or none.
            reply if Redirect::in_reply(reply).is_some() => Ok(()),
            Reply::Error(text) if text.starts_with(b"CLUSTERDOWN ") => Ok(()),
            reply => Err(errors::refused("GET", reply)),
        }
    }

    /// Whether it can be used again. One system call, and two more for descriptors that the program closed.
    pub(super) fn is_reusable(&mut self, now: Instant) -> bool {
        !self.is_old(now) && self.stream.is_intact() && self.stream.is_reusable()
    }

    pub(super) fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.idle_since) >= IDLE_MAX
    }

    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
        self.output.asks = false;
    }

    /// Writes commands and reads `count` replies, until the deadline of `context`, or until its call is stopped.
    pub(super) fn ask(
        &mut self,
        context: &Context,
        asks: bool,
        count: usize,
        write: Write<'_>,
    ) -> Result<Replies<'_>, Error> {
        self.call.begin(context, context.deadline);
        let waker = Waker::from(Arc::clone(&self.call));
        let _wake = context.wake_on_stop(&waker);
        self.call.may_go_on()?;
        self.output.bytes.clear();
        self.output.asks = asks;
        write(&mut self.output);
        let replies = self.talk(if asks { 2 * count } else { count })?;
        if !asks {
            return Ok(replies);
        }
        replies.after_asking().map_err(|reply| errors::refused("ASKING", reply))
    }

    /// Writes a last command and ends the connection without a wait, whatever becomes of it.
    pub(super) fn say(mut self, context: &Context, write: Write<'_>) {
        if !self.stream.is_intact() {
            return; // it would be written to a stranger's socket
        }
        // A context without time: where the connection takes no byte, the write fails instead of waiting.
        let context = context.within(Duration::ZERO);
        self.call.begin(&context, context.deadline);
        self.output.bytes.clear();
        write(&mut self.output);
        let _ = self.stream.send(&self.output.bytes);
    }

    #[inline(never)] // one copy of the code
    fn talk(&mut self, count: usize) -> Result<Replies<'_>, Error> {
        let Self { stream, call, input, output, .. } = self;
        let broken = |error: io::Error| call.failure_or(|| lost(&error));
        stream.send(&output.bytes).map_err(broken)?;
        let (mut have, mut at, mut frames) = (0, 0, Vec::with_capacity(count));
        while frames.len() < count {
            let room = input.get_mut(have..).unwrap_or_default();
            if room.is_empty() {
                return Err(errors::malformed());
            }
            match stream.read(room).map_err(broken)? {
                0 => return Err(lost(&io::ErrorKind::UnexpectedEof.into())),
                received => have += received,
            }
            let input = input.get(..have).unwrap_or_default();
            wire::decode(input, &mut at, &mut frames, count).map_err(|_| errors::malformed())?;
        }
        Ok(Replies::new(input, frames))
    }
}
