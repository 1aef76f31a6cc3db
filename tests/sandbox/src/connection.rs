//! One connection: the HTTP server drives it until a fault needs the stream itself.

use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;

use crate::{
    answer::Answer,
    control,
    endpoint::{self, Outcome},
    fault::REDIRECT_TARGET,
    problem::Problem,
    sandbox::Sandbox,
    script::Script,
    wire::{Record, Transport, Wire},
};

/// What the requests of one connection share.
pub struct Link {
    pub record: Record,
    pub https: bool,
    /// Zero until the first request that is not a control request.
    number: AtomicU64,
    closes_next: AtomicBool,
    script: Mutex<Option<Script>>,
}

impl Link {
    fn new(https: bool) -> Self {
        Self {
            record: Record::default(),
            https,
            number: AtomicU64::new(0),
            closes_next: AtomicBool::new(false),
            script: Mutex::new(None),
        }
    }

    /// Counted from 1 in the order of the first requests.
    pub fn number(&self) -> u64 {
        self.number.load(Relaxed)
    }

    /// The next request on the connection is read and answered with a close.
    pub fn close_next(&self) {
        self.closes_next.store(true, Relaxed);
    }

    pub fn closes_next(&self) -> bool {
        self.closes_next.load(Relaxed)
    }

    fn count(&self, sandbox: &Sandbox) {
        if self.number() == 0 {
            let number = sandbox.counters.connections.fetch_add(1, Relaxed) + 1;
            self.number.store(number, Relaxed);
        }
    }

    fn hand_over(&self, script: Script) {
        *self.script.lock().unwrap_or_else(PoisonError::into_inner) = Some(script);
    }

    fn take_script(&self) -> Option<Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Stops the HTTP server: a script takes over the stream.
#[derive(Debug)]
struct Scripted;

impl fmt::Display for Scripted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a script takes over")
    }
}

impl std::error::Error for Scripted {}

type Reply = Pin<Box<dyn Future<Output = Result<Response<Full<Bytes>>, Scripted>> + Send>>;

pub async fn serve<T: Transport>(sandbox: Arc<Sandbox>, stream: T, https: bool) {
    let link = Arc::new(Link::new(https));
    let mut wire = Wire::new(stream, link.record.clone());
    loop {
        let (returned, unread) = serve_http(&sandbox, &link, wire).await;
        wire = returned;
        let Some(script) = link.take_script() else {
            break;
        };
        match script.play(wire, unread).await {
            Some(returned) => wire = returned,
            None => return,
        }
    }
    // Fails if the client has closed already.
    let _ = wire.shutdown().await;
}

/// Serves requests until the connection ends or a script is handed over.
async fn serve_http<T: Transport>(
    sandbox: &Arc<Sandbox>,
    link: &Arc<Link>,
    wire: Wire<T>,
) -> (Wire<T>, Bytes) {
    let service = service_fn(|request| -> Reply {
        let (sandbox, link) = (Arc::clone(sandbox), Arc::clone(link));
        Box::pin(async move { reply(&sandbox, &link, request).await })
    });
    let mut connection = http1::Builder::new()
        // The `Date` header is ours, so that it can be wrong.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(wire), service);
    // An error is for the client to see, or is `Scripted`.
    let _ = poll_fn(|cx| connection.poll_without_shutdown(cx)).await;
    let parts = connection.into_parts();
    (parts.io.into_inner(), parts.read_buf)
}

async fn reply(
    sandbox: &Sandbox,
    link: &Link,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Scripted> {
    match route(sandbox, link, request).await {
        Outcome::Answer(answer) => Ok(answer.into_response()),
        Outcome::Script(script) => {
            link.hand_over(script);
            Err(Scripted)
        }
    }
}

async fn route(sandbox: &Sandbox, link: &Link, request: Request<Incoming>) -> Outcome {
    let path = request.uri().path();
    if path.starts_with(control::PREFIX) {
        let answer = control::answer(sandbox, request).await;
        link.record.take();
        return Outcome::Answer(answer);
    }
    link.count(sandbox);
    if path == endpoint::PATH {
        return endpoint::exchange(sandbox, link, request).await;
    }
    let mut answer = elsewhere(sandbox, path);
    link.record.take();
    answer.stamp();
    Outcome::Answer(answer)
}

fn elsewhere(sandbox: &Sandbox, path: &str) -> Answer {
    if path == REDIRECT_TARGET {
        sandbox.counters.followed_redirects.fetch_add(1, Relaxed);
        // A client that follows must not appear to fail.
        return Answer::json(
            &serde_json::json!({"access_token": "from-a-redirect-that-was-followed"}),
        );
    }
    Problem::new(StatusCode::NOT_FOUND, "there is nothing here; the endpoint is POST /v3/auth/hmac")
        .answer()
}
