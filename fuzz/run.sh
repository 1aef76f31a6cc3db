#!/bin/sh
# Searches with libFuzzer for inputs that break a rule: run.sh SECONDS [TARGET...]. `make fuzz` calls it.
#
# CARGO is used as by make. With SANITIZER=address, AddressSanitizer watches the memory too, at a third of the speed.
set -eu
cd "$(dirname "$0")"

seconds=$1 && shift
CARGO=${CARGO:-cargo}
triple=$("$CARGO" -vV | sed -n 's/^host: //p')
out=$PWD/../target/fuzz

# What cargo-fuzz passes, which is not needed: a stable compiler can instrument. Only a sanitizer's flag is a nightly's.
flags='--cfg fuzzing -Cpasses=sancov-module'
for each in level=4 inline-8bit-counters pc-table trace-compares; do
  flags="$flags -Cllvm-args=-sanitizer-coverage-$each"
done
build=plain
if [ -n "${SANITIZER:-}" ]; then
  export RUSTC_BOOTSTRAP=1
  build=$SANITIZER flags="$flags -Zsanitizer=$SANITIZER"
fi
# With --target the flags are not for build scripts.
RUSTFLAGS=$flags "$CARGO" build --locked --release --target "$triple" --target-dir "$out/$build"

[ $# -gt 0 ] || set -- $(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' Cargo.toml)
for target; do
  mkdir -p "$out/corpus/$target" "$out/found"
  echo "fuzz: $target for $seconds s"
  "$out/$build/$triple/release/$target" -max_total_time="$seconds" -max_len=1024 -timeout=60 \
    -artifact_prefix="$out/found/$target-" -dict=dictionary "$out/corpus/$target" "corpus/$target" \
    >"$out/$target.log" 2>&1 || {
    tail -n 40 "$out/$target.log" >&2
    echo "fuzz: $target breaks a rule. Mend it, and keep the input that is named above: see CONTRIBUTING.md." >&2
    exit 1
  }
  sed -n 's/^#\([0-9]*\).*DONE *cov: \([0-9]*\).*/  \1 runs, \2 edges/p' "$out/$target.log"
done
