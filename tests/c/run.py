#!/usr/bin/env python3
"""Builds the C and C++ tests and runs them against a built library.

    run.py [--lib-dir DIR] [--panic-lib-dir DIR] [--sandbox FILE] [NAME...]
    run.py --cc COMPILER [--fully-static] --lib-dir DIR [NAME...]

With names, only the tests whose name contains one of them: `run.py "fork (shared)" header`.

The second form is for a library of another platform, whose programs this machine runs (see tests/platforms): only the
programs, without those that need glibc's or this processor's tools, and with names only those of that very name.
--fully-static also links them with no shared library at all.

Each program runs against the shared library and the archive; one that needs a server gets a sandbox of its own.
The last line is `N passed, N failed, N skipped` and counts each variant. A skipped test is named; with the variable
CI it is a failure.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent))

from support.certificates import rsa_chain  # noqa: E402
from support.peers import tls_peer  # noqa: E402
from support.store import store  # noqa: E402

INCLUDE = ROOT / "include"
HEADER = INCLUDE / "spike_auth.h"
HPP = INCLUDE / "spike_auth.hpp"

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
MEMCHECK = [
    "valgrind",
    "--quiet",
    "--error-exitcode=9",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite,indirect",
    "--fair-sched=yes",  # else a thread that never waits keeps the others from running
]
# memcheck takes the GCM tags of ring's assembly for uninitialised (openssl/openssl#19719): TLS runs without that check,
# plain HTTP with it.
MEMCHECK_WITH_TLS = [*MEMCHECK, "--undef-value-errors=no"]
C_STANDARDS = ["c99", "c11", "c17", "c2x"]
CXX_STANDARDS = ["c++11", "c++17", "c++20"]
# Of spike_auth.hpp.
HPP_STANDARDS = ["c++17", "c++20", "c++2b"]

OFFLINE = ["boundary", "bulk", "environment"]
# Programs that get the tokens of many users at once: compiler, standard, and the header and library that they need,
# with its Debian package.
EXAMPLES = {
    "epoll.c": ("gcc", "gnu11", "", "", ""),
    "libuv.c": ("gcc", "gnu11", "uv.h", "-luv", "libuv1-dev"),
    "asio.cpp": ("g++", "c++17", "boost/asio.hpp", "-lpthread", "libboost-dev"),
    "coroutine.cpp": ("g++", "c++20", "", "", ""),
}
NETWORK = [
    "queue",
    "queue_stress",
    "queue_fork",
    "exchange",
    "random",
    "clock",
    "generations",
    "descriptor_limit",
    "cache_fork",
    "cache",
    "process",
    "descriptors",
    "rotation",
    "diagnose",
    "fork",
]
# Measures what only glibc counts, and compares times.
ONLY_HERE = {"generations"}
# Also in processes that all have the same id.
NESTED = ["cache_fork", "fork", "queue_fork"]
# A second exchange shows by its token.
FRESH_TOKENS = {"cache", "cache_fork", "clock", "queue", "queue_stress", "store"}
# Languages in encodings other than UTF-8, with a text that shows the encoding.
LOCALES = {
    "de_DE": ("ISO-8859-1", "Das lässt sich nicht öffnen"),
    "ja_JP": ("EUC-JP", "接続を拒否されました"),
    "ru_RU": ("KOI8-R", "В соединении отказано"),
}
C_LIBRARY_TEXTS = ["Name or service not known", "Connection refused", "No such file or directory", "Permission denied"]
TIMEOUT_SECONDS = 110
# The user nobody of most systems. It need not exist.
NOBODY = 65534
AS_NOBODY: dict[str, object] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
# The exit code of a program whose test cannot run on this machine.
NOT_AS_MEANT = 77

BUILD_PANIC_LIBRARY = (
    "cargo rustc --release --lib --crate-type cdylib --features test-panic --target-dir target/test-panic"
)


class Failed(Exception):
    """A check failed; the text is the program's output."""


class Skipped(Exception):
    """Something is missing on this machine; the text says what, and how to install it."""


@dataclass(frozen=True)
class Library:
    """A built library, and how a program is linked with it."""

    path: Path
    compiler: str = "gcc"
    libraries: Sequence[str] = ("-lpthread",)
    # The program has no shared library at all.
    fully_static: bool = False

    @property
    def is_archive(self) -> bool:
        return self.path.suffix == ".a"


@dataclass(frozen=True)
class Setup:
    lib_dir: Path
    panic_lib_dir: Path
    sandbox: Path
    work: Path
    compiler: str = "gcc"

    @property
    def shared(self) -> Library:
        return Library(self.lib_dir / "libspike_auth.so", self.compiler)

    @property
    def archive(self) -> Library:
        beside = self.lib_dir / "native-static-libs"
        native = beside if beside.exists() else ROOT / "target/native-static-libs"
        return Library(self.lib_dir / "libspike_auth.a", self.compiler, native.read_text().split())

    @property
    def fully_static(self) -> Library:
        return replace(self.archive, fully_static=True)

    @property
    def panic_shared(self) -> Library:
        return Library(self.panic_lib_dir / "libspike_auth.so")


@dataclass(frozen=True)
class Task:
    name: str
    run: Callable[[], None]


# ---- running programs


def environment(**more: str) -> dict[str, str]:
    """Only the PATH of the caller: no proxy, no SPIKE_*, no certificates, no library path. And the place where an
    emulator finds a program's loader."""
    kept = {name: os.environ[name] for name in ("PATH", "QEMU_LD_PREFIX") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C.UTF-8", "RUST_BACKTRACE": "0", **more}


def execute(command: Sequence[str | Path], cwd: Path, env: dict[str, str], **identity: object) -> str:
    """Runs a command, as another user if `identity` says so, and returns its output."""
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            cwd=cwd,
            env=env,
            text=True,
            errors="replace",
            timeout=TIMEOUT_SECONDS,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **identity,
        )
    except subprocess.TimeoutExpired as late:
        said = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        raise Failed(f"not done after {TIMEOUT_SECONDS} s: {' '.join(words[:3])}\n{said}") from None
    if done.returncode == NOT_AS_MEANT:
        raise Skipped(done.stdout.strip() or "the kernel raises no privileges here (is TMPDIR mounted nosuid?)")
    if done.returncode != 0:
        raise Failed(f"exit code {done.returncode}: {' '.join(words[:12])}\n{done.stdout}")
    return done.stdout


def need(tool: str, package: str) -> str:
    path = shutil.which(tool)
    if path is None:
        raise Skipped(f"{tool} is not installed (install with: apt-get install {package})")
    return path


def need_file(path: Path, how: str) -> Path:
    if not path.exists():
        raise Skipped(f"{path.name} was not built (build with: {how})")
    return path


@contextmanager
def sandbox(setup: Setup, *options: str) -> Iterator[dict[str, str]]:
    """A sandbox for one program. It chooses its ports; yields its addresses by name."""
    binary = need_file(setup.sandbox, "cargo build -p spike-auth-sandbox")
    process = subprocess.Popen([binary, *options], stdout=subprocess.PIPE, text=True, env=environment())
    try:
        assert process.stdout is not None
        yield flatten(json.loads(process.stdout.readline()))
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def redis() -> Iterator[str]:
    """The URL of a Redis of its own."""
    need("redis-server", "redis-server")
    with store("redis") as running:
        yield running.url()


def flatten(ready: dict[str, object]) -> dict[str, str]:
    """{"a": 1, "b": {"c": 2}} as {"a": "1", "b.c": "2"}."""
    flat: dict[str, str] = {}
    for name, value in ready.items():
        inner = value if isinstance(value, dict) else None
        flat.update({f"{name}.{key}": str(item) for key, item in inner.items()} if inner else {name: str(value)})
    return flat


# ---- building


def abi_version() -> str:
    found = re.search(r"#define SPIKE_AUTH_ABI_VERSION (\d+)", HEADER.read_text(encoding="utf-8"))
    if not found:
        raise Failed(f"{HEADER.name} has no SPIKE_AUTH_ABI_VERSION")
    return found[1]


def library_path(directory: Path, library: Library) -> str:
    """A directory in which the loader finds `library` by its soname."""
    directory.mkdir()
    (directory / f"libspike_auth.so.{abi_version()}").symlink_to(library.path.resolve())
    return str(directory)


def build(source: str, library: Library, compiler: str, flags: list[str], cwd: Path, *more: str | Path) -> Path:
    program = cwd / Path(source).stem
    defines = ["-DSPIKE_AUTH_STATIC"] if library.is_archive else []
    if library.fully_static:
        replaced = re.findall(r"(?m)^REPLACE\((\w+)\)", (HERE / source).read_text(encoding="utf-8"))
        defines += ["-static", "-DFULLY_STATIC", *(f"-Wl,--wrap={name}" for name in replaced)]
    compile_flags = [*flags, "-g", *WARNINGS, *defines, f"-I{INCLUDE}"]
    command = [*compiler.split(), *compile_flags, HERE / source, *more, "-o", program, library.path, *library.libraries]
    execute(command, cwd, environment(TMPDIR=str(cwd)))
    return program


# ---- the programs


def run_program(
    name: str,
    library: Library,
    cwd: Path,
    addresses: dict[str, str] | None = None,
    options: Sequence[str] = (),
    flags: Sequence[str] = ("-O1",),
    wrapper: Sequence[str] = (),
    **variables: str,
) -> str:
    """Builds a C program and runs it in an empty directory, with the sandbox's addresses as its arguments."""
    program = build(f"{name}.c", library, library.compiler, ["-std=c11", *flags], cwd)
    empty = cwd / "empty"
    empty.mkdir()
    if addresses is not None:
        variables = {"SSL_CERT_FILE": addresses["ca_file"], **variables}
    env = environment(LD_LIBRARY_PATH=library_path(cwd / "lib", library), TMPDIR=str(cwd), **variables)
    arguments = [f"{key}={value}" for key, value in (addresses or {}).items()]
    return execute([*wrapper, program, *arguments, *options], empty, env)


def run_network(setup: Setup, name: str, library: Library, cwd: Path, **how: Sequence[str]) -> None:
    with sandbox(setup, *["--fresh-tokens"] * (name in FRESH_TOKENS)) as addresses:
        if library.is_archive and not library.fully_static:  # it does not link the shared library, so it can unload it
            addresses["library"] = str(setup.shared.path)
        run_program(name, library, cwd, addresses, **how)


def run_store(setup: Setup, library: Library, cwd: Path, **how: Sequence[str]) -> None:
    with redis() as url:
        run_network(setup, "store", library, cwd, **{**how, "options": [*how.get("options", []), f"store={url}"]})


def run_stack(setup: Setup, library: Library, cwd: Path) -> None:
    """Prints the largest need. Not under a checker, whose needs would be measured too."""
    need("openssl", "openssl")
    root, chain = rsa_chain(cwd)
    with redis() as url, sandbox(setup) as addresses, tls_peer(chain) as peer, tls_peer(chain, newest="TLSv1_2") as older:
        places = {name: f"https://localhost:{at.port}/v3" for name, at in (("", peer), ("_tls12", older))}
        options = [f"store={url}", f"long_chain_ca={root}", *(f"long_chain{name}={place}" for name, place in places.items())]
        said = run_program("stack", library, cwd, addresses, options)
    print(f"stack ({library.path.name}): {said.splitlines()[-2]}", flush=True)


def run_nested(setup: Setup, name: str, cwd: Path) -> None:
    try:
        execute([need("unshare", "util-linux"), "--pid", "--fork", "true"], cwd, environment())
    except Failed:
        raise Skipped("this user may make no PID namespace (run as root)") from None
    run_network(setup, name, setup.shared, cwd, options=["nested=1"])


def run_memcheck(setup: Setup, name: str, cwd: Path) -> None:
    need("valgrind", "valgrind")
    run_program(name, setup.shared, cwd, wrapper=MEMCHECK)


def run_network_memcheck(setup: Setup, name: str, tls: bool, cwd: Path) -> None:
    need("valgrind", "valgrind")
    options, wrapper = (["quick=1"], MEMCHECK_WITH_TLS) if tls else (["quick=1", "without_tls=1"], MEMCHECK)
    run_network(setup, name, setup.shared, cwd, options=options, wrapper=wrapper)


def make_locale(language: str, directory: Path) -> str:
    """Makes a locale for LOCPATH, with the C library's texts in its language and encoding, and returns its name."""
    charset, text = LOCALES[language]
    name = f"{language}.{charset}"
    if not Path("/usr/share/i18n/charmaps").is_dir():
        raise Skipped("the sources of locales are not installed (install with: apt-get install locales)")
    execute(["localedef", "-i", language, "-f", charset, directory / name], directory, environment())
    texts = {"": f"Content-Type: text/plain; charset={charset}\n", **dict.fromkeys(C_LIBRARY_TEXTS, text)}
    catalogue = directory / language / "LC_MESSAGES/libc.mo"
    catalogue.parent.mkdir(parents=True)
    catalogue.write_bytes(message_catalogue(texts, charset))
    return name


def message_catalogue(texts: dict[str, str], charset: str) -> bytes:
    """gettext's .mo file: a header, the place of each text, and the texts."""
    pairs = sorted((original.encode(), text.encode(charset)) for original, text in texts.items())
    sides = [[pair[side] for pair in pairs] for side in (0, 1)]
    head, count = 28, len(pairs)
    tables, place = [], head + 2 * 8 * count
    for text in (*sides[0], *sides[1]):
        tables.append(struct.pack("<2I", len(text), place))
        place += len(text) + 1
    start = struct.pack("<7I", 0x950412DE, 0, count, head, head + 8 * count, 0, 0)
    return start + b"".join(tables) + b"".join(text + b"\0" for text in (*sides[0], *sides[1]))


def run_locale(setup: Setup, language: str, cwd: Path) -> None:
    name = make_locale(language, cwd)
    options = [f"locale={name}", f"texts={cwd}"]
    with sandbox(setup) as addresses:
        run_program("locale", setup.shared, cwd, addresses, options, LOCPATH=str(cwd), LC_ALL=name)


def raise_privileges(kind: str, program: Path) -> dict[str, object]:
    """Gives a program privileges of a kind, and returns the identity that it must run with to have them."""
    if kind == "setgid":
        os.chown(program, -1, NOBODY)
        program.chmod(0o2755)
        return {}
    if kind == "setuid":
        os.chown(program, NOBODY, -1)
        program.chmod(0o4755)
        return {}
    # CAP_NET_BIND_SERVICE, permitted and effective, as setcap(8) writes it.
    os.setxattr(program, "security.capability", struct.pack("<5I", 0x0200_0001, 1 << 10, 0, 0, 0))
    return AS_NOBODY


def run_privileges(setup: Setup, kind: str, cwd: Path) -> None:
    """Against the archive: the loader of such a program ignores LD_LIBRARY_PATH."""
    if kind and os.geteuid() != 0:
        raise Skipped("only root can give a program privileges here (run as root)")
    program = build("privileges.c", setup.archive, "gcc", ["-std=c11", "-O1"], cwd)
    with sandbox(setup) as addresses:
        ca = cwd / "roots" / "ca.pem"
        ca.parent.mkdir()
        shutil.copy(addresses["ca_file"], ca)
        for path in (setup.work, cwd, ca.parent, ca):  # the program may run as another user
            path.chmod(0o755)
        addresses["ca_file"] = str(ca)
        env = environment(
            SSL_CERT_FILE=str(ca),
            SSL_CERT_DIR=str(ca.parent),
            SPIKE_APPLICATION_ID="9999",
            SPIKE_HMAC_KEY="key",
            SPIKE_API_BASE_URL=addresses["http"],
        )
        arguments = [f"{key}={value}" for key, value in addresses.items()]
        try:
            identity = raise_privileges(kind, program) if kind else {}
            if kind:
                execute(["cat", ca], Path("/"), env, **AS_NOBODY)
        except (OSError, Failed) as failure:
            raise Skipped(f"no program can be {kind} below {setup.work}: {failure}") from None
        execute([program, *arguments, f"raised={1 if kind else 0}"], Path("/"), env, **identity)


def run_panic(setup: Setup, cwd: Path) -> None:
    need_file(setup.panic_shared.path, BUILD_PANIC_LIBRARY)
    run_program("panic", setup.panic_shared, cwd)


def run_smoke(setup: Setup, compiler: str, standard: str, library: Library, flags: Sequence[str], cwd: Path) -> None:
    need(compiler, "clang" if "clang" in compiler else "g++")
    program = build("smoke.cpp", library, compiler, [f"-std={standard}", "-O1", *flags], cwd, HERE / "header.cpp")
    path = library_path(cwd / "lib", library)
    with sandbox(setup) as addresses:
        execute([program, addresses["https"], addresses["ca_file"]], cwd, environment(LD_LIBRARY_PATH=path))


def has_include(compiler: str, header: str, cwd: Path) -> bool:
    source = cwd / "include.c"
    source.write_text(f"#if !__has_include(<{header}>)\n#error missing\n#endif\n")
    try:
        execute([compiler, "-E", source], cwd, environment())
    except Failed:
        return False
    return True


def run_example(setup: Setup, source: str, flags: Sequence[str], cwd: Path) -> None:
    """1500 users at once; then users whose calls cannot be started."""
    compiler, standard, header, link, package = EXAMPLES[source]
    if header and not has_include(compiler, header, cwd):
        raise Skipped(f"{header} is not installed (install with: apt-get install {package})")
    path = f"../../examples/{source}"
    more = [link] if link else []
    program = build(path, setup.shared, compiler, [f"-std={standard}", "-O1", *flags], cwd, *more)
    with sandbox(setup) as addresses:
        env = environment(
            LD_LIBRARY_PATH=library_path(cwd / "lib", setup.shared),
            SPIKE_APPLICATION_ID=addresses["application_id"],
            SPIKE_HMAC_KEY=addresses["hmac_key"],
            SPIKE_API_BASE_URL=addresses["https"],
            SPIKE_CA_FILE=addresses["ca_file"],
        )
        said = execute([program, "user", "1500"], cwd, env)
        if "1500 of 1500 users have a token" not in said:
            raise Failed(said)
        try:
            execute([program, "al ice", "3"], cwd, env)
        except Failed as failure:
            if "exit code 1:" in str(failure) and "user id" in str(failure):
                return
            raise
        raise Failed("a user that cannot be asked for is not told")


# ---- the header


def compile_only(compiler: str, standard: str, source: str, cwd: Path, *flags: str) -> None:
    language = ["-x", "c++"] if "++" in standard else ["-x", "c", "-Wc++-compat"]
    compile_flags = [*language, f"-std={standard}", *WARNINGS, *flags, f"-I{INCLUDE}"]
    command = [compiler, *compile_flags, "-c", HERE / source, "-o", os.devnull]
    execute(command, cwd, environment(TMPDIR=str(cwd)))


def check_header(compiler: str, standard: str, cwd: Path) -> None:
    """Alone and twice, shared and static. A dropped status must not compile."""
    need(compiler, "clang" if "clang" in compiler else compiler)
    for flags in ([], ["-DTWICE"], ["-DSPIKE_AUTH_STATIC"], ["-DTWICE", "-DSPIKE_AUTH_STATIC"]):
        compile_only(compiler, standard, "header.c", cwd, *flags)
    compile_only(compiler, standard, "ignored.c", cwd, "-DKEPT")
    try:
        compile_only(compiler, standard, "ignored.c", cwd)
    except Failed as failure:
        if "unused-result" not in str(failure):
            raise
        return
    raise Failed("a program that drops a status compiles without a warning")


def check_hpp(compiler: str, standard: str, cwd: Path) -> None:
    """Alone and twice, with and without exceptions, with more warnings than a program needs. A dropped result must not
    compile."""
    need(compiler, "clang" if "clang" in compiler else compiler)
    strict = ["-Wshadow", "-Wsign-conversion", "-Wold-style-cast", "-Wnon-virtual-dtor"]
    for flags in ([], ["-DTWICE"], ["-fno-exceptions"], ["-DSPIKE_AUTH_STATIC"]):
        compile_only(compiler, standard, "header.cpp", cwd, *strict, *flags)
    try:
        compile_only(compiler, standard, "header.cpp", cwd, "-DDROPPED")
    except Failed as failure:
        if "nodiscard" not in str(failure):
            raise
        return
    raise Failed("a program that drops a result compiles without a warning")


def without_comments(header: Path) -> str:
    return re.sub(r"/\*.*?\*/|//[^\n]*", "", header.read_text(encoding="utf-8"), flags=re.S)


def functions_of_header() -> set[str]:
    return set(re.findall(r"\b(spike_auth_\w+)\(", without_comments(HEADER)))


def check_hpp_has_all() -> None:
    """Every C function, and no macro but its guard."""
    text = without_comments(HPP)
    missing = functions_of_header() - set(re.findall(r"\bspike_auth_\w+\b", text))
    if missing:
        raise Failed(f"{HPP.name} does not use: {sorted(missing)}")
    macros = re.findall(r"#\s*define\s+(\w+)", text)
    if macros != ["SPIKE_AUTH_HPP"]:
        raise Failed(f"{HPP.name} defines {macros}")


def check_stack_of_all() -> None:
    source = (HERE / "stack.c").read_text()
    measured = set(re.findall(r"\b(spike_auth_\w+)\b", source))
    measured |= {f"spike_auth_config_set_{name}" for name in re.findall(r"\bSET(?:_TEXT)?\((\w+),", source)}
    missing = functions_of_header() - measured
    if missing:
        raise Failed(f"stack.c does not measure: {sorted(missing)}")


# ---- the tasks


def in_directory(setup: Setup, name: str, run: Callable[[Path], None]) -> Task:
    """A task with a directory of its own."""

    def start() -> None:
        cwd = setup.work / re.sub(r"\W+", "-", name)
        cwd.mkdir()
        run(cwd)

    return Task(name, start)


def platform_tasks(setup: Setup, kinds: dict[str, Library]) -> Iterator[Task]:
    """The programs that every platform runs."""
    for task in linked_tasks(setup, kinds):
        if not ONLY_HERE.intersection(task.name.split()):
            yield task


def linked_tasks(setup: Setup, kinds: dict[str, Library]) -> Iterator[Task]:
    for kind, library in kinds.items():
        for name in reversed(NETWORK):  # the longest first
            yield in_directory(setup, f"{name} ({kind})", partial(run_network, setup, name, library))
        for name in OFFLINE:
            yield in_directory(setup, f"{name} ({kind})", partial(run_program, name, library))
        yield in_directory(setup, f"store ({kind})", partial(run_store, setup, library))
        yield in_directory(setup, f"stack ({kind})", partial(run_stack, setup, library))


def program_tasks(setup: Setup) -> Iterator[Task]:
    yield from linked_tasks(setup, {"shared": setup.shared, "static": setup.archive})
    for name in NESTED:
        yield in_directory(setup, f"{name} (nested PID namespaces)", partial(run_nested, setup, name))
    for language, (charset, _) in LOCALES.items():
        yield in_directory(setup, f"locale ({language}.{charset})", partial(run_locale, setup, language))
    yield in_directory(setup, "panic (shared)", partial(run_panic, setup))
    # First without raised privileges, so that the others prove something.
    for kind in ("", "setgid", "setuid", "file capabilities"):
        yield in_directory(setup, f"privileges ({kind or 'none raised'})", partial(run_privileges, setup, kind))


def checker_tasks(setup: Setup) -> Iterator[Task]:
    sanitizers = "address and undefined behaviour sanitizers"
    for name in ("exchange", "cache", "queue", "queue_stress"):
        yield in_directory(setup, f"{name} (memcheck, HTTP)", partial(run_network_memcheck, setup, name, False))
        sanitized = partial(run_network, setup, name, setup.archive, flags=SANITIZERS, options=["quick=1"])
        yield in_directory(setup, f"{name} ({sanitizers})", sanitized)
    sanitized = partial(run_store, setup, setup.archive, flags=SANITIZERS, options=["quick=1"])
    yield in_directory(setup, f"store ({sanitizers})", sanitized)
    yield in_directory(setup, "exchange (memcheck, HTTPS)", partial(run_network_memcheck, setup, "exchange", True))
    for name in OFFLINE:
        yield in_directory(setup, f"{name} (memcheck)", partial(run_memcheck, setup, name))
        sanitized = partial(run_program, name, setup.archive, flags=SANITIZERS)
        yield in_directory(setup, f"{name} ({sanitizers})", sanitized)


def cxx_tasks(setup: Setup) -> Iterator[Task]:
    for standard in HPP_STANDARDS:
        for compiler in ("g++", "clang++"):
            smoke = partial(run_smoke, setup, compiler, standard, setup.shared, [])
            yield in_directory(setup, f"smoke ({compiler}, {standard})", smoke)
            yield in_directory(setup, f"hpp ({compiler}, {standard})", partial(check_hpp, compiler, standard))
    for name, standard, flags in (
        ("c++17, static", "c++17", []),
        ("c++20, no exceptions", "c++20", ["-fno-exceptions"]),
        ("c++17, address and undefined behaviour sanitizers", "c++17", SANITIZERS),
        ("c++2b, address and undefined behaviour sanitizers", "c++2b", SANITIZERS),
    ):
        smoke = partial(run_smoke, setup, "g++", standard, setup.archive, flags)
        yield in_directory(setup, f"smoke (g++, {name})", smoke)
    yield Task("hpp has every function", check_hpp_has_all)
    for source in EXAMPLES:
        yield in_directory(setup, f"example {source}", partial(run_example, setup, source, []))
        sanitized = partial(run_example, setup, source, SANITIZERS)
        yield in_directory(setup, f"example {source} (address and undefined behaviour sanitizers)", sanitized)


def header_tasks(setup: Setup) -> Iterator[Task]:
    pairs = [(compiler, standard) for compiler in ("gcc", "clang") for standard in C_STANDARDS]
    pairs += [(compiler, standard) for compiler in ("g++", "clang++") for standard in CXX_STANDARDS]
    for compiler, standard in pairs:
        yield in_directory(setup, f"header ({compiler}, {standard})", partial(check_header, compiler, standard))
    yield Task("the stack is measured for every function", check_stack_of_all)


def outcome(task: Task) -> str:
    """Runs a task, prints its outcome, and returns "passed", "failed" or "skipped"."""
    try:
        task.run()
    except Skipped as reason:
        if os.environ.get("CI"):
            print(f"FAILED: {task.name}: with CI nothing may be skipped: {reason}", flush=True)
            return "failed"
        print(f"skipped: {task.name}: {reason}", flush=True)
        return "skipped"
    except Failed as failure:
        print(f"FAILED: {task.name}\n{failure}", flush=True)
        return "failed"
    except Exception as failure:  # noqa: BLE001  the other tests continue
        print(f"FAILED: {task.name}: {failure!r}", flush=True)
        return "failed"
    print(f"passed: {task.name}", flush=True)
    return "passed"


def all_tasks(setup: Setup) -> list[Task]:
    return [*program_tasks(setup), *checker_tasks(setup), *cxx_tasks(setup), *header_tasks(setup)]


def run_all(tasks: list[Task], names: list[str]) -> int:
    if names:
        tasks = [task for task in tasks if any(name in task.name for name in names)]
    with ThreadPoolExecutor(os.cpu_count() or 2) as pool:
        outcomes = [done.result() for done in as_completed([pool.submit(outcome, task) for task in tasks])]
    counts = {word: outcomes.count(word) for word in ("passed", "failed", "skipped")}
    print(", ".join(f"{count} {word}" for word, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib-dir", type=Path, default=ROOT / "target/release")
    parser.add_argument("--panic-lib-dir", type=Path, default=ROOT / "target/test-panic/release")
    parser.add_argument("--sandbox", type=Path, default=ROOT / "target/debug/spike-auth-sandbox")
    parser.add_argument("--cc", metavar="COMPILER")
    parser.add_argument("--fully-static", action="store_true")
    parser.add_argument("names", nargs="*", metavar="NAME")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="spike-auth-c-") as work:
        paths = (arguments.lib_dir, arguments.panic_lib_dir, arguments.sandbox, Path(work))
        setup = Setup(*(path.resolve() for path in paths), compiler=arguments.cc or "gcc")
        needed = (setup.lib_dir / "libspike_auth.so", setup.lib_dir / "libspike_auth.a", HEADER)
        missing = [str(path) for path in needed if not path.exists()]
        if missing:
            sys.exit(f"missing: {', '.join(missing)} (build with: make)")
        if not arguments.cc:
            return run_all(all_tasks(setup), arguments.names)
        kinds = {"shared": setup.shared, "static": setup.archive}
        if arguments.fully_static:
            kinds["fully static"] = setup.fully_static
        tasks = platform_tasks(setup, kinds)
        return run_all([task for task in tasks if task.name in arguments.names or not arguments.names], [])


if __name__ == "__main__":
    sys.exit(main())
