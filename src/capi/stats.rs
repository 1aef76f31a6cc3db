//! What a client's cache did and holds.

use std::mem::size_of;

use super::boundary::run;
use super::buffer::{StructOut, handle};
use super::client::spike_auth_client;
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;
use crate::cache::Stats;

/// What a client's cache has done since the client was made, and what it holds. 256 bytes, for ever.
///
/// It counts the calls of spike_auth_client_get_token(), spike_auth_client_get_authorization() and
/// spike_auth_client_peek_token(), and the exchanges that they begin. spike_auth_client_exchange() and
/// spike_auth_client_exchange_signature() do not touch the cache and are not counted. A call that fails before
/// it looks (a bad user id, a closed client) is not counted either.
///
/// The counters add up: hits + misses is the number of calls that asked; coalesced + exchanges <= misses;
/// failures <= exchanges; requests <= exchanges + retries. An exchange that is under way is counted in
/// exchanges; its requests, retries and failure are counted when it ends. In a child of fork all begin at
/// zero, but entries, bytes and forks.
#[repr(C)]
pub struct spike_auth_stats {
    /// Calls that were answered from the cache. Of spike_auth_client_peek_token() only those that found one.
    pub hits: u64,
    /// Calls that were not, or that renewed a token.
    pub misses: u64,
    /// Misses that waited for an exchange which another call had begun.
    pub coalesced: u64,
    /// Exchanges that misses began.
    pub exchanges: u64,
    /// Requests that these exchanges sent.
    pub requests: u64,
    /// Requests among them that were not the first of their exchange.
    pub retries: u64,
    /// Exchanges that ended without a token that could be handed out.
    pub failures: u64,
    /// Tokens that were dropped because spike_auth_client_invalidate() reported them.
    pub invalidations: u64,
    /// Tokens that were dropped to make room.
    pub evictions: u64,
    /// Tokens that are held now. One that has ended is held until it is asked for, or evicted.
    pub entries: u64,
    /// The memory that they take, in bytes, as it counts for spike_auth_config_set_cache_max_bytes().
    pub bytes: u64,
    /// How many forks lie between the process that made the client and this one.
    pub forks: u64,
    /// Zero. Kept for later versions.
    pub reserved: [u64; 20],
}

const _: () = assert!(size_of::<spike_auth_stats>() == 256);

impl From<Stats> for spike_auth_stats {
    fn from(stats: Stats) -> Self {
        let Stats {
            hits,
            misses,
            coalesced,
            exchanges,
            requests,
            retries,
            failures,
            invalidations,
            evictions,
            entries,
            bytes,
            forks,
        } = stats;
        Self {
            hits,
            misses,
            coalesced,
            exchanges,
            requests,
            retries,
            failures,
            invalidations,
            evictions,
            entries,
            bytes,
            forks,
            reserved: [0; 20],
        }
    }
}

/// Reads the counters of a client's cache.
///
/// @param stats  gets them; need not be initialised. All zero if the function fails.
/// @param err    NULL or where the details go
///
/// Fails with CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_stats(
    client: *const spike_auth_client,
    stats: *mut spike_auth_stats,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the header asks of the caller what each of these needs.
    unsafe {
        run(err, || {
            let out = StructOut::new(stats, "stats")?;
            out.write(handle(client, "client")?.client.stats()?.into());
            Ok(())
        })
    }
}
