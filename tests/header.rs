//! The committed header is the one that the source makes.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::path::Path;

const SOURCES: [&str; 9] =
    ["version", "status", "error", "sign", "config", "call", "client", "cache", "stats"];

fn generate() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config = cbindgen::Config::from_file(root.join("include/cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for name in SOURCES {
        builder = builder.with_src(root.join(format!("src/capi/{name}.rs")));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

/// With `SPIKE_AUTH_WRITE_HEADER` set, as `make header` does, it writes the header instead.
#[test]
fn the_header_is_fresh() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/spike_auth.h");
    let fresh = generate();
    if std::env::var_os("SPIKE_AUTH_WRITE_HEADER").is_some() {
        std::fs::write(&path, fresh).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == fresh,
        "include/spike_auth.h is not what src/capi/ and include/cbindgen.toml make. \
         Run `make header` and commit the result."
    );
}

/// cbindgen is told its files by name: one that is forgotten would be missing without a word.
#[test]
fn every_function_of_the_source_is_in_the_header() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let header = std::fs::read_to_string(root.join("include/spike_auth.h")).unwrap();
    for entry in std::fs::read_dir(root.join("src/capi")).unwrap() {
        let path = entry.unwrap().path();
        if path.ends_with("test_panic.rs") {
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for line in source.lines().filter(|line| line.contains("extern \"C\" fn ")) {
            let name = line.split("fn ").nth(1).unwrap().split('(').next().unwrap();
            assert!(header.contains(&format!("{name}(")), "{name} of {}", path.display());
        }
    }
}
