//! CONNECT proxies, which lead to this machine only.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::Ordering::Relaxed},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{PROXY_AUTHENTICATE, PROXY_AUTHORIZATION},
    http::uri::Authority,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{answer::Answer, problem::Problem, sandbox::Sandbox};

pub const USER: &str = "proxy-user";
pub const PASSWORD: &str = "proxy-pass";

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Open,
    /// Requires a name and a password.
    Guarded,
    Refusing,
}

pub async fn serve(sandbox: Arc<Sandbox>, stream: TcpStream, kind: Kind) {
    let service = service_fn(|request| {
        let sandbox = Arc::clone(&sandbox);
        async move { Ok::<_, std::convert::Infallible>(answer(&sandbox, request, kind).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // An error is for the client to see.
    let _ = connection.with_upgrades().await;
}

async fn answer(
    sandbox: &Arc<Sandbox>,
    request: Request<Incoming>,
    kind: Kind,
) -> Response<Full<Bytes>> {
    sandbox.counters.proxy_requests.fetch_add(1, Relaxed);
    sandbox.counters.record_connect(request.uri().to_string(), request.headers());
    match admit(&request, kind) {
        Err(refusal) => refusal.into_response(),
        Ok(target) => match TcpStream::connect(target).await {
            Ok(server) => {
                tokio::spawn(tunnel(Arc::clone(sandbox), request, server));
                Response::default()
            }
            Err(_) => {
                refuse(StatusCode::BAD_GATEWAY, "the target cannot be reached").into_response()
            }
        },
    }
}

fn admit(request: &Request<Incoming>, kind: Kind) -> Result<SocketAddr, Box<Answer>> {
    if request.method() != Method::CONNECT {
        return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "this proxy knows CONNECT only"));
    }
    if kind == Kind::Refusing {
        return Err(refuse(StatusCode::FORBIDDEN, "this proxy refuses everyone"));
    }
    if kind == Kind::Guarded && !is_authorized(request) {
        let mut answer =
            refuse(StatusCode::PROXY_AUTHENTICATION_REQUIRED, "this proxy requires credentials");
        answer.set_header(PROXY_AUTHENTICATE, "Basic realm=\"sandbox\"");
        return Err(answer);
    }
    let target = request.uri().authority().and_then(loopback);
    target.ok_or_else(|| refuse(StatusCode::FORBIDDEN, "this proxy leads to this machine only"))
}

fn refuse(status: StatusCode, detail: &str) -> Box<Answer> {
    Box::new(Problem::new(status, detail).answer())
}

fn is_authorized(request: &Request<Incoming>) -> bool {
    let expected = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    request
        .headers()
        .get(PROXY_AUTHORIZATION)
        .is_some_and(|value| value.as_bytes() == expected.as_bytes())
}

fn loopback(authority: &Authority) -> Option<SocketAddr> {
    let host = authority.host();
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let address = match host {
        "localhost" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => host.parse().ok().filter(IpAddr::is_loopback)?,
    };
    Some(SocketAddr::new(address, authority.port_u16()?))
}

async fn tunnel(sandbox: Arc<Sandbox>, request: Request<Incoming>, mut server: TcpStream) {
    let Ok(client) = hyper::upgrade::on(request).await else {
        return;
    };
    sandbox.counters.tunnels.fetch_add(1, Relaxed);
    let _ = server.set_nodelay(true);
    // Either end may close at any time.
    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(client), &mut server).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_reached() {
        let target =
            |text: &str| loopback(&text.parse().unwrap()).map(|address| address.to_string());
        assert_eq!(target("localhost:1"), Some("127.0.0.1:1".to_owned()));
        assert_eq!(target("127.0.0.1:2"), Some("127.0.0.1:2".to_owned()));
        assert_eq!(target("[::1]:3"), Some("[::1]:3".to_owned()));
        for elsewhere in ["example.com:443", "10.0.0.1:1", "127.0.0.1.example.com:1", "localhost"] {
            assert_eq!(target(elsewhere), None, "{elsewhere}");
        }
    }
}
