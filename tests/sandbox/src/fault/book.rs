//! Which faults a request meets: set at start, at run time, or by the user id itself.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Value, json};

use super::Spec;

#[derive(Default)]
pub struct Book(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    everyone: Option<Arc<Spec>>,
    users: BTreeMap<String, Arc<Spec>>,
    /// How often each user has met a spec that ends after some requests.
    met: HashMap<String, u64>,
}

impl Book {
    /// Sets the faults of a user, or of everyone. An empty text removes them. Their counts start anew.
    pub fn set(&self, user: Option<&str>, text: &str) -> Result<(), String> {
        let spec = match text {
            "" => None,
            text => Some(Arc::new(Spec::parse(text)?)),
        };
        let mut entries = self.entries();
        match user {
            Some(user) => {
                entries.met.remove(user);
                match spec {
                    Some(spec) => entries.users.insert(user.to_owned(), spec),
                    None => entries.users.remove(user),
                };
            }
            None => {
                entries.met.clear();
                entries.everyone = spec;
            }
        }
        Ok(())
    }

    pub fn clear(&self) {
        *self.entries() = Entries::default();
    }

    pub fn forget_counts(&self) {
        self.entries().met.clear();
    }

    /// The faults of a good request: the user's own, else those named in the id, else everyone's.
    pub fn for_user(&self, user: &str) -> Result<Option<Arc<Spec>>, String> {
        let mut entries = self.entries();
        if let Some(spec) = entries.users.get(user).cloned() {
            return Ok(entries.meet(user, spec));
        }
        if let Some(spec) = Spec::from_user(user) {
            return spec.map(|spec| entries.meet(user, Arc::new(spec)));
        }
        let everyone = entries.everyone.clone();
        Ok(everyone.and_then(|spec| entries.meet(user, spec)))
    }

    /// The faults of a request without a good user.
    pub fn for_bad_request(&self) -> Option<Arc<Spec>> {
        let mut entries = self.entries();
        let everyone = entries.everyone.clone().filter(|spec| spec.is_raw())?;
        entries.meet("", everyone)
    }

    pub fn describe(&self) -> Value {
        let entries = self.entries();
        let users: BTreeMap<_, _> =
            entries.users.iter().map(|(user, spec)| (user, &spec.text)).collect();
        json!({"everyone": entries.everyone.as_ref().map(|spec| &spec.text), "users": users})
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entries {
    /// Counts the request, and returns the faults unless they are used up.
    fn meet(&mut self, user: &str, spec: Arc<Spec>) -> Option<Arc<Spec>> {
        if let Some(first) = spec.first {
            let met = self.met.entry(user.to_owned()).or_default();
            *met += 1;
            if *met > first {
                return None;
            }
        }
        Some(spec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_request_meets_only_raw_faults_of_everyone() {
        let book = Book::default();
        book.set(None, "html").unwrap();
        assert!(book.for_bad_request().is_none());
        book.set(None, "close-before*1").unwrap();
        assert!(book.for_bad_request().is_some());
        assert!(book.for_bad_request().is_none());
    }
}
