//! Random operations on a cache, against a plain model of the rules.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

const USERS: u8 = 6;
const WINDOW: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
enum Operation {
    /// Ask. The server would return the token of this number, with this lifetime in seconds.
    Ask {
        user: u8,
        token: u8,
        lifetime: Option<u64>,
    },
    /// Ask. The server would refuse.
    AskRefused {
        user: u8,
    },
    Peek {
        user: u8,
    },
    Invalidate {
        user: u8,
        token: u8,
    },
    Forget {
        user: u8,
    },
    Clear,
    Wait {
        ms: u64,
    },
}

fn operation() -> impl Strategy<Value = Operation> {
    let user = || 0..USERS;
    let lifetime = prop_oneof![
        3 => Just(None),
        1 => Just(Some(0)),
        2 => (1..100u64).prop_map(Some),
    ];
    prop_oneof![
        8 => (user(), 0..4u8, lifetime).prop_map(|(user, token, lifetime)| Operation::Ask { user, token, lifetime }),
        2 => user().prop_map(|user| Operation::AskRefused { user }),
        3 => user().prop_map(|user| Operation::Peek { user }),
        4 => (user(), 0..4u8).prop_map(|(user, token)| Operation::Invalidate { user, token }),
        1 => user().prop_map(|user| Operation::Forget { user }),
        1 => Just(Operation::Clear),
        4 => (1..6000u64).prop_map(|ms| Operation::Wait { ms }),
    ]
}

#[derive(Default)]
struct Model {
    now: Duration,
    cached: HashMap<u8, CachedToken>,
    reports: HashMap<u8, Report>,
    refused: Vec<u8>,
    probe_at: Option<Duration>,
    invalidations: u64,
}

/// A time of `None` is never.
struct CachedToken {
    token: u8,
    expires_at: Option<Duration>,
    /// Between these two times it may be due for renewal; from the second on it is.
    due: Option<(Duration, Duration)>,
}

struct Report {
    until: Duration,
    token: u8,
    was_cached: bool,
    replacement: Option<u8>,
    is_blocked: bool,
}

impl Model {
    fn live_token(&self, user: u8) -> Option<u8> {
        let cached = self.cached.get(&user)?;
        cached.expires_at.is_none_or(|end| self.now < end).then_some(cached.token)
    }

    /// What a peek finds; `None` if that depends on whether the token is due.
    fn peeks(&self, user: u8) -> Option<Option<u8>> {
        let due = self.cached.get(&user).and_then(|cached| cached.due);
        match due {
            Some((_, most)) if most <= self.now => Some(None),
            Some((least, _)) if least <= self.now => None,
            _ => Some(self.live_token(user)),
        }
    }

    /// Whether a cached token is renewed. `exchanged`: whether the cache made an exchange.
    fn renews(&mut self, user: u8, exchanged: bool) -> bool {
        let blocked = self.report(user).is_some_and(|report| report.is_blocked)
            || self.probe_at.is_some_and(|at| self.now < at);
        let now = self.now;
        let Some((least, most)) = self.cached.get_mut(&user).and_then(|cached| cached.due.as_mut())
        else {
            return false;
        };
        if now < *least {
            return false;
        }
        if !blocked && (exchanged || *most <= now) {
            return true;
        }
        // Either it was not due yet, or the call that could have renewed it was stopped.
        *least = if now < *most { now } else { now + WINDOW };
        *most = (*most).max(now + 2 * WINDOW);
        false
    }

    fn report(&mut self, user: u8) -> Option<&mut Report> {
        let now = self.now;
        self.reports.get_mut(&user).filter(|report| now < report.until)
    }

    /// The result of a call that sends no request.
    fn answer(&mut self, user: u8, exchanged: bool) -> Option<Result<u8, ErrorKind>> {
        match self.live_token(user) {
            Some(token) if !self.renews(user, exchanged) => return Some(Ok(token)),
            Some(_) => {}
            None => drop(self.cached.remove(&user)),
        }
        if self.report(user).is_some_and(|report| report.is_blocked) {
            return Some(Err(ErrorKind::TokenRejected));
        }
        if let Some(at) = self.probe_at {
            if self.now < at {
                return Some(Err(ErrorKind::Unauthorized));
            }
            self.probe_at = Some(self.now + WINDOW);
        }
        None
    }

    fn ask(
        &mut self,
        user: u8,
        token: u8,
        lifetime: Option<u64>,
        exchanged: bool,
    ) -> Result<u8, ErrorKind> {
        if let Some(answer) = self.answer(user, exchanged) {
            return answer;
        }
        (self.probe_at, self.refused) = (None, Vec::new());
        if let Some(report) = self.report(user) {
            if report.token == token {
                report.is_blocked = true;
                return self.fall_back(user).ok_or(ErrorKind::TokenRejected);
            }
            report.replacement = Some(token);
        }
        let after = |lifetime| self.now + Duration::from_secs(lifetime);
        let expires_at = lifetime.map(after);
        let due = lifetime.map(|lifetime| self.now + Duration::from_secs(lifetime) * 9 / 10);
        // An expired token does not replace a live one.
        if lifetime == Some(0) {
            let next = (self.now + WINDOW, self.now + 2 * WINDOW);
            self.cached.entry(user).and_modify(|cached| cached.due = cached.due.map(|_| next));
        } else {
            let due = due.map(|due| (due, due));
            self.cached.insert(user, CachedToken { token, expires_at, due });
        }
        Ok(token)
    }

    /// The token that is due, after its renewal failed.
    fn fall_back(&mut self, user: u8) -> Option<u8> {
        let next = (self.now + WINDOW, self.now + 2 * WINDOW);
        let token = self.live_token(user)?;
        self.cached.entry(user).and_modify(|cached| cached.due = Some(next));
        Some(token)
    }

    fn ask_refused(&mut self, user: u8, exchanged: bool) -> Result<u8, ErrorKind> {
        if let Some(answer) = self.answer(user, exchanged) {
            return answer;
        }
        if self.probe_at.is_none() && !self.refused.contains(&user) {
            self.refused.push(user);
            if self.refused.len() == 5 {
                self.probe_at = Some(self.now + WINDOW);
            }
        }
        self.cached.remove(&user);
        Err(ErrorKind::Unauthorized)
    }

    fn invalidate(&mut self, user: u8, token: u8) {
        // An expired token may not have been dropped yet; a report of it still counts.
        let cached = self.cached.get(&user).map(|cached| cached.token);
        if cached.is_some_and(|cached| cached != token) {
            return;
        }
        if cached.is_some() {
            self.cached.remove(&user);
            self.invalidations += 1;
        }
        let until = self.now + WINDOW;
        let was_cached = cached.is_some();
        match self.report(user) {
            Some(report) if report.token == token => report.was_cached |= was_cached,
            Some(report) if was_cached && !report.was_cached => {
                *report = Report { until, token, was_cached, replacement: None, is_blocked: false };
            }
            Some(report) => report.is_blocked |= was_cached || report.replacement == Some(token),
            None => {
                let report =
                    Report { until, token, was_cached, replacement: None, is_blocked: false };
                self.reports.insert(user, report);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_cache_behaves_like_the_model(operations in proptest::collection::vec(operation(), 0..200)) {
        let (cache, mut model) = (cache(1000), Model::default());
        let text = |token: u8| format!("token-{token}");
        let id = |user: u8| format!("user-{user}");
        let refusal = || Outcome::Failed(Error::new(ErrorKind::Unauthorized, "").with_http_status(401));
        let mut asked = 0;
        for operation in operations {
            let before = cache.stats().exchanges;
            match operation {
                Operation::Ask { user, token, lifetime } => {
                    asked += 1;
                    let got = ask(&cache, &id(user), response(&text(token), lifetime));
                    let exchanged = cache.stats().exchanges > before;
                    prop_assert_eq!(got, model.ask(user, token, lifetime, exchanged).map(text));
                }
                Operation::AskRefused { user } => {
                    asked += 1;
                    let got = ask(&cache, &id(user), refusal());
                    let exchanged = cache.stats().exchanges > before;
                    prop_assert_eq!(got, model.ask_refused(user, exchanged).map(text));
                }
                Operation::Peek { user } => {
                    let found = peek(&cache, &id(user));
                    asked += u64::from(found.is_some());
                    match model.peeks(user) {
                        Some(token) => prop_assert_eq!(found, token.map(text)),
                        None => prop_assert!(found.is_none() || found == model.live_token(user).map(text)),
                    }
                    if model.live_token(user).is_none() {
                        model.cached.remove(&user);
                    }
                }
                Operation::Invalidate { user: number, token } => {
                    cache.invalidate(user(&id(number)), text(token).as_bytes());
                    model.invalidate(number, token);
                }
                Operation::Forget { user: number } => {
                    cache.forget(user(&id(number)));
                    model.cached.remove(&number);
                }
                Operation::Clear => {
                    cache.clear();
                    model.cached.clear();
                }
                Operation::Wait { ms } => {
                    cache.clock.advance(Duration::from_millis(ms));
                    model.now += Duration::from_millis(ms);
                }
            }
            let stats = cache.stats();
            prop_assert_eq!(stats.hits + stats.misses, asked);
            prop_assert!(stats.exchanges <= stats.misses);
            prop_assert!(stats.failures <= stats.exchanges);
            prop_assert_eq!(stats.invalidations, model.invalidations);
            prop_assert_eq!(stats.evictions, 0);
        }
    }

    /// A small cache stays within its bound.
    #[test]
    fn a_small_cache_finds_only_latest_tokens(
        capacity in 1..300u64,
        operations in proptest::collection::vec((0..400u16, any::<bool>()), 0..1500),
    ) {
        let cache = cache(capacity);
        let mut latest: HashMap<u16, usize> = HashMap::new();
        for (number, (user_number, renew)) in operations.into_iter().enumerate() {
            let id = format!("user-{user_number}");
            if renew {
                cache.forget(user(&id));
                latest.remove(&user_number);
            }
            let token = ask(&cache, &id, response(&format!("t{number}"), None)).unwrap();
            let known = latest.get(&user_number).map(|known| format!("t{known}"));
            let fresh = format!("t{number}");
            prop_assert!(token == fresh || Some(&token) == known.as_ref());
            if token == fresh {
                latest.insert(user_number, number);
            }
            prop_assert_eq!(peek(&cache, &id), Some(token));
            let stats = cache.stats();
            prop_assert!(stats.entries <= capacity);
            prop_assert!(stats.entries as usize <= latest.len());
        }
        let entries = cache.stats().entries;
        let found = (0..400).filter(|n| peek(&cache, &format!("user-{n}")).is_some()).count();
        prop_assert_eq!(entries, found as u64);
    }
}
