//! Random steps on a client, against a plain model of the rules.

use super::*;

/// The next step. Users and tokens are numbers.
#[derive(Clone, Debug)]
enum Step {
    Get(u8),
    Peek(u8),
    /// Reports the user's latest token.
    InvalidateLast(u8),
    /// Reports the one before it.
    InvalidateOld(u8),
    /// Reports a token that was never issued.
    InvalidateOther(u8),
    Forget(u8),
    Clear,
    /// The service has another token for the user from now on.
    Switch(u8),
    /// The service answers with this status from now on.
    Answer(u16),
}

fn step() -> impl Strategy<Value = Step> {
    let user = || 0..7u8;
    prop_oneof![
        12 => user().prop_map(Step::Get),
        4 => user().prop_map(Step::Peek),
        4 => user().prop_map(Step::InvalidateLast),
        2 => user().prop_map(Step::InvalidateOld),
        1 => user().prop_map(Step::InvalidateOther),
        2 => user().prop_map(Step::Forget),
        1 => Just(Step::Clear),
        4 => user().prop_map(Step::Switch),
        2 => Just(Step::Answer(200)),
        1 => prop_oneof![Just(422), Just(401)].prop_map(Step::Answer),
    ]
}

/// The service: a status, and a number for each user that is a part of its token.
#[derive(Clone, Default)]
struct Service {
    status: u16,
    versions: HashMap<u8, u32>,
}

impl Service {
    fn token(&self, user: u8) -> String {
        let version = self.versions.get(&user).copied().unwrap_or(0);
        format!("token-of-{user}-{version}")
    }
}

/// The documented rules, for one thread that finishes within the five seconds.
#[derive(Default)]
struct Model {
    cached: HashMap<u8, String>,
    given: HashMap<u8, Vec<String>>,
    /// The reported token, and whether it was cached then.
    rejected: HashMap<u8, (String, bool)>,
    /// The token that replaced a rejected one.
    replacement: HashMap<u8, String>,
    is_rejected_again: HashSet<u8>,
    refused_in_a_row: HashSet<u8>,
    requests: u64,
    hits: u64,
    misses: u64,
    failures: u64,
    invalidations: u64,
}

impl Model {
    fn get(&mut self, user: u8, service: &Service) -> Result<String, (ErrorKind, u32)> {
        if let Some(token) = self.cached.get(&user) {
            self.hits += 1;
            return Ok(token.clone());
        }
        self.misses += 1;
        if self.is_rejected_again.contains(&user) {
            return Err((ErrorKind::TokenRejected, 0));
        }
        if self.refused_in_a_row.len() >= 5 {
            return Err((ErrorKind::Unauthorized, 0));
        }
        self.requests += 1;
        let answer = self.answer(user, service);
        self.failures += u64::from(answer.is_err());
        answer.map_err(|kind| (kind, 1))
    }

    fn answer(&mut self, user: u8, service: &Service) -> Result<String, ErrorKind> {
        match service.status {
            401 => {
                self.refused_in_a_row.insert(user);
                return Err(ErrorKind::Unauthorized);
            }
            422 => return Err(ErrorKind::Refused),
            _ => self.refused_in_a_row.clear(),
        }
        let token = service.token(user);
        if self.rejected.get(&user).is_some_and(|(first, _)| *first == token) {
            self.is_rejected_again.insert(user);
            return Err(ErrorKind::TokenRejected);
        }
        if self.rejected.contains_key(&user) {
            self.replacement.insert(user, token.clone());
        }
        self.cached.insert(user, token.clone());
        self.given.entry(user).or_default().push(token.clone());
        Ok(token)
    }

    fn invalidate(&mut self, user: u8, token: &str) {
        let was_cached = match self.cached.get(&user) {
            Some(cached) if cached != token => return,
            cached => cached.is_some(),
        };
        if was_cached {
            self.cached.remove(&user);
            self.invalidations += 1;
        }
        match self.rejected.get_mut(&user) {
            None => {
                self.rejected.insert(user, (token.to_owned(), was_cached));
            }
            Some((first, was_cached_then)) if first == token => *was_cached_then |= was_cached,
            // The earlier report was of an uncached token, perhaps an old one: this report replaces it.
            Some(report) if was_cached && !report.1 => {
                *report = (token.to_owned(), true);
                self.replacement.remove(&user);
                self.is_rejected_again.remove(&user);
            }
            Some(_) => {
                if was_cached || self.replacement.get(&user).is_some_and(|new| new == token) {
                    self.is_rejected_again.insert(user);
                }
            }
        }
    }

    /// The user's latest token, or an earlier one: `before` counts back.
    fn given(&self, user: u8, before: usize) -> String {
        let given = self.given.get(&user).map_or(&[][..], Vec::as_slice);
        let at = given.len().checked_sub(1 + before);
        at.map_or_else(|| "unknown-token".to_owned(), |at| given[at].clone())
    }
}

fn id(user: u8) -> String {
    format!("user-{user}")
}

/// A client, its service, and the model of both.
struct Trial {
    client: Client,
    server: Server,
    service: Arc<Mutex<Service>>,
    model: Model,
}

impl Trial {
    fn new() -> Self {
        let service = Arc::new(Mutex::new(Service { status: 200, ..Service::default() }));
        let server = {
            let service = Arc::clone(&service);
            Server::start(move |incoming| {
                let user = incoming.user().split_once('-').unwrap().1.parse().unwrap();
                let service = service.lock().unwrap();
                Outcome::Reply(match service.status {
                    200 => token_reply(&service.token(user)),
                    status => reply(status, ""),
                })
            })
        };
        Self { client: client_of(&server), server, service, model: Model::default() }
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let (client, model) = (&self.client, &mut self.model);
        let mut report = |user: u8, token: String| {
            invalidate(client, &id(user), &token);
            model.invalidate(user, &token);
        };
        match *step {
            Step::Get(user) => {
                let got = get(client, &id(user)).map_err(|error| (error.kind(), error.attempts()));
                prop_assert_eq!(got, model.get(user, &self.service.lock().unwrap()));
            }
            Step::Peek(user) => {
                let found = cached(client, &id(user));
                model.hits += u64::from(found.is_some());
                prop_assert_eq!(found.as_ref(), model.cached.get(&user));
            }
            Step::InvalidateLast(user) => {
                let token = model.given(user, 0);
                invalidate(client, &id(user), &token);
                model.invalidate(user, &token);
            }
            Step::InvalidateOld(user) => {
                let token = model.given(user, 1);
                invalidate(client, &id(user), &token);
                model.invalidate(user, &token);
            }
            Step::InvalidateOther(user) => report(user, "unknown-token".to_owned()),
            Step::Forget(user) => {
                client.forget(id(user).as_bytes()).unwrap();
                model.cached.remove(&user);
            }
            Step::Clear => {
                client.clear().unwrap();
                model.cached.clear();
            }
            Step::Switch(user) => {
                let mut service = self.service.lock().unwrap();
                *service.versions.entry(user).or_default() += 1;
            }
            Step::Answer(status) => self.service.lock().unwrap().status = status,
        }
        self.check_counts()
    }

    fn check_counts(&self) -> Result<(), TestCaseError> {
        let (now, model) = (stats(&self.client), &self.model);
        prop_assert_eq!(self.server.requests(), model.requests);
        prop_assert_eq!(now.requests, model.requests);
        prop_assert_eq!(now.exchanges, model.requests);
        prop_assert_eq!((now.hits, now.misses), (model.hits, model.misses));
        prop_assert_eq!(now.failures, model.failures);
        prop_assert_eq!(now.invalidations, model.invalidations);
        prop_assert_eq!(now.entries, model.cached.len() as u64);
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_client_behaves_like_the_model(steps in proptest::collection::vec(step(), 0..80)) {
        let mut trial = Trial::new();
        let start = Instant::now();
        for step in steps {
            trial.take(&step)?;
            // The model has no clock: it never forgets what the cache remembers for five seconds.
            if start.elapsed() > WINDOW / 2 {
                break;
            }
        }
    }
}
