//! What all connections share.

use std::{sync::Arc, time::Duration};

use crate::{counters::Counters, fault::Book, options::Options, request::Application, token::Mint};

pub struct Sandbox {
    pub application: Application,
    pub key: String,
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
            application: Application::new(id, options.hmac_key.as_bytes())
                .ok_or("the HMAC key cannot be used")?,
            key: options.hmac_key.clone(),
            mint: Mint::new(id, options.token_lifetime, options.fresh_tokens)
                .ok_or("the token key cannot be used")?,
            delay: options.delay,
            book,
            counters: Arc::default(),
        })
    }
}
