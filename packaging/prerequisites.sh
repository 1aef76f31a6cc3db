#!/bin/sh
# What this project needs of the system. POSIX sh, because it runs before anything is installed:
#
#   prerequisites.sh check GOAL                 names what is missing, why it is needed, and the cure; then ends with 1
#   prerequisites.sh setup [--dry-run] [GOAL]   installs it; GOAL is `test` if not given
#   prerequisites.sh table                      prints the table below
#
# GOAL is a target of the Makefile, or pip. CARGO and PYTHON in the environment are used as by make.
set -eu

checkout=$(dirname "$0")/..
CARGO=${CARGO:-cargo}
PYTHON=${PYTHON:-python3}
OLDEST_RUST=$(sed -n 's/^rust-version = "\([0-9.]*\)".*/\1/p' "$checkout/Cargo.toml")
OLDEST_PYTHON=$(sed -n 's/^requires-python = ">=\([0-9.]*\)".*/\1/p' "$checkout/bindings/python/pyproject.toml")

rust_bin=${CARGO_HOME:-${HOME:-}/.cargo}/bin

# The kinds of row that a goal needs. What is `optional` lets some tests be skipped, which is a failure in CI.
kinds_of() {
  case $1 in
    pip) echo compile ;;
    build | install) echo compile build ;;
    go) echo compile build link ;;
    venv) echo venv ;;
    wheel) echo compile build venv ;;
    dist) echo compile build venv dist ;;
    demo) echo compile build link venv demo ;;
    docs) echo compile build venv docs ;;
    engines) echo compile build venv engines ;;
    fuzz) echo compile demo ;;
    test) echo compile build link venv demo test optional ;;
    *) echo "prerequisites.sh does not know the goal $1." >&2 && exit 2 ;;
  esac
}

# Of two names with a comma one is needed. `-`: no package is known. `rustup`: that of the system is too old.
table() {
  cat <<'ROWS'
# name                      kind      apt-get                  apk              dnf                  purpose
make                        build     make                     make             make                 runs the commands
cargo                       compile   rustup                   cargo            cargo                builds the library
cc                          compile   gcc                      gcc              gcc                  compiles C and links the library
stdio.h                     compile   libc6-dev                musl-dev         glibc-devel          the headers of the C library
ld                          compile   binutils                 binutils         binutils             joins the archive
objcopy                     build     binutils                 binutils         binutils             hides the archive's inner symbols
nm                          build     binutils                 binutils         binutils             lists the exported functions
pkg-config                  link      pkg-config               pkgconf          pkgconf-pkg-config   leads C compilers and Go to the library
python3                     venv      python3                  python3          python3              builds the wheel and runs the tests
venv                        venv      python3-venv             python3          python3              makes the environment .venv
c++                         demo      g++                      g++              gcc-c++              compiles C++
readelf                     test      binutils                 binutils         binutils             looks at the shared library
aarch64-linux-gnu-ld        dist      binutils-aarch64-linux-gnu  -                binutils-aarch64-linux-gnu  joins the archive for arm64
doxygen                     docs      doxygen                  doxygen          doxygen              the reference of the C and C++ headers
advzip                      dist      advancecomp              advancecomp      advancecomp          packs wheels smaller
dpkg-deb                    dist      dpkg                     dpkg             dpkg                 packs Debian packages
npm                         engines   npm                      npm              nodejs-npm           Node, and koffi, by which it calls the library
clang                       optional  clang                    clang            clang                the header and the C tests with a second compiler
valgrind                    optional  valgrind                 valgrind         valgrind             the C tests under memcheck
gdb                         optional  gdb                      gdb              gdb                  core dumps that gdb writes
openssl                     optional  openssl                  openssl          openssl              certificates for the TLS tests
nginx                       optional  nginx                    nginx            nginx                a real server as the peer of TLS
tinyproxy                   optional  tinyproxy-bin            tinyproxy        tinyproxy            a real proxy
unshare                     optional  util-linux               util-linux-misc  util-linux-core      a system without a trust store
node                        optional  nodejs                   nodejs           nodejs               signatures compared with the documented Node form
php                         optional  php-cli                  -                php-cli              signatures compared with the documented PHP form
redis-server,valkey-server  optional  redis-server             redis            valkey               real stores, and Celery with a real broker
mandoc                      optional  mandoc                   mandoc           mandoc               checks the manual of spike-auth
cmake                       optional  cmake                    cmake            cmake                the CMake package
aarch64-linux-gnu-gcc       optional  gcc-aarch64-linux-gnu    -                -                    C programs for arm64
aarch64-libc                optional  libc6-dev-arm64-cross    -                -                    C programs for arm64
qemu-aarch64-static         optional  qemu-user-static         qemu-aarch64     qemu-user-static     runs programs for arm64
musl-gcc                    optional  musl-tools               -                -                    C programs for musl
apache2                     optional  apache2-bin              -                -                    the Python binding in a real server
mod_wsgi                    optional  libapache2-mod-wsgi-py3  -                -                    the Python binding in subinterpreters
locales                     optional  locales                  -                glibc-locale-source  the C tests in locales that are not UTF-8
libcurl.so                  optional  libcurl4                 libcurl          -                    the library's size beside that of libcurl
uv.h                        optional  libuv1-dev               libuv-dev        libuv-devel          the example for libuv
boost/asio.hpp              optional  libboost-dev             boost-dev        boost-devel          the example for boost::asio
Python.h                    optional  python3-dev              python3-dev      python3-devel        uWSGI, which is compiled
certificates                fetch     ca-certificates          ca-certificates  ca-certificates      downloads of Rust, crates and Go modules
curl                        rust      curl                     curl             curl                 fetches the installer of Rust
ROWS
}

# ---- what is here

# Whether version $1 is at least version $2. The first two numbers decide.
is_at_least() {
  minor=${1#*.}
  [ "${1%%.*}" -gt "${2%%.*}" ] || { [ "${1%%.*}" -eq "${2%%.*}" ] && [ "${minor%%.*}" -ge "${2#*.}" ]; }
}

cargo_version() { "$CARGO" --version 2>/dev/null | sed -n 's/^cargo \([0-9]*\.[0-9]*\).*/\1/p'; }

python_version() { "$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

any_file() {
  for path; do
    if [ -e "$path" ]; then return; fi
  done
  return 1
}

any_program() {
  for program; do
    if command -v "$program" >/dev/null; then return; fi
  done
  return 1
}

# The compiler knows where headers are.
has_header() {
  printf '#if !__has_include(<%s>)\n#error\n#endif\n' "$1" | cc -E -x c - >/dev/null 2>&1
}

is_here() {
  case $1 in
    cargo) version=$(cargo_version) && is_at_least "${version:-0.0}" "$OLDEST_RUST" ;;
    python3) version=$(python_version) && is_at_least "${version:-0.0}" "$OLDEST_PYTHON" ;;
    venv) "$PYTHON" -c 'import ensurepip, venv' >/dev/null 2>&1 ;; # Debian's python3 has venv without ensurepip
    aarch64-libc) any_file /usr/aarch64-linux-gnu/include/stdio.h ;;
    mod_wsgi) any_file /usr/lib/apache2/modules/mod_wsgi.so ;;
    locales) any_file /usr/share/i18n/charmaps ;;
    libcurl.so) any_file /usr/lib/libcurl.so.* /usr/lib/*-linux-gnu/libcurl.so.* ;;
    certificates) any_file /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt ;;
    Python.h) any_file "$("$PYTHON" -c 'import sysconfig; print(sysconfig.get_path("include"))' 2>/dev/null)/Python.h" ;;
    *.h | *.hpp) has_header "$1" ;;
    *) (PATH=$PATH:/usr/sbin && any_program "${1%,*}" "${1#*,}") ;; # servers, which a user's PATH may lack
  esac
}

# The rows of some kinds whose subject is not here.
missing() {
  table | while read -r name kind others; do
    case " $* " in
      *" $kind "*) is_here "$name" || echo "$name $kind $others" ;;
    esac
  done
}

# ---- how it is installed

manager=
for each in dnf apk apt-get; do
  if any_program "$each"; then manager=$each; fi
done

as_root=
if [ "$(id -u)" != 0 ] && any_program sudo; then as_root="sudo "; fi

# The package of one row on this system. A cargo that is here is too old, else it would not be asked for.
package_of() {
  if [ "$1" = cargo ]; then
    if [ -z "$manager" ] || any_program "$CARGO" rustup "$rust_bin/cargo"; then echo rustup && return; fi
  fi
  case $manager in
    apt-get) echo "$3" ;;
    apk) echo "$4" ;;
    dnf) echo "$5" ;;
    *) echo - ;;
  esac
}

# The packages of some rows, each once.
packages() {
  # shellcheck disable=SC2086 # a row is split into its columns
  echo "$1" | while read -r row; do [ -z "$row" ] || package_of $row; done | grep -vx -e - | sort -u | tr '\n' ' ' | sed 's/ $//'
}

# What a person types, and the same without questions.
install() {
  case $manager in
    apk) echo "${as_root}apk add $*" ;;
    *) echo "${as_root}$manager install $*" ;;
  esac
}

install_unasked() {
  case $manager in
    apt-get) echo "${as_root}env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $*" ;;
    dnf) echo "${as_root}dnf install -y $*" ;;
    *) install "$@" ;;
  esac
}

# A rustup that is here gets a toolchain for this checkout, so that no default of the user changes.
rust() {
  if any_program rustup; then
    echo "rustup toolchain install --profile minimal stable && rustup override set stable"
  else
    echo "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
  fi
}

# ---- check

fault_of() {
  case $1 in
    cargo) program=$CARGO version=$(cargo_version) oldest="Rust $OLDEST_RUST" ;;
    python3) program=$PYTHON version=$(python_version) oldest="Python $OLDEST_PYTHON" ;;
    *) return 0 ;;
  esac
  if path=$(command -v "$program"); then echo "$path is version ${version:-unknown}; $oldest or newer is needed. "; fi
}

cure_of() {
  package=$(package_of "$@")
  case $package in
    rustup)
      if any_program "$rust_bin/cargo" && [ "$(command -v "$CARGO")" != "$rust_bin/cargo" ]; then
        echo "That of rustup is in $rust_bin. Put it first: export PATH=\"$rust_bin:\$PATH\""
      else
        echo "Install it with: $(rust)"
      fi
      ;;
    -) echo "No package of it is known here." ;;
    python3) echo "Install it with: $(install python3); or name one: make PYTHON=..." ;;
    *) echo "Install it with: $(install "$package")" ;;
  esac
}

describe() {
  echo "$1" | while read -r name kind apt apk dnf purpose; do
    echo "  $name: $purpose. $(fault_of "$name")$(cure_of "$name" "$kind" "$apt" "$apk" "$dnf")"
  done
}

# Sets `required` and `optional` to the rows that are missing.
look() {
  required='' optional='' others=''
  for kind; do
    if [ "$kind" = optional ]; then optional=$(missing optional); else others="$others $kind"; fi
  done
  # shellcheck disable=SC2086 # one word a kind
  required=$(missing $others)
}

lacks() { echo "$required" | grep -q "^$1 "; }

check() {
  kinds=$(kinds_of "$1")
  # shellcheck disable=SC2086 # one word a kind
  look $kinds
  if [ -z "$required$optional" ]; then return; fi
  if [ -n "$optional" ]; then
    echo "Some tests will be skipped, because this is missing:"
    describe "$optional"
  fi
  if [ -n "$required" ]; then
    echo "This is missing:"
    describe "$required"
  fi
  if [ -n "${SUDO_USER:-}" ] && lacks cargo; then echo "Under sudo, keep your PATH: sudo env \"PATH=\$PATH\" make ..."; fi
  if [ -n "$(packages "$required
$optional")" ]; then echo "make setup installs what can be had."; fi
  [ -z "$required" ] && [ -z "${CI:-}" ]
}

# ---- setup

refuse() {
  echo "$1" >&2
  exit 1
}

run() {
  echo "+ $1"
  eval "$1"
}

# Not every release has every package.
install_what_there_is() {
  run "$(install_unasked "$@")" && return
  for package; do
    run "$(install_unasked "$package")" || echo "Left out: $package. Some tests will be skipped."
  done
}

# Sets the commands that install what `look` has found: `update`, `must`, `may` (packages) and `toolchain`.
plan() {
  must=$(packages "$required") may=$(packages "$optional") update='' toolchain=''
  case " $must " in *" rustup "*)
    toolchain=$(rust)
    case $toolchain in curl*) required="$required
$(missing rust)" ;; esac
    must=$(packages "$required" | sed 's/rustup *//; s/ $//') ;;
  esac
  case $manager:$must$may in
    apt-get:?*) update="${as_root}apt-get update" ;;
  esac
}

show_plan() {
  echo "make setup installs what make $goal needs, by these commands:"
  echo "${update:+  $update
}${must:+  $(install_unasked "$must")
}${may:+  $(install_unasked "$may")
}${toolchain:+  $toolchain
}" | sed '/^$/d'
  case "$manager $may" in
    apt-get*nginx* | apt-get*redis*) echo "Debian and Ubuntu start nginx and redis-server as services; the tests do not need that." ;;
  esac
}

refuse_what_cannot_be() {
  if [ -z "$manager" ] && [ -n "$required" ]; then
    describe "$required"
    refuse "This system has none of apt-get, apk and dnf, so install these by hand."
  fi
  if [ -n "$must$may" ] && [ "$(id -u)" != 0 ] && [ -z "$as_root" ]; then
    refuse "Only root may install packages, and sudo is missing. Let root run these commands, then run make setup again."
  fi
  if [ -n "$toolchain" ] && [ -n "${SUDO_USER:-}" ]; then
    refuse "Rust is installed for one user. Run make setup without sudo: it calls sudo for the packages."
  fi
}

execute_plan() {
  if [ -n "$update" ]; then run "$update"; fi
  if [ -n "$must" ]; then run "$(install_unasked "$must")"; fi
  # shellcheck disable=SC2086 # one word a package
  if [ -n "$may" ]; then install_what_there_is $may; fi
  if [ -n "$toolchain" ]; then run "$toolchain"; fi
  hash -r # the shell keeps the paths of programs that it has found
}

setup() {
  dry_run=''
  if [ "${1:-}" = --dry-run ]; then dry_run=yes && shift; fi
  goal=${1:-test}
  kinds=$(kinds_of "$goal")
  # As rustup's own env file does, which only new shells read. The Makefile does the same.
  case ":$PATH:" in *":$rust_bin:"*) ;; *) PATH=$rust_bin:$PATH ;; esac
  # shellcheck disable=SC2086 # one word a kind
  look $kinds fetch
  plan
  if [ -n "$must$may$toolchain" ]; then
    show_plan
    refuse_what_cannot_be
    if [ -n "$dry_run" ]; then return; fi
    execute_plan
    if lacks cargo && [ -z "$toolchain" ] && any_program "$CARGO" && ! is_here cargo; then
      setup "$goal" # the system's Rust is too old
      return
    fi
  else
    refuse_what_cannot_be
    echo "Nothing to install for make $goal."
  fi
  check "$goal"
  case $toolchain in curl*) echo "New shells find cargo. In this one: . ${rust_bin%/bin}/env" ;; esac
}

case ${1:-} in
  check) check "${2:-test}" >&2 ;;
  setup) shift && setup "$@" ;;
  table) table ;;
  *) sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2 ;;
esac
