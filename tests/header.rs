//! The committed header is the one that the source generates.

#![allow(clippy::unwrap_used)] // a failed unwrap is a failed test

use std::path::Path;

/// What build.rs generated.
const GENERATED: &str = include_str!(concat!(env!("OUT_DIR"), "/spike_auth.h"));

/// With `SPIKE_AUTH_WRITE_HEADER` set, as by `make header`, it writes the header instead.
#[test]
fn the_committed_header_is_current() {
    assert!(!GENERATED.is_empty(), "cbindgen made no header; a warning of the build says why");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/spike_auth.h");
    if std::env::var_os("SPIKE_AUTH_WRITE_HEADER").is_some() {
        std::fs::write(&path, GENERATED).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == GENERATED,
        "include/spike_auth.h differs from what src/capi/ and include/cbindgen.toml generate. \
         Run `make header` and commit the result."
    );
}
