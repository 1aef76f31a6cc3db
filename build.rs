//! Generates the C header, and sets the soname of the shared library.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

/// The files of src/capi/ that declare something for C, in the header's order. A forgotten one shows in
/// tests/test_artifact.py, which compares the header's functions with the exported ones.
const SOURCES: [&str; 12] = [
    "version", "status", "error", "sign", "config", "call", "client", "cache", "store", "queue",
    "stats", "diagnose",
];

fn main() -> Result<(), Box<dyn Error>> {
    for input in ["build.rs", "include/cbindgen.toml", "src/capi"] {
        println!("cargo:rerun-if-changed={input}");
    }
    write_header()?;
    link_shared_library()
}

/// Writes OUT_DIR/spike_auth.h, which tests/header.rs compares with the committed header.
fn write_header() -> Result<(), Box<dyn Error>> {
    let mut builder =
        cbindgen::Builder::new().with_config(cbindgen::Config::from_file("include/cbindgen.toml")?);
    for name in SOURCES {
        builder = builder.with_src(format!("src/capi/{name}.rs"));
    }
    let mut header = Vec::new();
    match builder.generate() {
        Ok(bindings) => bindings.write(&mut header),
        // Not fatal: rustc refuses the same source, with a better message. The header stays empty.
        Err(error) => {
            let why = error.to_string().replace('\n', " ");
            println!("cargo:warning=cbindgen made no header: {why}");
        }
    }
    fs::write(PathBuf::from(env::var("OUT_DIR")?).join("spike_auth.h"), header)?;
    Ok(())
}

fn link_shared_library() -> Result<(), Box<dyn Error>> {
    let os = env::var("CARGO_CFG_TARGET_OS")?;
    // No soname is set by default. No version script: rustc already exports exactly the `no_mangle`
    // functions, and a script of ours fails with GNU ld and does nothing with lld.
    if matches!(os.as_str(), "linux" | "android" | "freebsd" | "netbsd" | "openbsd") {
        let abi = abi_version()?;
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libspike_auth.so.{abi}");
        // The thread of a name lookup may outlive dlclose.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
    Ok(())
}

/// The ABI number, read from the source as the Makefile does.
fn abi_version() -> Result<u32, Box<dyn Error>> {
    const FILE: &str = "src/capi/version.rs";
    const START: &str = "pub const SPIKE_AUTH_ABI_VERSION: u32 = ";
    let source = fs::read_to_string(FILE)?;
    let number = source
        .lines()
        .find_map(|line| line.strip_prefix(START)?.strip_suffix(';')?.parse().ok())
        .ok_or_else(|| format!("{FILE} has no line `{START}<number>;`"))?;
    Ok(number)
}
