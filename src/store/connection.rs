//! One connection to the store.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use zeroize::Zeroize;

use super::Write;
use super::errors;
use super::wire::{self, INPUT_MAX, Replies, Reply, command};
use crate::config::{CaCertificates, StoreAddress, StoreUrl, TlsRoots};
use crate::context::Context;
use crate::error::Error;
use crate::net::{CallIo, Dialer, Stream, Tls, dial_path, internal, lost};

/// How long a connection may be idle before it is dropped.
const IDLE_MAX: Duration = Duration::from_secs(60);

/// Where the store is, and what a process caches about it.
pub(super) enum Endpoint {
    Tcp(Dialer, Option<Tls>),
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
                Self::Tcp(Dialer::new(host.clone(), *port), tls)
            }
        })
    }

    /// A copy that shares no lock with another process.
    pub(super) fn of_this_process(&self) -> Self {
        match self {
            Self::Path(path) => Self::Path(path.clone()),
            Self::Tcp(dialer, tls) => {
                Self::Tcp(dialer.of_this_process(), tls.as_ref().map(Tls::of_this_process))
            }
        }
    }

    fn open(&self, call: &Arc<CallIo>) -> Result<Stream, Error> {
        match self {
            Self::Path(path) => Stream::new(dial_path(path, call)?, None, call),
            Self::Tcp(dialer, tls) => Stream::new(dialer.dial(call)?, tls.as_ref(), call),
        }
    }
}

/// A connection, logged in. It serves one call at a time, and is dropped after anything unexpected: what it
/// received next could be the reply to an earlier command.
pub(super) struct Connection {
    stream: Stream,
    call: Arc<CallIo>,
    input: Box<[u8]>,
    output: Vec<u8>,
    idle_since: Instant,
}

impl Connection {
    /// A new one. Costs three descriptors.
    pub(super) fn open(
        endpoint: &Endpoint,
        url: &StoreUrl,
        context: &Context,
    ) -> Result<Self, Error> {
        let call = CallIo::new(context).map_err(|error| internal("a socket pair", &error))?;
        let call = Arc::new(call);
        let waker = Waker::from(Arc::clone(&call));
        let _wake = context.wake_on_stop(&waker);
        let stream = endpoint.open(&call)?;
        let mut this = Self {
            stream,
            call,
            input: vec![0; INPUT_MAX].into(),
            output: Vec::new(),
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
            self.output.reserve(user.len() + password.len() + 64);
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
            return Ok(());
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
        self.output.zeroize();
        refused
    }

    /// Whether it can be used again. One system call, and two more for descriptors that the program closed.
    pub(super) fn is_reusable(&mut self, now: Instant) -> bool {
        now.saturating_duration_since(self.idle_since) < IDLE_MAX
            && self.stream.is_intact()
            && self.stream.is_reusable()
    }

    pub(super) fn rest(&mut self) {
        self.idle_since = Instant::now();
    }

    /// Writes commands and reads `count` replies, until the deadline of `context`, or until its call is stopped.
    pub(super) fn ask(
        &mut self,
        context: &Context,
        count: usize,
        write: Write<'_>,
    ) -> Result<Replies<'_>, Error> {
        self.call.begin(context, context.deadline);
        let waker = Waker::from(Arc::clone(&self.call));
        let _wake = context.wake_on_stop(&waker);
        self.call.may_go_on()?;
        self.output.clear();
        write(&mut self.output);
        self.talk(count)
    }

    /// Writes a last command and ends the connection without a wait, whatever becomes of it.
    pub(super) fn say(mut self, context: &Context, write: Write<'_>) {
        // A context without time: where the connection takes no byte, the write fails instead of waiting.
        let context = context.within(Duration::ZERO);
        self.call.begin(&context, context.deadline);
        self.output.clear();
        write(&mut self.output);
        let _ = self.stream.send(&self.output);
    }

    fn talk(&mut self, count: usize) -> Result<Replies<'_>, Error> {
        let Self { stream, call, input, output, .. } = self;
        let broken = |error: io::Error| call.failure_or(|| lost(&error));
        stream.send(output).map_err(broken)?;
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
