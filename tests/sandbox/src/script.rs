//! Replies sent byte by byte, which no server crate would produce.

use std::{io, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    time::{sleep, timeout},
};

use crate::{
    counters::InFlight,
    wire::{Transport, Wire},
};

/// No script holds a connection longer than this.
const LIMIT: Duration = Duration::from_secs(120);
/// How much of what the client sends meanwhile is kept, for a connection that goes on.
const READ_AHEAD: usize = 64 * 1024;
/// Lets the client read what was sent before the reset, which may otherwise overtake it.
const BEFORE_RESET: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    Send(Bytes),
    /// One byte, a pause, one byte.
    Drip(Bytes, Duration),
    Pause(Duration),
    /// The same bytes until the client closes.
    Repeat(Bytes),
    Stall,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ending {
    /// In order, with TLS's close_notify.
    Close,
    /// The TCP connection ends without TLS's close_notify.
    Cut,
    Reset,
    /// The HTTP server takes the connection back.
    Resume,
}

#[derive(Debug)]
pub struct Script {
    pub steps: Vec<Step>,
    pub ending: Ending,
    /// Whether the client receives the whole answer.
    pub complete: bool,
    /// Keeps the request counted as in flight while the script plays.
    pub in_flight: Option<InFlight>,
}

impl Script {
    pub fn new(steps: Vec<Step>, ending: Ending) -> Self {
        Self { steps, ending, complete: false, in_flight: None }
    }

    pub fn complete(steps: Vec<Step>, ending: Ending) -> Self {
        Self { complete: true, ..Self::new(steps, ending) }
    }

    /// Plays until the end, the limit, or until the client closes. Returns the stream if the connection
    /// goes on.
    pub async fn play<T: Transport>(self, wire: Wire<T>, unread: Bytes) -> Option<Wire<T>> {
        let _in_flight = self.in_flight;
        let (mut reader, mut writer) = tokio::io::split(wire);
        let mut read_ahead = BytesMut::from(unread);
        let played = tokio::select! {
            outcome = timeout(LIMIT, perform(&mut writer, self.steps)) => matches!(outcome, Ok(Ok(()))),
            () = read_until_end(&mut reader, &mut read_ahead) => false,
        };
        let wire = reader.unsplit(writer);
        if played { end(self.ending, wire, read_ahead.freeze()).await } else { None }
    }
}

async fn perform<T: Transport>(
    writer: &mut WriteHalf<Wire<T>>,
    steps: Vec<Step>,
) -> io::Result<()> {
    for step in steps {
        match step {
            Step::Send(bytes) => send(writer, &bytes).await?,
            Step::Drip(bytes, pause) => drip(writer, &bytes, pause).await?,
            Step::Pause(time) => sleep(time).await,
            Step::Repeat(bytes) => loop {
                send(writer, &bytes).await?;
            },
            Step::Stall => sleep(LIMIT).await,
        }
    }
    Ok(())
}

async fn send<T: Transport>(writer: &mut WriteHalf<Wire<T>>, bytes: &[u8]) -> io::Result<()> {
    writer.write_all(bytes).await?;
    writer.flush().await
}

async fn drip<T: Transport>(
    writer: &mut WriteHalf<Wire<T>>,
    bytes: &[u8],
    pause: Duration,
) -> io::Result<()> {
    for byte in bytes.chunks(1) {
        send(writer, byte).await?;
        if !pause.is_zero() {
            sleep(pause).await;
        }
    }
    Ok(())
}

/// Returns when the client has closed. Reading also prevents a reset at a later close.
async fn read_until_end<T: Transport>(reader: &mut ReadHalf<Wire<T>>, read_ahead: &mut BytesMut) {
    let mut buffer = [0; 4096];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        let room = READ_AHEAD.saturating_sub(read_ahead.len());
        read_ahead.extend_from_slice(&buffer[..length.min(room)]);
    }
}

async fn end<T: Transport>(
    ending: Ending,
    mut wire: Wire<T>,
    read_ahead: Bytes,
) -> Option<Wire<T>> {
    match ending {
        Ending::Resume => {
            wire.put_back(read_ahead);
            return Some(wire);
        }
        Ending::Close => {
            // Fails if the client has closed already.
            let _ = wire.shutdown().await;
        }
        Ending::Cut => drop(wire),
        Ending::Reset => {
            sleep(BEFORE_RESET).await;
            wire.reset();
        }
    }
    None
}
