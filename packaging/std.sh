#!/bin/sh
# std.sh TRIPLE: sees to it that Rust's own library for a target is there, and prints why if it cannot be had.
set -eu
triple=$1
std=$("${RUSTC:-rustc}" --print sysroot)/lib/rustlib/$triple/lib
if [ -d "$std" ]; then exit 0; fi
# Two at once fail.
mkdir -p target
exec 9> target/rustup.lock
if command -v flock > /dev/null; then flock 9; fi
if said=$(rustup target add "$triple" 2>&1) && [ -d "$std" ]; then exit 0; fi
echo "Rust's own library for $triple is missing, and \`rustup target add $triple\` does not get it: $said" | tr '\n' ' '
exit 1
