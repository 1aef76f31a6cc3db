//! Tokens of the store that processes share: they are no exchanges.

use super::*;

/// A store that answers with what a function returns, and exchanges that bring "new".
struct Shared<F>(F);

impl<F: Fn() -> &'static str> Fetcher for Shared<F> {
    type Turn<'a>
        = ()
    where
        F: 'a;

    fn begin(&self, renews: Option<&[u8]>) -> Progress {
        Progress::beginning_with_store(renews)
    }

    fn wait_for_turn(&self, _: &Context, _: &mut Progress) -> Result<(), Outcome> {
        Ok(())
    }

    fn poll_turn(&self, _: &Context, _: &mut Progress, _: &Waker) -> Result<(), Later<Instant>> {
        Ok(())
    }

    fn attempt(
        &self,
        (): (),
        _: &SignedUser<'_>,
        _: &Context,
        progress: &mut Progress,
    ) -> Option<Outcome> {
        if !progress.asks_store() {
            return Some(response("new", None));
        }
        match response((self.0)(), None) {
            Outcome::Granted(response) => Some(Outcome::Shared(response)),
            other => Some(other),
        }
    }
}

fn look(
    cache: &Cache<Manual>,
    id: &str,
    find: impl Fn() -> &'static str,
) -> Result<String, ErrorKind> {
    assert!(matches!(cache.get(user(id)), Lookup::Missing));
    fetch(cache, id, None, &Shared(find), &context())
}

#[test]
fn a_token_that_is_reported_while_it_is_looked_for_is_no_answer() {
    let cache = cache(10);
    let find = || {
        cache.invalidate(user("a"), b"old");
        "old"
    };
    assert_eq!(look(&cache, "a", find), Ok("new".into()));
    assert_eq!(peek(&cache, "a").as_deref(), Some("new"));
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.exchanges, stats.store_hits, stats.failures), (1, 1, 0, 0));
}

#[test]
fn a_token_that_is_reported_leaves_the_next_call_its_exchange() {
    let cache = cache(10);
    for token in ["one", "two", "three"] {
        assert_eq!(look(&cache, "a", || token), Ok(token.into()));
        cache.invalidate(user("a"), token.as_bytes());
    }
    assert_eq!(ask(&cache, "a", response("four", None)), Ok("four".into()));
    cache.invalidate(user("a"), b"four");
    assert_eq!(look(&cache, "a", || "five"), Err(ErrorKind::TokenRejected));
    assert_eq!((cache.stats().exchanges, cache.stats().store_hits), (1, 3));
}

#[test]
fn hits_neither_close_the_breaker_nor_use_up_its_probe() {
    let cache = cache(100);
    for id in ["a", "b", "c", "d", "e"] {
        let refused = Error::new(ErrorKind::Unauthorized, "").with_http_status(401);
        assert!(ask(&cache, id, Outcome::Failed(refused)).is_err());
    }
    assert_eq!(look(&cache, "f", || "found"), Err(ErrorKind::Unauthorized));
    cache.clock.advance(Duration::from_secs(5));
    for id in ["f", "g", "h"] {
        assert_eq!(look(&cache, id, || "found"), Ok("found".into()), "{id}");
    }
    let failed = Error::new(ErrorKind::Connect, "");
    assert_eq!(ask(&cache, "i", Outcome::Failed(failed)), Err(ErrorKind::Connect), "the probe");
    assert_eq!(look(&cache, "j", || "found"), Err(ErrorKind::Unauthorized));
}
