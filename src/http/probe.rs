//! The way to the service, step by step, for a report.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::HttpClient;
use super::target::Target;
use crate::context::{Context, Deadline};
use crate::error::Error;
use crate::net::{CallIo, Stream, TlsFacts, internal};

/// One step, and how long it took.
pub(crate) enum Step<T> {
    /// One before it failed.
    NotTried,
    Done(T, Duration),
    Failed(Error, Duration),
}

/// A new connection, made for the report and closed at once.
pub(crate) struct Route {
    /// The host and port that are connected to: the service's, or its proxy's.
    pub(crate) first: String,
    pub(crate) resolve: Step<Vec<SocketAddr>>,
    /// With the tunnel through a proxy. The address of the other end.
    pub(crate) connect: Step<Option<SocketAddr>>,
    /// `None` without TLS.
    pub(crate) tls: Step<Option<TlsFacts>>,
}

impl HttpClient {
    /// Looks the name up, connects and makes a TLS handshake, each within the connect timeout and the deadline. Uses
    /// nothing that is kept: no address, no connection, no TLS session. Fails only if the call is stopped.
    pub(crate) fn probe(&self, context: &Context) -> Result<Route, Error> {
        let call = CallIo::new(context).map_err(|error| internal("a socket pair", &error))?;
        let call = Arc::new(call);
        let waker = Waker::from(Arc::clone(&call));
        let _wake = context.wake_on_stop(&waker);
        let begin = || call.begin(context, Deadline::after(self.connect_timeout));
        let route = walk(&self.target.of_this_process(), &call, begin);
        context.check().map(|()| route)
    }
}

fn walk(target: &Target, call: &Arc<CallIo>, begin: impl Fn()) -> Route {
    let mut route = Route {
        first: target.first(),
        resolve: Step::NotTried,
        connect: Step::NotTried,
        tls: Step::NotTried,
    };
    let mut start = Instant::now();
    begin();
    match target.addresses(call) {
        Ok(addresses) => route.resolve = Step::Done(addresses, start.elapsed()),
        Err(error) => {
            route.resolve = Step::Failed(error, start.elapsed());
            return route;
        }
    }
    start = Instant::now();
    begin();
    let socket = match target.connect(call) {
        Ok(socket) => socket,
        Err(error) => {
            route.connect = Step::Failed(error, start.elapsed());
            return route;
        }
    };
    route.connect = Step::Done(socket.peer(), start.elapsed());
    start = Instant::now();
    begin();
    let tls = target.tls.as_ref();
    route.tls = match Stream::new(socket, tls, call) {
        Ok(stream) => Step::Done(tls.and_then(|tls| stream.tls_facts(tls)), start.elapsed()),
        Err(error) => Step::Failed(error, start.elapsed()),
    };
    route
}
