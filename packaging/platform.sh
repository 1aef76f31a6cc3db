#!/usr/bin/env bash
# Builds all of one platform into target/platforms/NAME: `make platforms` calls this for each.
#
#     platform.sh NAME         NAME: linux-{amd64,arm64}-{gnu,musl}
#
# libspike_auth.so, libspike_auth.a, native-static-libs, spike-auth, spike-auth-sandbox. Same inputs, same bytes: no path of this machine
# gets into a result. Where Rust's own library for the platform cannot be had, the folder holds the file `skipped` alone, with
# the reason.
set -euo pipefail
cd "$(dirname "$0")/.."

name=$1
case $name in
  linux-amd64-*) arch=x86_64 ;;
  linux-arm64-*) arch=aarch64 ;;
  *) echo "platform.sh: there is no platform $name" >&2; exit 2 ;;
esac
libc=${name##*-}
triple=$arch-unknown-linux-$libc
result=target/platforms/$name
zig=target/zig/$name # its own, so that several can be built at once
rustc=${RUSTC:-rustc}
sysroot=$("$rustc" --print sysroot)
std=$sysroot/lib/rustlib/$triple/lib

rm -rf "$result"
mkdir -p "$result"
if ! reason=$(packaging/std.sh "$triple"); then
  echo "$reason" > "$result/skipped"
  echo "SKIPPED: $name: $reason" >&2
  exit 0
fi

cross=
if [ "$arch" != "$(uname -m)" ]; then
  cross=$arch-linux-gnu-
  command -v "${cross}ld" > /dev/null || {
    echo "$name needs ${cross}ld. Install it with: apt-get install binutils-${arch/_/-}-linux-gnu" >&2
    exit 1
  }
fi

cargo fetch --locked --target "$triple"
# Each folder from which code comes, and its name in the results. The name of a registry's folder depends on where crates
# are downloaded from. rustc applies the last rule that matches, and so does the compiler of ring's C code.
home=${CARGO_HOME:-$HOME/.cargo}
remap= CFLAGS=
crates=("$home"/registry/src/*)
for rule in "$home=/cargo" "$sysroot=/rust" "$PWD=/spike_auth" "${crates[@]/%/=/crates}"; do
  remap+=" --remap-path-prefix=$rule"
  CFLAGS+=" -ffile-prefix-map=$rule"
done
export CFLAGS
export CARGO_TARGET_DIR=$zig PATH="$PWD/.venv/bin:$PATH"
unset CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_TARGET

# zig links against the symbols of an old glibc, so that the result also runs on old systems.
target=$triple
if [ "$libc" = gnu ]; then target+=.2.17; fi
options=(--release --locked --target "$target")

# Each kind of library is built alone: one build of several kinds turns link-time optimisation off (rust-lang/cargo#9672).
# For musl rustc makes no shared library unless told that the C library is shared too.
export RUSTFLAGS=$remap UNWIND=
if [ "$libc" = musl ]; then
  RUSTFLAGS+=" -C target-feature=-crt-static"
  UNWIND=$std/self-contained/libunwind.a
fi
built=$zig/$triple/release
native=$zig/$triple/native-static-libs
cargo-zigbuild rustc "${options[@]}" --lib --crate-type cdylib
install -m 755 "$built/libspike_auth.so" "$result"
CROSS=$cross packaging/archive.sh "$result/libspike_auth.so" "$built/libspike_auth.a" "$result/libspike_auth.a" "$native" \
  cargo-zigbuild rustc "${options[@]}" --lib
cp "$native" "$result"
# For musl programs that run anywhere.
compiler="$PWD/.venv/bin/python -m ziglang cc -target $arch-linux-${target##*-} -fPIE"
program=(make --no-print-directory --old-file=shared cli "PROGRAM=$result/spike-auth" "SHARED=$result/libspike_auth.so")
if [ "$libc" = musl ]; then
  libraries="$result/libspike_auth.a $(cat "$native")"
  "${program[@]}" CC="$compiler" CPPFLAGS=-DSPIKE_AUTH_STATIC LDFLAGS="-s -static -pie" CLI_LIBS="$libraries"
else
  "${program[@]}" CC="$compiler" LDFLAGS="-s -pie"
fi
# With other flags cargo builds all crates anew: these go into a folder of their own.
if [ "$libc" = musl ]; then zig+=/static; fi
CARGO_TARGET_DIR=$zig RUSTFLAGS=$remap cargo-zigbuild build "${options[@]}" -p spike-auth-sandbox
install -m 755 "$zig/$triple/release/spike-auth-sandbox" "$result"
