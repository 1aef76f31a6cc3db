//! The counters of a client's cache.

use std::mem::size_of;

use super::boundary::run;
use super::buffer::{StructOut, handle};
use super::client::spike_auth_client;
use super::error::spike_auth_error;
use super::status::spike_auth_status_t;
use crate::cache::Stats;

/// The counters of a client's cache since the client was made, and its contents. The size is always 256
/// bytes.
///
/// The calls of spike_auth_client_get_token(), spike_auth_client_get_authorization() and
/// spike_auth_client_peek_token() are counted, and the exchanges that they start.
/// spike_auth_client_exchange() and spike_auth_client_exchange_signature() do not use the cache and are not
/// counted; nor is a call that fails before it looks into the cache (an invalid user id, a closed client).
///
/// The counters add up: hits + misses is the number of lookups; coalesced + exchanges + store_hits <= misses;
/// failures <= exchanges; requests <= exchanges + retries. An exchange counts in exchanges when it starts; its requests,
/// retries and failure count when it ends. In a forked child all counters start at zero, except entries,
/// bytes and forks.
#[repr(C)]
pub struct spike_auth_stats {
    /// Calls that returned a cached token, including those of spike_auth_client_peek_token().
    pub hits: u64,
    /// Calls that found no token, or that renewed one. spike_auth_client_peek_token() counts no misses.
    pub misses: u64,
    /// Misses that waited for an exchange that another call had started.
    pub coalesced: u64,
    /// Exchanges that misses started.
    pub exchanges: u64,
    /// Requests that these exchanges sent.
    pub requests: u64,
    /// Requests that were not the first of their exchange.
    pub retries: u64,
    /// Exchanges that ended without a usable token.
    pub failures: u64,
    /// Tokens dropped by spike_auth_client_invalidate().
    pub invalidations: u64,
    /// Tokens dropped to make room.
    pub evictions: u64,
    /// Tokens in the cache now. An expired token stays until it is looked up or evicted.
    pub entries: u64,
    /// Their memory in bytes, as it counts for spike_auth_config_set_cache_max_bytes().
    pub bytes: u64,
    /// The number of forks between the process that made the client and this one.
    pub forks: u64,
    /// Started calls that have not ended.
    pub pending: u64,
    /// Misses that took a token from the store.
    pub store_hits: u64,
    /// Exchanges that were made because the store held no token.
    pub store_misses: u64,
    /// Misses that waited until another process had made its exchange.
    pub store_waits: u64,
    /// Operations of the store that failed.
    pub store_errors: u64,
    /// Exchanges that were made without a look into the store, because it had failed three times in a row.
    pub store_skipped: u64,
    /// How often the key was changed, by spike_auth_client_set_hmac_key() or in its file.
    pub key_changes: u64,
    /// Zero. Reserved for later versions.
    pub reserved: [u64; 13],
}

const _: () = assert!(size_of::<spike_auth_stats>() == 256);

impl From<Stats> for spike_auth_stats {
    fn from(stats: Stats) -> Self {
        Self {
            hits: stats.hits,
            misses: stats.misses,
            coalesced: stats.coalesced,
            exchanges: stats.exchanges,
            requests: stats.requests,
            retries: stats.retries,
            failures: stats.failures,
            invalidations: stats.invalidations,
            evictions: stats.evictions,
            entries: stats.entries,
            bytes: stats.bytes,
            forks: stats.forks,
            pending: stats.pending,
            store_hits: stats.store_hits,
            store_misses: stats.store_misses,
            store_waits: stats.store_waits,
            store_errors: stats.store_errors,
            store_skipped: stats.store_skipped,
            key_changes: stats.key_changes,
            reserved: [0; 13],
        }
    }
}

/// Reads the counters of a client's cache.
///
/// @param stats  receives the counters; need not be initialised. All zero if the function fails.
/// @param err    receives the error detail; may be NULL
///
/// Fails with CLOSED.
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn spike_auth_client_stats(
    client: *const spike_auth_client,
    stats: *mut spike_auth_stats,
    err: *mut spike_auth_error,
) -> spike_auth_status_t {
    // SAFETY: the caller keeps the header's contract.
    unsafe {
        run(err, || {
            let out = StructOut::new(stats, "stats")?;
            out.write(handle(client, "client")?.client.stats()?.into());
            Ok(())
        })
    }
}
