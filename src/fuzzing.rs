//! The fuzz targets: each takes any bytes, and panics if they break a rule. `fuzz/` makes programs of them.
//! No build of the library has them.

pub use crate::capi::fuzz::signing;
pub use crate::config::fuzz::{Seen, base_url, pem, proxy, store_url};
pub use crate::exchange::fuzz::{problem, response};
pub use crate::store::fuzz::{record, wire};

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 9] = [
        ("base_url", |data| drop(base_url(data))),
        ("pem", pem),
        ("problem", problem),
        ("proxy", |data| drop(proxy(data))),
        ("record", record),
        ("response", response),
        ("signing", signing),
        ("store_url", |data| drop(store_url(data))),
        ("wire", wire),
    ];

    fn names_in(folder: &Path) -> BTreeSet<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Among them is each input that once broke a rule.
    #[test]
    fn no_input_of_the_corpus_breaks_a_rule() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        assert_eq!(names_in(&folder), TARGETS.map(|(name, _)| name.to_owned()).into());
        for (name, target) in TARGETS {
            let inputs = names_in(&folder.join(name));
            assert!(!inputs.is_empty(), "{name}");
            for input in inputs {
                println!("{name}/{input}"); // shown if it fails
                target(&fs::read(folder.join(name).join(input)).unwrap());
            }
        }
    }

    fn versions(lock: &str, name: &str) -> BTreeSet<String> {
        let start = format!("\nname = \"{name}\"\nversion = ");
        lock.split(&start).skip(1).map(|rest| rest.lines().next().unwrap().to_owned()).collect()
    }

    /// `fuzz/` has a lock file of its own.
    #[test]
    fn the_programs_are_built_with_the_librarys_versions_of_its_crates() {
        let read = |path: &str| {
            fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
        };
        let (library, programs) = (read("Cargo.lock"), read("fuzz/Cargo.lock"));
        let manifest = read("Cargo.toml");
        let table = manifest.split("\n[dependencies]\n").nth(1).unwrap();
        let names = table.lines().map_while(|line| Some(line.split_once(" = ")?.0));
        let names: Vec<&str> = names.filter(|name| *name != "webpki").collect();
        assert!(names.contains(&"ureq") && names.contains(&"zeroize"));
        for name in names {
            let (ours, theirs) = (versions(&library, name), versions(&programs, name));
            assert!(!theirs.is_empty() && theirs.is_subset(&ours), "{name}: {ours:?} {theirs:?}");
        }
    }
}
