//! The process: how many files it may open, and when it ends.

use std::{io, os::unix::process::parent_id, time::Duration};

use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

const PARENT_CHECK: Duration = Duration::from_millis(100);

/// Tests open a thousand connections and more; the usual soft limit is 1024.
pub fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // On failure the old limit holds.
    let _ = setrlimit(Resource::Nofile, limit);
}

/// The process that started the sandbox. Call it first: the parent may end soon.
pub fn parent() -> u32 {
    parent_id()
}

/// The end of the sandbox: SIGTERM, SIGINT, or the end of the parent.
pub struct End {
    parent: u32,
    terminate: Signal,
    interrupt: Signal,
}

impl End {
    /// From here on a signal ends the sandbox in order.
    pub fn listen(parent: u32) -> io::Result<Self> {
        Ok(Self {
            parent,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    pub async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = orphaned(self.parent) => {}
        }
    }
}

/// Polls: the signal that Linux offers for this follows the parent's thread, not its process.
async fn orphaned(parent: u32) {
    let mut clock = interval(PARENT_CHECK);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while parent_id() == parent {
        clock.tick().await;
    }
}
