//! The key that a client signs with. It can change while calls use it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;

use crate::config::{ClientKey, Config, KeyShape};
use crate::error::{Error, ErrorKind};
use crate::signing::{DerivedKey, HmacKey, Signature};
use crate::user_id::UserId;

/// How often the key's file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Shared by all threads. No lock: it is also used in a child that was forked while a thread changed the key.
pub(crate) struct Keyring {
    current: ArcSwapOption<Numbered>,
    /// The number of `current`, a moment later; 0 without a key. Cheaper to ask.
    number: AtomicU32,
    /// Where the key may change.
    file: Option<PathBuf>,
    /// A key that was set is not replaced by the file's.
    watches_file: AtomicBool,
    made: Instant,
    /// When the last look at the file was over, in milliseconds from `made`, plus one; 0: never.
    looked: AtomicU64,
    changes: AtomicU64,
    was_set: AtomicBool,
}

/// A key, and which one of its client it is: from 1.
pub(crate) struct Numbered {
    key: ClientKey,
    number: u32,
}

impl Numbered {
    pub(crate) fn hmac(&self) -> &HmacKey {
        &self.key.hmac
    }

    pub(crate) fn shape(&self) -> KeyShape {
        self.key.shape
    }

    pub(crate) fn store(&self) -> &DerivedKey {
        &self.key.store
    }

    pub(crate) fn signature(&self, user: UserId<'_>) -> Signature {
        self.key.hmac.signature(user).by_key(self.number)
    }
}

impl Keyring {
    pub(crate) fn new(config: &Config) -> Self {
        let key = config.key.clone().map(|key| Arc::new(Numbered { key, number: 1 }));
        Self {
            number: AtomicU32::new(key.is_some().into()),
            current: ArcSwapOption::new(key),
            watches_file: AtomicBool::new(config.hmac_key_file.is_some()),
            file: config.hmac_key_file.clone(),
            made: Instant::now(),
            looked: AtomicU64::new(0),
            changes: AtomicU64::new(0),
            was_set: AtomicBool::new(false),
        }
    }

    /// Fails with [`ErrorKind::KeyRequired`] if there is no key. One load.
    #[inline]
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.number.load(Ordering::Relaxed) == 0 { Err(required()) } else { Ok(()) }
    }

    /// Uses the key. A key that was replaced is wiped when its last use is over.
    #[inline]
    pub(crate) fn with<T>(&self, use_key: impl FnOnce(&Numbered) -> T) -> Result<T, Error> {
        match &*self.current.load() {
            Some(key) => Ok(use_key(key)),
            None => Err(required()),
        }
    }

    /// Later signatures are made with `key`, and the file is not looked at any more. Returns whether it is another key.
    pub(crate) fn set(&self, key: &ClientKey) -> bool {
        self.watches_file.store(false, Ordering::SeqCst);
        self.was_set.store(true, Ordering::Relaxed);
        self.change_to(key, || true)
    }

    /// Whether the client's key was set anew.
    pub(crate) fn was_set(&self) -> bool {
        self.was_set.load(Ordering::Relaxed)
    }

    /// How often the key was changed.
    pub(crate) fn changes(&self) -> u64 {
        self.changes.load(Ordering::Relaxed)
    }

    /// A signature of `user` in place of `old`, if the key has changed since. Usually one load.
    pub(crate) fn sign_anew(&self, user: UserId<'_>, old: &Signature) -> Option<Signature> {
        let key = old.key()?;
        (self.number.load(Ordering::Relaxed) != key).then(|| self.sign_with_other(user, key))?
    }

    /// The service refused `signature`, one of `user`. Returns one with another key, if there is one by now: it was
    /// set, or stands in the file. Reads the file at most every five seconds; calls that are refused at once all do.
    pub(crate) fn after_refusal(&self, user: UserId<'_>, refused: &Signature) -> Option<Signature> {
        let key = refused.key()?;
        self.sign_with_other(user, key).or_else(|| {
            self.look_into_file();
            self.sign_with_other(user, key)
        })
    }

    fn sign_with_other(&self, user: UserId<'_>, key: u32) -> Option<Signature> {
        self.with(|current| (current.number != key).then(|| current.signature(user))).ok()?
    }

    fn look_into_file(&self) {
        let Some(path) = self.file.as_ref().filter(|_| self.watches_file.load(Ordering::Relaxed))
        else {
            return;
        };
        let looked = self.looked.load(Ordering::Acquire);
        if looked != 0 && self.now() < looked + LOOK_EVERY.as_millis() as u64 {
            return;
        }
        if let Some(key) = ClientKey::in_file(path) {
            // Asked again at the change: a key may have been set while the file was read.
            self.change_to(&key, || self.watches_file.load(Ordering::SeqCst));
        }
        // Afterwards: who is refused meanwhile must not miss the new key.
        self.looked.store(self.now(), Ordering::Release);
    }

    /// Milliseconds, never 0.
    fn now(&self) -> u64 {
        self.made.elapsed().as_millis() as u64 + 1
    }

    /// Returns whether it is another key.
    fn change_to(&self, key: &ClientKey, may_change: impl Fn() -> bool) -> bool {
        let (mut is_other, mut number) = (false, 0);
        self.current.rcu(|current| {
            number = current.as_ref().map_or(0, |current| current.number);
            is_other = may_change()
                && current.as_ref().is_none_or(|current| !current.key.hmac.is_same_as(&key.hmac));
            match is_other {
                true => Some(Arc::new(Numbered { key: key.clone(), number: number + 1 })),
                false => current.clone(),
            }
        });
        if is_other {
            self.number.fetch_max(number + 1, Ordering::Relaxed);
            self.changes.fetch_add(1, Ordering::Relaxed);
        }
        is_other
    }
}

#[cold]
fn required() -> Error {
    Error::new(
        ErrorKind::KeyRequired,
        "The client has no HMAC key and cannot sign. Set the key, or pass a signature that was made elsewhere.",
    )
}
