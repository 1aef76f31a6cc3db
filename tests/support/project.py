"""Paths, a clean environment, and a sandbox."""

import json
import os
import pwd
import subprocess
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "target" / "release"
SHARED = RELEASE / "libspike_auth.so"
ARCHIVE = RELEASE / "libspike_auth.a"
HEADER = ROOT / "include" / "spike_auth.h"
SANDBOX = ROOT / "target" / "debug" / "spike-auth-sandbox"

KEY = "HMAC_KEY_FROM_ADMIN_CONSOLE"
APPLICATION_ID = "9999"

CC = os.environ.get("CC", "cc")
CXX = os.environ.get("CXX", "c++")

# These variables could decide a test. They are removed, and a test that needs one sets it.
_FOREIGN = ("SPIKE_", "SSL_CERT_", "LD_LIBRARY_PATH", "LD_PRELOAD", "PKG_CONFIG", "RUST_BACKTRACE", "LANG", "LC_")


def _home() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # a container's user may have no name
        return str(ROOT / "target")


def clean_env(**extra: str) -> dict[str, str]:
    """The environment without variables that could change a result, plus `extra`."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.upper().startswith(_FOREIGN) and not name.lower().endswith("_proxy")
    }
    kept["LC_ALL"] = "C.UTF-8"  # messages of the system are compared
    if not kept.get("HOME"):  # as in a container or a service; Go builds nothing without one
        kept["HOME"] = _home()
    return {**kept, **extra}


def run(*command: object, env: dict[str, str] | None = None, **options) -> str:
    """Runs a command and returns its stdout; a failure shows all its output."""
    done = subprocess.run(
        [str(part) for part in command],
        env=env or clean_env(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        timeout=options.pop("timeout", 300),
        check=False,
        **options,
    )
    if done.returncode != 0:
        line = " ".join(map(str, command))
        raise AssertionError(f"{line}\nexited with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def native_libs() -> list[str]:
    """The system libraries of the archive, as rustc printed them."""
    return (ROOT / "target" / "native-static-libs").read_text().split()


@contextmanager
def sandbox(*args: str):
    """Runs a sandbox and yields its addresses."""
    with subprocess.Popen([str(SANDBOX), *args], stdout=subprocess.PIPE, text=True, env=clean_env()) as process:
        try:
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def counters(addresses: dict) -> dict:
    """The sandbox's counters of requests and connections."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(addresses["control"] + "/counters", timeout=10) as reply:
        return json.load(reply)


def set_fault(addresses: dict, user: str, spec: str) -> None:
    """The faults that a user's requests meet from now on."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    opener.open(addresses["control"] + "/faults", json.dumps({"user": user, "spec": spec}).encode(), timeout=10).close()


def set_key(addresses: dict, key: str, keep_old: bool = False) -> None:
    """The sandbox's key from now on."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    body = json.dumps({"hmac_key": key, "keep_old": keep_old}).encode()
    opener.open(addresses["control"] + "/key", body, timeout=10).close()


def settings(addresses: dict, scheme: str = "http") -> dict[str, str]:
    """The library's environment for a sandbox."""
    return {
        "SPIKE_APPLICATION_ID": addresses["application_id"],
        "SPIKE_HMAC_KEY": addresses["hmac_key"],
        "SPIKE_API_BASE_URL": addresses[scheme],
        "SPIKE_CA_FILE": addresses["ca_file"],
    }


def build_example(folder: Path) -> Path:
    """examples/token.c, linked with the built library by its absolute path."""
    program = folder / "token"
    link = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", f"-Wl,-rpath,{RELEASE}"]
    run(CC, ROOT / "examples" / "token.c", *link, "-o", program)
    return program


def scratch():
    """A temporary directory."""
    return tempfile.TemporaryDirectory(prefix="spike_auth-")
