//! The parts of a client that its own threads use too.

use std::sync::Arc;

use crate::cache::{Cache, Monotonic};
use crate::config::{ApplicationId, CacheLimits, Config};
use crate::error::Error;
use crate::exchange::SharedExchange;
use crate::fork::{PerProcess, generation};
use crate::keyring::Keyring;

pub(crate) struct Core {
    pub(crate) ring: Arc<Keyring>,
    pub(crate) exchange: SharedExchange,
    cache: PerProcess<Cache>,
    cache_limits: CacheLimits,
    /// The generation of the process that made the client.
    made_in: u64,
}

impl Core {
    pub(crate) fn new(config: &Config, application_id: &ApplicationId) -> Result<Self, Error> {
        let ring = Arc::new(Keyring::new(config));
        Ok(Self {
            exchange: SharedExchange::new(config, application_id, &ring)?,
            ring,
            cache: PerProcess::new(Cache::new(config.cache, Monotonic)),
            cache_limits: config.cache,
            made_in: generation(),
        })
    }

    /// The cache of this process.
    #[inline]
    pub(crate) fn cache(&self) -> &Cache {
        self.cache.get(|parent| match parent {
            Some(parent) => parent.inherit(Monotonic, generation() - self.made_in),
            None => Cache::new(self.cache_limits, Monotonic),
        })
    }
}
