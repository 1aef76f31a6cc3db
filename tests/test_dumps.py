"""What of a client's secrets is in a core dump of its process: see "Core dumps" in docs/security.md.

The core is the kernel's. Where the kernel writes none into the working directory, it is gdb's, which obeys the same
marks; it is also checked that gdb does.
"""

import hashlib
import hmac
import json
import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import threading
import unittest
import urllib.request
from pathlib import Path

from support.client import Client
from support.project import APPLICATION_ID, CC, HEADER, RELEASE, ROOT, clean_env, run, sandbox, scratch
from support.sha256 import BLOCK, compress, hmac_blocks, hmac_states

# Random, so that no text of a program has a piece of them. The second is longer than a block.
KEY = b"Canary-8d1f3b7e5a9c2d4f6a8b0c1e9e3d7b52"
NEXT_KEY = b"canary-" + hashlib.sha512(b"next").hexdigest().encode()
STORE_SALT = b"spike_auth store 1"
MARKER = b"what-the-program-itself-leaves-4b7d"
PIECE = 8


def masked(secret: bytes) -> str:
    return bytes(byte ^ 0xA5 for byte in secret).hex()


def pieces(secret: bytes) -> set[bytes]:
    """A piece at each place, so that a secret is found also where a part of it was overwritten."""
    return {secret[at : at + PIECE] for at in range(len(secret) - PIECE + 1)}


def words_of(words: tuple[int, ...]) -> set[bytes]:
    """Each two neighbours among these words, in both orders and with both orders of bytes."""
    pairs = list(zip(words, words[1:], strict=False))
    return {struct.pack(order + "2I", *pair) for order in "<>" for one in pairs for pair in (one, one[::-1])}


def forms_of_key(key: bytes) -> dict[str, set[bytes]]:
    """The key, and what HMAC makes of it, as it could lie in memory."""
    blocks = hmac_blocks(key)
    useful = (len(key) if len(key) <= BLOCK else 32) // PIECE * PIECE  # behind it is padding, which is no secret
    return {
        "key": pieces(key) | words_of(struct.unpack(f">{len(key) // 4}I", key[: len(key) // 4 * 4])),
        "key in hex": pieces(key.hex().encode()) | pieces(key.hex().upper().encode()),
        "blocks": set().union(*(pieces(block[:useful]) | words_of(struct.unpack(f">{useful // 4}I", block[:useful]))
                                for block in blocks)),
        "states": set().union(*(words_of(state) for state in hmac_states(key))),
    }


def forms(key: bytes) -> dict[str, set[bytes]]:
    """The same, and the key that is derived for the store."""
    derived = hmac.digest(STORE_SALT, key, hashlib.sha256)
    return forms_of_key(key) | {f"store's {name}": found for name, found in forms_of_key(derived).items()}


def found_in(core: bytes, needles: dict[str, set[bytes]]) -> dict[str, int]:
    """How many pieces of each are there."""
    counts = {name: sum(piece in core for piece in some) for name, some in needles.items()}
    return {name: count for name, count in counts.items() if count}


def kernel_writes_cores() -> bool:
    """Into the working directory of any process."""
    pattern = Path("/proc/sys/kernel/core_pattern").read_text().strip()
    allowed = resource.getrlimit(resource.RLIMIT_CORE)[1]
    return bool(pattern) and not pattern.startswith("|") and "/" not in pattern and allowed == resource.RLIM_INFINITY


@unittest.skipUnless(sys.platform == "linux", "cores of Linux")
class Dumps(unittest.TestCase):
    """A C program uses a client in several threads, and crashes; see tests/c/dump.c."""

    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        warnings = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
        link = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", "-lpthread", f"-Wl,-rpath,{RELEASE}"]
        cls.program = cls.folder / "dump"
        run(CC, *warnings, ROOT / "tests" / "c" / "dump.c", *link, "-o", cls.program)
        for name, key in (("key", KEY), ("next", NEXT_KEY)):
            (cls.folder / name).write_bytes(key)
            (cls.folder / name).chmod(0o600)

    def core(self, *modes: str, scheme: str = "https", by_gdb: bool = False, **variables: str) -> bytes:
        """The core of a program that fetched the tokens of `self.tokens`."""
        cwd = self.folder / self.id().rpartition(".")[2]
        shutil.rmtree(cwd, ignore_errors=True)
        cwd.mkdir()
        settings = variables or {"SPIKE_HMAC_KEY_FILE": str(self.folder / "key")}
        with sandbox("--hmac-key", KEY.decode()) as addresses:
            with Client(application_id=APPLICATION_ID, hmac_key=KEY, base_url=addresses["http"]) as client:
                self.tokens = {user: client.exchange(user) for user in ("alice", "kept")}
            accept = {"hmac_key": NEXT_KEY.decode(), "keep_old": True}
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            opener.open(addresses["control"] + "/key", json.dumps(accept).encode(), timeout=10).close()
            env = clean_env(SPIKE_APPLICATION_ID=APPLICATION_ID, SPIKE_API_BASE_URL=addresses[scheme],
                            SPIKE_CA_FILE=addresses["ca_file"], MALLOC_ARENA_MAX="1", **settings)
            arguments = [self.program, f"marker={masked(MARKER)}", f"key={self.folder / 'key'}", *modes]
            take = self.by_kernel if kernel_writes_cores() and not by_gdb else self.by_gdb
            core = take(arguments, cwd, env)
        self.assertIn(MARKER, core, "the core lacks the program's memory")
        return core

    def by_kernel(self, arguments: list, cwd: Path, env: dict[str, str]) -> bytes:
        done = subprocess.run(arguments, cwd=cwd, env=env, text=True, capture_output=True, timeout=60, check=False)
        self.assertIn("ready", done.stdout, done.stderr)
        cores = list(cwd.iterdir())
        self.assertEqual(len(cores), 1, f"{done.returncode}: {done.stdout}{done.stderr}")
        return cores[0].read_bytes()

    def by_gdb(self, arguments: list, cwd: Path, env: dict[str, str]) -> bytes:
        if not shutil.which("gdb"):
            self.skipTest("gdb is not installed (install with: apt-get install gdb)")
        with subprocess.Popen([*arguments, "wait=1"], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE) as program:
            limit = threading.Timer(60, program.kill)
            limit.start()
            try:
                ready = next((line for line in program.stdout if line.startswith("ready")), None)
                self.assertIsNotNone(ready, "the program ended too soon")
                process = ready.split()[1]  # a child, or the program
                try:
                    run("gdb", "--nx", "--batch", "-p", process, "-ex", f"generate-core-file {cwd / 'core'}")
                finally:
                    os.kill(int(process), signal.SIGKILL)
            finally:
                limit.cancel()
                program.kill()
        return (cwd / "core").read_bytes()

    def test_a_core_has_no_key(self):
        for scheme, modes in (("http", []), ("https", []), ("https", ["child=1"])):
            with self.subTest(scheme=scheme, modes=modes):
                self.assertEqual(found_in(self.core(*modes, scheme=scheme), forms(KEY)), {})

    def test_a_core_has_no_key_of_the_store(self):
        # Nothing listens there: keys are derived before the connection is tried.
        variables = {"SPIKE_STORE_URL": "redis://127.0.0.1:1", "SPIKE_HMAC_KEY_FILE": str(self.folder / "key")}
        self.assertEqual(found_in(self.core(**variables), forms(KEY)), {})

    def test_the_marks_keep_them_out(self):
        found = found_in(self.core("exposed=1"), forms(KEY))
        self.assertEqual(sorted(found), ["states", "store's states"])

    def test_a_key_that_was_replaced_is_in_no_memory(self):
        core = self.core(f"next={self.folder / 'next'}", "exposed=1")
        self.assertEqual(found_in(core, forms(KEY)), {})
        self.assertEqual(sorted(found_in(core, forms(NEXT_KEY))), ["states", "store's states"])

    def test_gdb_obeys_the_marks(self):
        self.assertEqual(found_in(self.core(by_gdb=True), forms(KEY)), {})

    def test_what_is_in_a_core_is_named(self):
        core = self.core(SPIKE_HMAC_KEY=KEY.decode())
        self.assertEqual(sorted(found_in(core, forms(KEY))), ["key"])
        self.assertIn(self.tokens["kept"], core)
        section = (ROOT / "docs" / "security.md").read_text().partition("\n## Core dumps\n")[2].partition("\n## ")[0]
        for name in ("tokens", "`SPIKE_HMAC_KEY`", "PR_SET_DUMPABLE", "RLIMIT_CORE", "coredump_filter"):
            self.assertIn(name, section)

    def test_the_computed_states_agree_with_hashlib(self):
        end = b"\x80".ljust(BLOCK - 8, b"\0") + struct.pack(">Q", 8 * BLOCK)
        for block, state in zip(hmac_blocks(KEY), hmac_states(KEY), strict=True):
            self.assertEqual(struct.pack(">8I", *compress(state, end)), hashlib.sha256(block).digest())

    def test_every_form_is_found(self):
        derived = hmac.digest(STORE_SALT, KEY, hashlib.sha256)
        (inner, _), (_, outer) = hmac_states(KEY), hmac_states(derived)
        words = (inner[5], inner[4], inner[1], inner[0])  # as SHA-NI has them in a register
        for name, memory in {
            "key": KEY[10:20],
            "key in hex": KEY.hex().upper()[30:50].encode(),
            "blocks": hmac_blocks(KEY)[1][3:20],
            "states": struct.pack("=4I", *words),
            "store's key": derived[7:15],
            "store's states": struct.pack(">8I", *outer)[4:20],
        }.items():
            with self.subTest(name):
                self.assertEqual(list(found_in(b"x" * 99 + memory + b"x", forms(KEY))), [name])


if __name__ == "__main__":
    unittest.main()
