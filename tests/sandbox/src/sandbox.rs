//! What all connections share.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use crate::{counters::Counters, fault::Book, options::Options, request::Application, token::Mint};

pub struct Sandbox {
    application: Mutex<Arc<Application>>,
    pub mint: Mint,
    /// Passes before every reply.
    pub delay: Duration,
    pub book: Book,
    pub counters: Arc<Counters>,
}

impl Sandbox {
    pub fn new(options: &Options) -> Result<Self, String> {
        let id = &options.application_id;
        let book = Book::default();
        book.set(None, &options.fault)?;
        for (user, spec) in &options.user_faults {
            book.set(Some(user), spec)?;
        }
        Ok(Self {
            application: Mutex::new(Arc::new(
                Application::new(id, &options.hmac_key).ok_or("the HMAC key cannot be used")?,
            )),
            mint: Mint::new(id, options.token_lifetime, options.fresh_tokens)
                .ok_or("the token key cannot be used")?,
            delay: options.delay,
            book,
            counters: Arc::default(),
        })
    }

    pub fn application(&self) -> Arc<Application> {
        Arc::clone(&self.application.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The key from now on. Signatures by the one before are refused, unless it is kept. Returns whether the key can be used.
    pub fn set_key(&self, key: &str, keeps_old: bool) -> bool {
        let next = (!key.is_empty()).then(|| self.application().with_key(key, keeps_old)).flatten();
        let can_be_used = next.is_some();
        if let Some(next) = next {
            *self.application.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        }
        can_be_used
    }
}
