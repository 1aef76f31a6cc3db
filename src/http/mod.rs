//! One POST over HTTP/1.1, on connections that are kept.
//!
//! ureq speaks HTTP. Connecting, TLS, waiting and giving up are ours, in `net`, so that a deadline and a
//! stopped call take effect in every phase, and no call costs a thread. It knows URLs and bytes, not
//! users, tokens, or JSON.
//!
//! | file | holds |
//! |---|---|
//! | `target.rs`, `proxy.rs` | the endpoint, and the way to it through a proxy |
//! | `agent.rs`, `transport.rs`, `buffers.rs` | ureq: one request and its response; its connections and buffers |
//! | `limits.rs`, `errors.rs` | limits on sizes, numbers and ages, and their error |
//! | `framing.rs`, `chunks.rs` | the framing of bodies: what is read, what is refused |
//! | `pool.rs` | idle connections, and permits |
//! | `probe.rs` | a connection for a report, step by step |

mod agent;
mod buffers;
mod chunks;
mod errors;
mod framing;
mod limits;
mod pool;
mod probe;
mod proxy;
mod target;
mod transport;

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use ::http::Uri;

use crate::config::{BaseUrl, CaCertificates, ProxyUrl, TlsRoots};
use crate::context::{Context, Deadline};
use crate::error::{Error, ErrorKind};
use crate::fork::{self, PerProcess};
use crate::net::Tls;
pub(crate) use crate::net::connection_lost;
use agent::AgentConfig;
pub(crate) use agent::Response;
pub(crate) use pool::Permit;
use pool::{ConnectionPool, PooledConnection};
pub(crate) use probe::{Route, Step};
use proxy::Proxy;
use target::Target;

/// What a client needs to know to reach its one endpoint.
pub(crate) struct Settings<'a> {
    pub(crate) base_url: &'a BaseUrl,
    pub(crate) path: &'a str,
    pub(crate) user_agent: &'a str,
    pub(crate) connect_timeout: Duration,
    pub(crate) in_flight_max: usize,
    pub(crate) roots: TlsRoots,
    pub(crate) ca: &'a CaCertificates,
    pub(crate) proxy: Option<ProxyUrl>,
}

/// POSTs JSON to one URL; shared by all threads, and by the processes that are forked off.
pub(crate) struct HttpClient {
    uri: Uri,
    connect_timeout: Duration,
    in_flight_max: usize,
    agent_config: AgentConfig,
    target: Target,
    pool: PerProcess<ConnectionPool>,
}

impl HttpClient {
    /// Loads the roots if the URL is an `https` one; connects to nothing yet.
    pub(crate) fn new(settings: Settings<'_>) -> Result<Self, Error> {
        fork::watch()?;
        let url = settings.base_url.join(settings.path);
        let uri = url.parse().map_err(|_| {
            Error::new(
                ErrorKind::InvalidUrl,
                "Invalid base URL: its path is not valid in a request.",
            )
        })?;
        let tls = if settings.base_url.https {
            let host = &settings.base_url.host;
            Some(Tls::new(host, settings.roots, settings.ca, &[b"http/1.1"])?)
        } else {
            None
        };
        let proxy =
            settings.proxy.map(|url| Proxy { url, user_agent: settings.user_agent.to_owned() });
        let target = Target::new(settings.base_url, tls, proxy);
        let agent_config = AgentConfig::new(settings.user_agent);
        let pool = ConnectionPool::new(
            Arc::new(target.of_this_process()),
            agent_config.clone(),
            settings.in_flight_max,
        );
        Ok(Self {
            uri,
            connect_timeout: settings.connect_timeout,
            in_flight_max: settings.in_flight_max,
            agent_config,
            target,
            pool: PerProcess::new(pool),
        })
    }

    /// Waits for a call's turn, if as many as are allowed are in flight.
    pub(crate) fn permit(&self, context: &Context) -> Result<Permit<'_>, Error> {
        self.pool().permit(context)
    }

    /// One POST, which must be over by the deadline; blocks until then at most.
    ///
    /// A kept connection costs one write, one poll, one read, and one look at whether it is still
    /// open. The `attempts` of an error are 0 if nothing was sent.
    pub(crate) fn post_json(
        &self,
        permit: &Permit<'_>,
        body: &[u8],
        context: &Context,
    ) -> Result<Response, Error> {
        let pool = permit.pool();
        let connection = pool.take(context)?;
        let result = self.attempt(&connection, body, context);
        if !matches!(&result, Err(error) if connection.call.was_stale(error)) {
            return keep(pool, connection, context, result);
        }
        // The service closed before it saw the request: once more, on a connection that is certainly new.
        let before = connection.call.requests();
        drop(connection);
        let connection = pool.make(context).map_err(|error| error.with_attempts(before))?;
        let result = match self.attempt(&connection, body, context) {
            Ok(response) => Ok(Response { requests: before + response.requests, ..response }),
            Err(error) => {
                let requests = before + error.attempts();
                Err(error.with_attempts(requests))
            }
        };
        keep(pool, connection, context, result)
    }

    /// Closes the connections that are idle. The calls of a closed client close theirs.
    pub(crate) fn close_idle(&self) {
        if let Some(pool) = self.pool.existing() {
            pool.drop_idle();
        }
    }

    /// Those of this process. A child begins with none.
    fn pool(&self) -> &ConnectionPool {
        self.pool.get(|parent| {
            if let Some(parent) = parent {
                parent.drop_inherited_connections();
            }
            let target = Arc::new(self.target.of_this_process());
            ConnectionPool::new(target, self.agent_config.clone(), self.in_flight_max)
        })
    }

    fn attempt(
        &self,
        connection: &PooledConnection,
        body: &[u8],
        context: &Context,
    ) -> Result<Response, Error> {
        connection.call.begin(context, Deadline::after(self.connect_timeout));
        let waker = Waker::from(Arc::clone(&connection.call));
        let _wake = context.wake_on_stop(&waker);
        // The request goes out without a wait, and so without a look at any of these.
        connection.call.may_go_on()?;
        let result = connection.agent.post_json(&self.uri, body, &connection.call);
        result.map_err(|error| error.with_attempts(connection.call.requests()))
    }
}

/// Puts the connection back if it may still be open: a whole response came, or nothing was done at all.
fn keep(
    pool: &ConnectionPool,
    connection: PooledConnection,
    context: &Context,
    result: Result<Response, Error>,
) -> Result<Response, Error> {
    if context.is_inherited() {
        return result; // the pool is the parent's
    }
    let whole = matches!(&result, Ok(Response { body: Ok(_), .. }));
    if connection.call.is_broken() {
        // The program has probably closed the descriptors of the others too.
        pool.drop_idle();
    } else if whole || connection.call.did_nothing() {
        pool.put_back(connection, context);
    }
    result
}
