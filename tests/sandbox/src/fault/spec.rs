//! The two spellings of a list of faults.
//!
//! On the command line and in control requests: `NAME[:ARG][+NAME[:ARG]]...[*N]`. In a user id, which has
//! only letters, digits, `.`, `_` and `-`: `fault.NAME[.ARG][.and.NAME[.ARG]]...[.xN][.ANYTHING]`.

use super::{Argument, Entry, find};

#[derive(Debug)]
pub struct Spec {
    pub faults: Vec<Fault>,
    /// Only the first so many requests of a user meet the faults.
    pub first: Option<u64>,
    /// As it was given.
    pub text: String,
}

#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub entry: &'static Entry,
    pub argument: Argument,
}

impl Spec {
    /// Reads the form of the command line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (list, count) = match text.rsplit_once('*') {
            Some((list, count)) => (list, Some(read_count(count)?)),
            None => (text, None),
        };
        let mut spec = Self::empty(text);
        for part in list.split('+') {
            let (name, argument) =
                part.split_once(':').map_or((part, None), |(name, rest)| (name, Some(rest)));
            let entry = spec.entry(name)?;
            let argument = match argument {
                None => entry.takes.default(),
                Some(argument) => {
                    entry.takes.read(argument).ok_or_else(|| bad_argument(entry, argument))?
                }
            };
            spec.faults.push(Fault { entry, argument });
        }
        spec.first = count.or(spec.first);
        Ok(spec)
    }

    /// Reads the form of a user id; `None` if the id names no fault.
    pub fn from_user(user: &str) -> Option<Result<Self, String>> {
        user.strip_prefix("fault.").map(|list| Self::from_parts(user, list))
    }

    fn from_parts(user: &str, list: &str) -> Result<Self, String> {
        let mut spec = Self::empty(user);
        let mut parts = list.split('.').peekable();
        loop {
            let entry = spec.entry(parts.next().unwrap_or_default())?;
            let given = parts.peek().and_then(|part| entry.takes.read(part));
            let argument = given.unwrap_or_else(|| entry.takes.default());
            spec.faults.push(Fault { entry, argument });
            if given.is_some() {
                parts.next();
            }
            if parts.next_if_eq(&"and").is_none() {
                break;
            }
        }
        if let Some(count) = parts.peek().and_then(|part| part.strip_prefix('x')) {
            // Any other part that begins with an x names the user.
            spec.first = count.parse().ok().or(spec.first);
        }
        Ok(spec)
    }

    fn empty(text: &str) -> Self {
        Self { faults: Vec::new(), first: None, text: text.to_owned() }
    }

    /// Finds a fault; `NAME-once` is short for `*1`.
    fn entry(&mut self, name: &str) -> Result<&'static Entry, String> {
        if let Some(entry) = name.strip_suffix("-once").and_then(find) {
            self.first = Some(1);
            return Ok(entry);
        }
        find(name).ok_or_else(|| format!("no fault is called '{name}'; --help lists them all"))
    }
}

fn read_count(text: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("'*{text}' is not a number of requests; write for example '*2'"))
}

fn bad_argument(entry: &Entry, argument: &str) -> String {
    format!("'{argument}' does not fit the fault '{}{}'", entry.name, entry.takes.usage())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(spec: &Spec) -> Vec<(&str, Argument)> {
        spec.faults.iter().map(|fault| (fault.entry.name, fault.argument)).collect()
    }

    fn user(id: &str) -> Spec {
        Spec::from_user(id).unwrap().unwrap()
    }

    #[test]
    fn both_forms_say_the_same() {
        let pairs = [
            ("status:503", "fault.status.503"),
            ("status:503*1", "fault.status-once.503.bob"),
            ("status-once:503", "fault.status.503.x1.bob"),
            ("delay:200+status:503*2", "fault.delay.200.and.status.503.x2.alice"),
            ("close-before", "fault.close-before"),
            ("drip", "fault.drip.bob"),
            ("exp:-30", "fault.exp.-30"),
            ("echo:422", "fault.echo.422.x"),
        ];
        for (line, id) in pairs {
            let (line, id) = (Spec::parse(line).unwrap(), user(id));
            assert_eq!(names(&line), names(&id));
            assert_eq!(line.first, id.first);
        }
    }

    #[test]
    fn what_follows_in_a_user_id_is_free() {
        let spec = user("fault.close-before.503.xavier.and.more");
        assert_eq!(names(&spec), [("close-before", Argument::Nothing)]);
        assert_eq!(spec.first, None);
        assert!(Spec::from_user("alice").is_none());
        assert!(Spec::from_user("faulty").is_none());
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            "nope",
            "status:",
            "status:x",
            "status:99",
            "status*",
            "status*x",
            "stall:1",
            "+status",
        ] {
            assert!(Spec::parse(text).is_err(), "{text}");
        }
        for id in ["fault.", "fault.nope", "fault.delay.1.and.nope"] {
            assert!(Spec::from_user(id).unwrap().is_err(), "{id}");
        }
    }
}
