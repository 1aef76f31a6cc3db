#!/usr/bin/env bash
# Builds the archive, with the only recipe for it: `make static` and packaging/platform.sh call this.
#
#     archive.sh SHARED BUILT ARCHIVE NATIVE COMMAND...
#
# COMMAND... is `cargo rustc` with its options, which writes BUILT. SHARED names the functions to export. Writes ARCHIVE,
# which may be BUILT, and into NATIVE the system libraries that a program needs beside it.
# CROSS (a prefix such as aarch64-linux-gnu-), LD, OBJCOPY, NM and AR choose the tools.
# UNWIND=FILE: the archive contains this unwinder, and asks for no libgcc.
set -euo pipefail

shared=$1 built=$2 archive=$3 native=$4
shift 4
tool=${CROSS:-}
work=$(mktemp -d "$(dirname "$archive")/archive.XXXXXX")
trap 'rm -rf "$work"' EXIT

"$@" --crate-type staticlib -- --print native-static-libs 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
# A fresh build prints no list; that of the build before is still right.
sed -n 's/^.*native-static-libs: *//p' "$work/log" | head -n 1 > "$work/native"
if [ -n "${UNWIND:-}" ]; then
  sed -i -E 's/ *-l(gcc_s|gcc_eh|gcc|unwind)\b//g' "$work/native"
fi
if [ -s "$work/native" ]; then mv "$work/native" "$native"; fi

# rustc's archive exports all of Rust's symbols, which collide with those of another Rust library. Here it is linked into
# one object that exports only the header's functions. Repeating this on its own result changes nothing, so it also runs
# when cargo found the archive fresh.
"${NM:-${tool}nm}" -D --defined-only "$shared" | awk '{ print "-u", $3 }' > "$work/functions"
# shellcheck disable=SC2046
"${LD:-${tool}ld}" -r $(cat "$work/functions") -o "$work/spike_auth.o" "$built" ${UNWIND:+"$UNWIND"}
"${OBJCOPY:-${tool}objcopy}" -w --keep-global-symbol='spike_auth_*' -R .llvmbc -R .llvmcmd --strip-unneeded "$work/spike_auth.o"
"${AR:-${tool}ar}" rcsD "$work/libspike_auth.a" "$work/spike_auth.o"
mv "$work/libspike_auth.a" "$archive"
