"""No secret in any output, whatever servers and proxies echo; and none left in memory.

Every secret here is a canary: unique and long, so a piece of it is never found by accident.
"""

import base64
import contextlib
import hashlib
import hmac
import json
import os
import re
import socket
import struct
import subprocess
import sys
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from support import client as library
from support.client import ROOTS_NONE, Client, Config, Failure
from support.peers import Peer, read_request
from support.project import (
    APPLICATION_ID,
    CC,
    CXX,
    HEADER,
    RELEASE,
    ROOT,
    SANDBOX,
    clean_env,
    counters,
    run,
    sandbox,
    scratch,
    settings,
)
from support.sha256 import hmac_states

KEY = b"Canary-Key-8d1f3b7e5a9c"
# A token that the library does not know: it must recognise it by its form.
TOKEN = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiJjYW5hcnktODZkMWYzIn0.q7PpV1Zt0bK3yXw9RrC4uLhN2sMfD8eGaJ5iOoTkW6E"
OPAQUE_TOKEN = b"v1.canary4f6a2c8e0b1d.canary3f5a7c9e2d4b"
SECOND = "compat-canary-"
USER = b"canary-user-5e7d9c1b3a"
PROXY_USER, PROXY_PASSWORD = b"canary-proxy-user-1b", b"canary-proxy-pass-6c4e"
STORE_USER, STORE_PASSWORD = b"canary-store-user-9d", b"canary-store-pass-2a7f"

# Keys are any bytes, and not all survive a server's decoding unchanged. A key of words alone is missing: no server
# receives the key, and a text with it looks like any other (see src/exchange/scrub.rs).
ODD_KEYS = [
    b"Canary\tKey with a tab 8d1f3b7e5a9c",
    "Canary-Kéy-in-Latin-1-8d1f3b7e".encode("latin-1"),
    "Canary-Kéy-in-UTF-8-8d1f3b7e".encode(),
    b"Canary-Key\xff\xfe\x80-of-no-encoding-8d1f",
    b"\x00Canary-Key-with-NUL\x00-8d1f3b7e",
    b"Canary\r\nKey: of two lines 8d1f3b7e",
    b'Canary"Key\\with/marks<>&-8d1f3b7e',
]
# A piece of a random secret is as telling as the whole.
PIECE = 16


def signature(key: bytes, user: bytes) -> bytes:
    return hmac.new(key, user, hashlib.sha256).hexdigest().encode()


def forms(secret: bytes) -> set[bytes]:
    """The secret as it is and in common encodings, in lower case."""
    found = {secret, secret.hex().encode(), secret.decode("latin-1").encode()}
    found.add(json.dumps(secret.decode("latin-1"))[1:-1].encode())
    for shift in range(3):
        # Base64 inside a longer text has three alignments; its ends mix with the neighbouring bytes.
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b"\0" * shift + secret).rstrip(b"=")[4:-1])
    return {form.lower() for form in found}


def pieces(secret: bytes) -> set[bytes]:
    return {secret[start : start + PIECE] for start in range(len(secret) - PIECE + 1)}


@contextlib.contextmanager
def own_output():
    """What this process writes to stdout and stderr, from Python and from the library."""
    written = bytearray()
    with tempfile.TemporaryFile() as file:
        sys.stdout.flush()
        sys.stderr.flush()
        kept = os.dup(1), os.dup(2)
        try:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
            yield written
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.close(kept[0])
            os.close(kept[1])
            file.seek(0)
            written += file.read()


class Canaries(unittest.TestCase):
    def setUp(self):
        self.structs: list[bytes] = []
        library.watchers.append(self.structs.append)
        self.addCleanup(library.watchers.remove, self.structs.append)

    def nothing_in(self, output: bytes, secrets: list[bytes], whole: list[bytes] = ()) -> None:
        """`output` holds no form and no piece of `secrets`, and no form of `whole`."""
        text = output.lower()
        for secret in [*secrets, *whole]:
            for form in forms(secret):
                self.assertNotIn(form, text, f"{form!r} in {output!r}")
        for secret in secrets:
            for piece in pieces(secret.lower()):
                self.assertNotIn(piece, text, f"a piece of {secret!r} in {output!r}")
        self.assertNotIn(SECOND.encode(), text, output)

    def nothing_in_structs(self, secrets: list[bytes], whole: list[bytes] = ()) -> None:
        self.assertTrue(self.structs)
        for struct_bytes in set(self.structs):
            self.assertEqual(len(struct_bytes), 512)
            self.nothing_in(struct_bytes, secrets, whole)
            message = struct_bytes[24 : 24 + 424]
            self.assertEqual(message[message.index(0) :].strip(b"\0"), b"", "old contents are gone")
            self.assertEqual(struct_bytes[448:], bytes(64))


class Sandboxed(Canaries):
    """The sandbox, which can echo everything that it knows about a request."""

    def settings(self, addresses: dict, scheme: str = "http") -> dict:
        return {
            "application_id": APPLICATION_ID,
            "hmac_key": KEY,
            "base_url": addresses[scheme],
            "ca_pem": Path(addresses["ca_file"]).read_bytes(),
            "tls_roots": ROOTS_NONE,
            "max_attempts": 1,
            "timeout_ms": 400,
        }

    @staticmethod
    def faults() -> list[str]:
        """Every fault in the sandbox's help, with each of its arguments."""
        text = run(SANDBOX, "--help").split("\nFAULTS\n")[1]
        found = []
        for line in re.findall(r"^    ([a-z][a-z0-9-]*(?:\[:[^\]]*\])?)(?:  |$)", text, re.MULTILINE):
            name, _, arguments = line.rstrip("]").partition("[:")
            choices = [] if arguments.startswith("N") else arguments.split("|")
            found += [name, *(f"{name}.{choice}" for choice in choices if choice)]
        statuses = (400, 401, 403, 404, 408, 409, 413, 415, 422, 425, 429, 500, 502, 503, 504, 302)
        return found + [f"status.{status}" for status in statuses]

    def test_every_fault_over_http_and_https(self):
        users = [f"fault.{fault}.canary-user-5e7d9c1b3a".encode() for fault in self.faults()]
        self.assertGreater(len(users), 100)
        tokens = []

        # A client for each: a Retry-After holds all calls of one.
        def exchange(settings: dict, user: bytes) -> None:
            with Client(**settings) as client, contextlib.suppress(Failure):
                tokens.append(client.exchange(user))

        with own_output() as written, sandbox("--hmac-key", KEY.decode()) as addresses:
            for scheme in ("http", "https"):
                with ThreadPoolExecutor(8) as pool:
                    list(pool.map(partial(exchange, self.settings(addresses, scheme)), users))
        self.assertGreater(len(tokens), 50)
        known = [KEY, *(signature(KEY, user) for user in users), *tokens]
        everything = b"\n".join({*self.structs, bytes(written)})
        # One search for all: there are hundreds of users and messages.
        text = everything.lower()
        for secret in known:
            self.assertFalse(any(piece in text for piece in pieces(secret.lower())), secret)
        self.nothing_in(everything, [KEY], users)
        self.nothing_in_structs([KEY])
        self.assertEqual(bytes(written), b"", "the library writes nothing itself")

    def test_refusals_that_echo_a_wrong_signature(self):
        wrong = signature(b"another key", USER)
        for fault in ("", "echo", "echo:422", "echo-ok"):
            arguments = ["--fault", fault] if fault else []
            running = sandbox("--hmac-key", KEY.decode(), *arguments)
            with running as addresses, Client(**self.settings(addresses)) as client:
                for attempt in (wrong, wrong.upper()):
                    with self.assertRaises(Failure):
                        client.exchange_signature(USER, attempt)
                if fault:
                    with self.assertRaises(Failure):
                        client.exchange(USER)
        self.nothing_in_structs([KEY, wrong, signature(KEY, USER)], [USER])

    def test_the_programs_of_the_examples(self):
        with scratch() as folder, sandbox("--hmac-key", KEY.decode(), "--fault", "echo") as addresses:
            link = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", f"-Wl,-rpath,{RELEASE}"]
            for compiler, source in ((CC, "token.c"), (CXX, "token.cpp")):
                program = Path(folder) / source.replace(".", "-")
                run(compiler, ROOT / "examples" / source, *link, "-o", program)
                for scheme in ("http", "https"):
                    output = self.output_of(program, USER.decode(), **settings(addresses, scheme))
                    self.assertIn(b"401 Unauthorized", output)
                    self.nothing_in(output, [KEY, signature(KEY, USER)], [USER])

    def output_of(self, *command: object, **variables: str) -> bytes:
        done = subprocess.run([str(part) for part in command], env=clean_env(**variables), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=60, check=False)
        return done.stdout

    def test_the_demo_shows_no_key_and_no_token(self):
        output = self.output_of(sys.executable, ROOT / "tests" / "demo.py", PYTHONPATH=str(ROOT / "tests"))
        self.assertIn(b"got a token", output)
        self.nothing_in(output, [b"HMAC_KEY_FROM_ADMIN_CONSOLE"])
        self.assertNotIn(b"eyJ", output)

    def test_invalid_environment(self):
        with scratch() as folder:
            program = Path(folder) / "token"
            link = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", f"-Wl,-rpath,{RELEASE}"]
            run(CC, ROOT / "examples" / "token.c", *link, "-o", program)
            key, proxy = KEY.decode(), f"{PROXY_USER.decode()}:{PROXY_PASSWORD.decode()}"
            file = Path(folder) / "key"
            file.write_bytes(KEY * 200)
            store, url = f"{STORE_USER.decode()}:{STORE_PASSWORD.decode()}", Path(folder) / "url"
            url.write_text(f"redis://{store}@local host")
            for variables in (
                {"SPIKE_APPLICATION_ID": f"{key} "},
                {"SPIKE_HMAC_KEY": key * 200},
                {"SPIKE_HMAC_KEY_FILE": str(file)},
                {"SPIKE_HMAC_KEY": key, "SPIKE_HMAC_KEY_FILE": str(file)},
                {"SPIKE_API_BASE_URL": f"https://user:{key}@localhost"},
                {"SPIKE_API_BASE_URL": f"http://{key}.example.com"},
                {"SPIKE_TIMEOUT_MS": key},
                {"https_proxy": f"socks5://{proxy}@127.0.0.1:1"},
                {"https_proxy": f"http://{proxy}@127.0.0.1:x"},
                {"ALL_PROXY": f"https://{proxy}@127.0.0.1:1"},
                {"https_proxy": f"http://{proxy}@127.0.0.1:1", "SPIKE_TIMEOUT_MS": "500"},
                {"SPIKE_STORE_URL": f"http://{store}@localhost"},
                {"SPIKE_STORE_URL_FILE": str(url)},
                {"SPIKE_STORE_URL": f"redis://{store}@127.0.0.1:1", "SPIKE_STORE_TIMEOUT_MS": key},
            ):
                variables = {"SPIKE_APPLICATION_ID": "1", "SPIKE_API_BASE_URL": "https://127.0.0.1:1", **variables}
                if not any(name.startswith("SPIKE_HMAC_KEY") for name in variables):
                    variables["SPIKE_HMAC_KEY"] = "other"
                output = self.output_of(program, USER.decode(), **variables)
                self.assertIn(b"SPIKE_AUTH_STATUS_", output)
                self.nothing_in(output, [KEY, PROXY_PASSWORD, STORE_PASSWORD], [USER, PROXY_USER, STORE_USER])


class Echoes(Canaries):
    """Servers that know the key too, and echo everything in every form."""

    @staticmethod
    def texts(*secrets: bytes) -> list[str]:
        """The secrets in every form in which a server may decode and write them."""
        found = []
        for secret in secrets:
            for text in (secret.decode("latin-1"), secret.decode("utf-8", "replace"), secret.decode("utf-8", "ignore")):
                found += [text, text.upper(), text.lower(), text.swapcase()]
                found += ["\u200b".join(text), f"{text[:9]}\u00ad{text[9:]}", repr(text), f"<{text}>"]
            found += [secret.hex(), secret.hex().upper()]
            found += [base64.b64encode(secret).decode(), base64.urlsafe_b64encode(secret).decode().rstrip("=")]
        return found

    def server(self, texts: list[str], status: int) -> Peer:
        """A server that refuses each request with the next of the texts."""
        rest = iter(texts)

        def serve(stream: socket.socket) -> None:
            while read_request(stream):
                text = next(rest, "")
                flaw = {"message": text, "location": text, "value": text}
                document = {"status": status, "title": text, "detail": f"not good: {text}.", "errors": [flaw]}
                body = json.dumps(document).encode()
                line = re.sub(r"[\x00-\x1f]", "?", text).encode("latin-1", "replace")
                stream.sendall(
                    b"HTTP/1.1 %d %s\r\nX-Error: %s\r\nContent-Type: application/problem+json\r\n"
                    b"Content-Length: %d\r\n\r\n%s" % (status, line, line, len(body), body)
                )

        return Peer(serve)

    def ask(self, key: bytes, status: int, *secrets: bytes) -> None:
        texts = self.texts(*(secrets or (key, signature(key, USER), USER, TOKEN)))
        with self.server(texts, status) as peer:
            setup = {"application_id": "1", "hmac_key": key, "base_url": f"http://127.0.0.1:{peer.port}"}
            with Client(max_attempts=1, timeout_ms=5000, **setup) as client:
                for _ in texts:
                    with self.assertRaises(Failure):
                        client.exchange(USER)

    def test_a_plain_key_with_every_status(self):
        with own_output() as written:
            for status in (200, 302, 400, 401, 403, 404, 405, 408, 413, 415, 418, 422, 425, 429, 500, 502, 503, 504):
                self.ask(KEY, status)
        self.nothing_in_structs([KEY, signature(KEY, USER), TOKEN], [USER])
        self.assertEqual(bytes(written), b"")

    def test_an_opaque_token(self):
        self.ask(KEY, 401, OPAQUE_TOKEN)
        self.nothing_in_structs([OPAQUE_TOKEN])

    def test_keys_of_odd_bytes(self):
        for key in ODD_KEYS:
            self.structs.clear()
            for status in (401, 422, 500):
                self.ask(key, status)
            # What is left of a key when a server drops or replaces its odd bytes is secret too.
            runs = [run for run in re.findall(rb"[\x20-\x7e]+", key) if len(run) >= 8]
            self.nothing_in_structs([signature(key, USER)], [key, *runs, USER])

    def test_a_proxy_that_echoes_its_credentials(self):
        def serve(stream: socket.socket) -> None:
            head = b"".join(read_request(stream).splitlines())
            stream.sendall(b"HTTP/1.1 403 %s\r\nX-Error: %s\r\n\r\n%s" % (head, head, head))

        with Peer(serve) as peer:
            proxy = b"http://%s:%s@127.0.0.1:%d" % (PROXY_USER, PROXY_PASSWORD, peer.port)
            setup = {"application_id": "1", "hmac_key": KEY, "base_url": "https://localhost:1", "proxy": proxy}
            with Client(max_attempts=1, **setup) as client, self.assertRaises(Failure) as caught:
                client.exchange(USER)
        self.assertIn("refused with 403", caught.exception.message)
        basic = base64.b64encode(PROXY_USER + b":" + PROXY_PASSWORD)
        self.nothing_in_structs([KEY, signature(KEY, USER), PROXY_PASSWORD, basic], [USER, PROXY_USER])

    def test_a_store_that_echoes_its_credentials(self):
        for code in (b"WRONGPASS", b"ERR", b"NOPERM", b""):
            def serve(stream: socket.socket, code: bytes = code) -> None:
                while command := stream.recv(65536):
                    stream.sendall(b"-%s %s\r\n" % (code, b" ".join(command.split())))

            with Peer(serve) as peer:
                store = b"redis://%s:%s@127.0.0.1:%d" % (STORE_USER, STORE_PASSWORD, peer.port)
                setup = {"application_id": "1", "hmac_key": KEY, "base_url": "http://127.0.0.1:1", "store": store}
                with Client(max_attempts=1, **setup) as client:
                    with self.assertRaises(Failure) as caught:
                        library.call("client_check_store", client.handle, None)
                    self.assertIn("answered", caught.exception.message)
                    with self.assertRaises(Failure):
                        client.exchange(USER)
        self.nothing_in_structs([KEY, signature(KEY, USER), STORE_PASSWORD], [USER, STORE_USER])

    def test_refused_arguments(self):
        secret_url = b"user:" + PROXY_PASSWORD
        with Config() as config:
            for name, value in (
                ("hmac_key", KEY * 200),
                ("application_id", KEY + b" "),
                ("application_id", KEY * 4),
                ("base_url", b"https://" + secret_url + b"@localhost"),
                ("base_url", b"http://localhost/" + PROXY_PASSWORD + b"\xff"),
                ("proxy", b"socks5://" + secret_url + b"@localhost"),
                ("proxy", b"http://" + secret_url + b"@local host"),
                ("proxy", secret_url + b"@:1"),
                ("store", b"http://user:" + STORE_PASSWORD + b"@localhost"),
                ("store", b"redis://user:" + STORE_PASSWORD + b"@local host"),
                ("store", b"redis://user:" + STORE_PASSWORD + b"/@localhost"),
                ("store", b"unix://user:" + STORE_PASSWORD + b"@relative"),
                ("user_agent", KEY + b"\r\n"),
                ("ca_pem", KEY),
                ("ca_pem", b"-----BEGIN CERTIFICATE-----\n" + KEY + b"\n-----END CERTIFICATE-----\n"),
                ("ca_pem", b"-----BEGIN " + KEY + b"-----\n-----END CERTIFICATE-----\n"),
            ):
                with self.assertRaises(Failure, msg=name):
                    config.set(name, value)
        with Client(application_id="1", hmac_key=KEY, base_url="http://localhost:1") as client:
            for user in (USER + b" ", USER * 6, USER + b"\xff", b"\n" + USER):
                with self.assertRaises(Failure):
                    client.exchange(user)
            for wrong in (TOKEN, KEY, signature(KEY, USER) + b"0", signature(KEY, USER)[:-1] + b"g"):
                with self.assertRaises(Failure):
                    client.exchange_signature(USER, wrong)
        for wrong in (signature(b"another", USER), KEY, signature(KEY, USER)[1:]):
            with self.assertRaises(Failure):
                library.call("verify_user", KEY, len(KEY), USER, len(USER), wrong, len(wrong))
        known = [KEY, PROXY_PASSWORD, STORE_PASSWORD, TOKEN, signature(KEY, USER), signature(b"another", USER)]
        self.nothing_in_structs(known, [USER])

    def test_status_texts_stay_the_same_after_failures(self):
        text = library.LIBRARY.spike_auth_status_text
        before = [text(status) for status in range(-1, 130)]
        self.ask(KEY, 401)
        after = [text(status) for status in range(-1, 130)]
        self.assertEqual(before, after)
        self.nothing_in(b"\n".join(after), [KEY, signature(KEY, USER), TOKEN], [USER])

    def test_this_test_can_fail(self):
        for output in (KEY, KEY.upper(), b"x" + KEY.hex().encode(), base64.b64encode(b"ab" + KEY + b"cd"), KEY[2:20]):
            with self.assertRaises(AssertionError):
                self.nothing_in(b"status: " + output + b".", [KEY])


# ---- memory


def masked(secret: bytes) -> str:
    return bytes(byte ^ 0xA5 for byte in secret).hex()


CONTROL = b"what-the-program-itself-leaves-4b7d"


@unittest.skipUnless(sys.platform == "linux", "memory is read through /proc")
class Memory(unittest.TestCase):
    """A C program exchanges, frees everything, and searches its memory; see tests/c/wipe.c."""

    KEY = b"Canary-Key-of-sixty-characters-and-four-8d1f3b7e5a9c2d4f6a8b0c1e"

    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.addClassCleanup(folder.cleanup)
        cls.program = Path(folder.name) / "wipe"
        warnings = ["-std=c11", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
        link = [f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", f"-Wl,-rpath,{RELEASE}"]
        run(CC, *warnings, ROOT / "tests" / "c" / "wipe.c", *link, "-o", cls.program)

    def finds_at(self, base_url: str, ca_file: str, token: bytes, *users: str, proxy: bytes = b"",
                 **more: bytes) -> dict[str, list[str]]:
        """The places in the program's memory that hold a secret, by the secret's name; `more` adds secrets."""
        inner, outer = (struct.pack("=8I", *state) for state in hmac_states(self.KEY))
        needles = {"key": self.KEY, "inner-state": inner, "outer-state": outer, "token": token, "control": CONTROL}
        needles |= {f"signature-of-{user}": signature(self.KEY, user.encode()) for user in users}
        needles |= more
        arguments = [f"{name}={masked(needle)}" for name, needle in needles.items()]
        secrets = (masked(self.KEY), masked(proxy))
        written = run(self.program, base_url, ca_file, *secrets, *arguments, "--", *users)
        self.assertTrue(written.endswith("done\n"), written)
        found: dict[str, list[str]] = {name: [] for name in needles}
        for kind, name, rest in re.findall(r"^(freed|left) (\S+): (.*)$", written, re.MULTILINE):
            found[name].append(f"{kind} {rest}")
        # The program leaves one needle behind on purpose, freed and not freed, which proves the search.
        self.assertEqual({line.split()[0] for line in found.pop("control")}, {"freed", "left"})
        return found

    def finds(self, scheme: str, *users: str) -> dict[str, list[str]]:
        """The same, against a sandbox."""
        with sandbox("--hmac-key", self.KEY.decode()) as addresses:
            setup = {"application_id": APPLICATION_ID, "hmac_key": self.KEY, "base_url": addresses["http"]}
            with Client(max_attempts=1, **setup) as client:
                token = client.exchange(users[0])
            return self.finds_at(addresses[scheme], addresses["ca_file"], token, *users)

    def test_an_exchange_over_http_leaves_nothing(self):
        for name, places in self.finds("http", "canary-user-5e7d9c1b3a").items():
            with self.subTest(name):
                self.assertEqual(places, [])

    def test_failures_over_http_leave_nothing(self):
        faults = ("status.401", "status.422", "status.503", "html-error", "close-mid-body", "stall-mid-body",
                  "bad-json", "duplicate-token", "big-body.65537", "drip-body.30", "problem-huge")
        users = ["canary-user-5e7d9c1b3a", *(f"fault.{fault}.canary" for fault in faults)]
        for name, places in self.finds("http", *users).items():
            with self.subTest(name):
                self.assertEqual(places, [])

    def test_responses_of_every_shape_leave_nothing_over_http(self):
        faults = ("chunked.16", "split", "close-delimited", "close-next", "late-token", "max-token", "big-body",
                  "response-twice", "http10", "continue")
        for fault in faults:
            for name, places in self.finds("http", f"fault.{fault}.canary").items():
                with self.subTest(name, fault=fault):
                    self.assertEqual(places, [])

    def test_a_refusal_that_echoes_leaves_nothing_over_http(self):
        # No quotes in the texts, because the JSON library copies a text with escapes, and no secrets in headers,
        # because the HTTP library copies headers: the library cannot wipe these copies.
        user = "canary-user-5e7d9c1b3a"
        text = f"wrong for {self.KEY.decode()}: {signature(self.KEY, user.encode()).decode()} is not good"
        flaw = {"message": text, "location": text, "value": text}
        body = json.dumps({"status": 401, "title": text, "detail": text, "errors": [flaw]}).encode()
        reply = b"HTTP/1.1 401 No\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%s"

        def serve(stream: socket.socket) -> None:
            while read_request(stream):
                stream.sendall(reply % (len(body), body))

        with Peer(serve) as peer, sandbox() as addresses:
            base_url = f"http://127.0.0.1:{peer.port}"
            for name, places in self.finds_at(base_url, addresses["ca_file"], TOKEN, user).items():
                with self.subTest(name):
                    self.assertEqual(places, [])

    def test_a_tunnel_leaves_no_proxy_credentials(self):
        basic = base64.b64encode(PROXY_USER + b":" + PROXY_PASSWORD)
        needles = {"proxy-user": PROXY_USER, "proxy-password": PROXY_PASSWORD, "proxy-authorization": basic}
        with sandbox("--hmac-key", self.KEY.decode()) as addresses:
            address = addresses["proxy"].removeprefix("http://").encode()
            for credentials in (PROXY_USER + b":" + PROXY_PASSWORD, PROXY_USER + b":%63" + PROXY_PASSWORD[1:]):
                proxy = b"http://" + credentials + b"@" + address
                found = self.finds_at(addresses["https"], addresses["ca_file"], TOKEN, USER.decode(), proxy=proxy,
                                      **needles)
                for name in needles:
                    with self.subTest(name):
                        self.assertEqual(found[name], [])
            self.assertGreater(counters(addresses)["tunnels"], 0)

    def test_an_exchange_over_https_leaves_no_key_and_no_signature(self):
        # A token stays in rustls's buffers, which the library cannot wipe: see the README.
        found = self.finds("https", "canary-user-5e7d9c1b3a", "fault.status.401.canary")
        del found["token"]
        for name, places in found.items():
            with self.subTest(name):
                self.assertEqual(places, [])


if __name__ == "__main__":
    unittest.main()
