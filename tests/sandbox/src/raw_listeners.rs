//! Listeners that never speak HTTP.

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt, Interest},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep},
};

const LIMIT: Duration = Duration::from_secs(120);
const CHECK: Duration = Duration::from_millis(250);

/// Neither reads nor writes, until the client closes.
pub async fn silent(stream: TcpStream) {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline && !is_closed(&stream).await {
        sleep(CHECK).await;
    }
}

/// Unread bytes keep the socket readable, so its state must be polled.
async fn is_closed(stream: &TcpStream) -> bool {
    stream.ready(Interest::READABLE).await.is_ok_and(|ready| ready.is_read_closed())
}

/// Accepts, then resets.
pub async fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

/// Takes the ClientHello, then closes.
pub async fn cut_handshake(mut stream: TcpStream) {
    let mut hello = [0; 16 * 1024];
    let _ = stream.read(&mut hello).await;
}

/// A taken port without a listener.
pub fn refused() -> io::Result<(TcpSocket, SocketAddr)> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    let address = socket.local_addr()?;
    Ok((socket, address))
}

/// A listener whose queue stays full: on Linux a connection is neither accepted nor refused.
pub struct Full {
    pub address: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Full {
    pub async fn open() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let listener = socket.listen(0)?;
        let address = listener.local_addr()?;
        Ok(Self { address, _queued: fill(address).await, _listener: listener })
    }
}

/// Connects until a connection takes too long: then the queue is full.
async fn fill(address: SocketAddr) -> Vec<TcpStream> {
    let mut queued = Vec::new();
    while queued.len() < 16 {
        match tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
            Ok(Ok(stream)) => queued.push(stream),
            _ => break,
        }
    }
    queued
}
