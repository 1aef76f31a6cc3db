//! The shared library's soname, and its place in memory for good.

// Kept equal to SPIKE_AUTH_ABI_VERSION of src/capi/version.rs by tests/test_artifact.py.
const ABI_VERSION: u32 = 1;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    // Nothing sets a soname by default. What is exported is rustc's own list: the `no_mangle`
    // functions and nothing else (a version script of ours fails with GNU ld and does nothing
    // with lld).
    if matches!(os.as_str(), "linux" | "android" | "freebsd" | "netbsd" | "openbsd") {
        println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libspike_auth.so.{ABI_VERSION}");
        // The thread of a name lookup may outlive dlclose.
        println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    }
}
