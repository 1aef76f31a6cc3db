//! What a leader replaces in the store: its lease, or what it found there.

use std::sync::Arc;
use std::time::Duration;

use super::process::count;
use super::record::UserKeys;
use super::wire::{Commands, Replies, Reply, command};
use super::{Failure, Operation, Store, errors};
use crate::context::{CancelToken, Context};
use crate::fork::generation;
use crate::token::TokenResponse;

/// Sets ARGV[2] for ARGV[3] milliseconds, or deletes where ARGV[2] is empty, if the value is ARGV[1], or if there is
/// none and ARGV[2] is not empty.
const SWAP: &[u8] = b"local v=redis.call('GET',KEYS[1]) \
    if v==ARGV[1] or (not v and ARGV[2]~='') then \
    if ARGV[2]=='' then return redis.call('DEL',KEYS[1]) end \
    redis.call('SET',KEYS[1],ARGV[2],'PX',ARGV[3]) return 1 end return 0";

/// What stands in the store, to be replaced by a token.
pub(crate) struct Claim {
    store: Arc<Store>,
    keys: UserKeys,
    expected: Vec<u8>,
    /// `expected` is this process' own lease.
    is_lease: bool,
    made_in: u64,
}

impl Store {
    pub(super) fn claim(
        self: &Arc<Self>,
        keys: UserKeys,
        expected: Vec<u8>,
        is_lease: bool,
    ) -> Claim {
        if is_lease {
            self.process().begin_lease();
        }
        Claim { store: Arc::clone(self), keys, expected, is_lease, made_in: generation() }
    }

    /// Whether `expected` was replaced by `new`, or by nothing if that is empty. `None`: the script was refused.
    pub(super) fn swap(
        &self,
        keys: &UserKeys,
        expected: &[u8],
        new: &[u8],
        time: Duration,
        context: &Context,
    ) -> Result<Option<bool>, Failure> {
        let write = |out: &mut Commands| swap(out, &keys.name, expected, new, time);
        let read = |replies: &Replies<'_>| match replies.get(0) {
            Reply::Integer(count) => Ok(Some(count == 1)),
            Reply::Error(_) => Ok(None),
            _ => Err(errors::unexpected("EVAL")),
        };
        let operation = Operation { name: &keys.name, count: 1, write: &write, undo: None };
        let swapped = self.ask(context, false, &operation, read)?;
        if swapped.is_none() {
            self.note_refusal();
        }
        Ok(swapped)
    }

    /// A write was refused, and the store answers: that is no reason to skip it, because tokens can be read.
    pub(super) fn note_refusal(&self) {
        count(&self.process().counters.errors);
    }
}

impl Claim {
    pub(super) fn put(self, response: &TokenResponse, context: &Context) {
        let time = self.store.term(response.lifetime);
        let token = &response.token;
        // A token that has ended is handed out once, and one that was rejected is not handed out at all.
        if time < Duration::from_millis(1) || self.store.process().is_reported(token.as_bytes()) {
            return self.release(context);
        }
        if let Some(record) = self.keys.seal(token) {
            self.swap_for(&record, time, context);
        }
    }

    /// The exchange failed.
    pub(super) fn release(self, context: &Context) {
        self.swap_for(b"", Duration::ZERO, context);
    }

    /// Replaces what was found. Where that fails the lease is left to its end, unless the call was stopped.
    fn swap_for(mut self, new: &[u8], time: Duration, context: &Context) {
        if new.is_empty() && !self.is_lease {
            return;
        }
        let result = self.store.swap(&self.keys, &self.expected, new, time, context);
        if matches!(result, Err(Failure::Stopped(_))) || !std::mem::take(&mut self.is_lease) {
            return;
        }
        if let Ok(None) = result {
            // Where scripts are forbidden nothing is shared, and nobody waits for that.
            let _ = self.store.delete(&self.keys.name, false, context);
        }
        self.store.process().end_lease();
    }
}

/// A leader without an heir sends the release and closes the connection; it waits for nothing. A cluster that has
/// just moved the key lets the lease run out.
impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_lease || self.made_in != generation() {
            return;
        }
        let process = self.store.process();
        let way = process.admit(&self.keys.name, true); // a closed client keeps it until the lease ends
        process.end_lease();
        if let Some(connection) = way.and_then(|way| way.kept) {
            let context = Context::new(Duration::ZERO, None, &CancelToken::new());
            let undo = |out: &mut Commands| {
                swap(out, &self.keys.name, &self.expected, b"", Duration::ZERO);
            };
            connection.say(&context, &undo);
        }
    }
}

/// See [`SWAP`].
pub(super) fn swap(out: &mut Commands, name: &[u8], expected: &[u8], new: &[u8], time: Duration) {
    let time = time.as_millis().to_string();
    command(out, &[b"EVAL", SWAP, b"1", name, expected, new, time.as_bytes()]);
}
