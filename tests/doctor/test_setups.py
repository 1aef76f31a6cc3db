"""Twelve broken set-ups with real servers: the first cure that the doctor names mends each of them. And no output of it
holds a secret."""

import hashlib
import hmac
import json
import re
import shutil
import ssl
import unittest
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

from doctor.faces import HERE, WARNINGS, Face, real_faces
from support.certificates import HOUR, Authority
from support.peers import REPLY, Peer, free_port, read_request
from support.project import CC, run, sandbox, scratch, settings
from support.store import installed, store
from test_secrets import forms, pieces

USER = "canary-user-5e7d9c1b3a"
KEY = "Canary-Key-8d1f3b7e5a9c-2f4b"
STORE_PASSWORD, WRONG_PASSWORD = "canary-store-pass-2a7f", "canary-wrong-pass-9c1e"
PROXY_PASSWORD = "canary-proxy-pass-6c4e"
CHECKS = ["settings", "key", "proxy", "resolve", "connect", "tls", "exchange", "clock", "store"]

Environment = dict[str, str | None]


def signature(key: bytes) -> str:
    return hmac.new(key, USER.encode(), hashlib.sha256).hexdigest()


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(scratch()))
        self.service = self.enterContext(sandbox("--hmac-key", KEY))
        self.faces = real_faces()
        self.secrets = [KEY, signature(KEY.encode())]

    def good(self, scheme: str = "http", **more: str | None) -> Environment:
        return {**settings(self.service, scheme), **more}

    def ask(self, face: Face, env: Environment) -> tuple[int, str, dict]:
        """The exit code, the table, and the report. They hold no secret."""
        variables = {name: value for name, value in env.items() if value is not None}
        shown = face.run("doctor", USER, **variables)
        told = face.run("doctor", "--json", USER, **variables)
        self.assertEqual((shown.stderr, told.stderr, told.returncode), ("", "", shown.returncode))
        self.nothing_secret_in(shown.stdout + told.stdout)
        report = json.loads(told.stdout)
        if len(report["checks"]) > 1:  # else there is no client
            self.assertEqual([check["name"] for check in report["checks"]], CHECKS)
        return shown.returncode, shown.stdout, report

    def nothing_secret_in(self, output: str) -> None:
        text = output.lower().encode()
        for secret in self.secrets:
            for piece in forms(secret.encode()) | pieces(secret.lower().encode()):
                self.assertNotIn(piece, text, f"a piece of {secret} in {output}")
        self.assertNotIn(USER, output)

    def is_well(self, env: Environment) -> None:
        for face in self.faces:
            code, table, report = self.ask(face, env)
            self.assertEqual((code, report["ok"]), (0, True), table)
            self.assertRegex(table, r"\n\nIt works\..*\n\Z")

    def mends(self, broken: Environment, failing: str, cure: str, mended: Environment,
              act: Callable[[], object] = lambda: None) -> None:
        """The first cure is that of the check `failing`, and matches. It works when that cure is applied: by the
        environment `mended`, or by what `act` does to a server."""
        tables = []
        for face in self.faces:
            with self.subTest(face.name):
                code, table, report = self.ask(face, broken)
                self.assertEqual((code, report["ok"]), (1, False), table)
                named = next(check for check in report["checks"] if check["name"] == failing)
                self.assertEqual((named["cure"], named["status"] == "ok"), (report["cure"], False), table)
                self.assertRegex(report["cure"], cure)
                self.assertEqual(table.splitlines()[-1], f"Do this first ({failing}): {report['cure']}")
                tables.append(re.sub(r" *[\d.]+", "N", table))
        self.assertEqual(*tables)
        act()
        self.is_well(mended)


class SetUps(Case):
    def test_no_key(self):
        self.mends(self.good(SPIKE_HMAC_KEY=None), "key", r"\bSPIKE_HMAC_KEY\b", self.good())

    def test_a_blank_at_the_keys_end(self):
        for blank in (" ", "\t", "\n", "\r\n"):
            with self.subTest(repr(blank)):
                cure = r"Remove the (blank|newline) at the end of the key \(from SPIKE_HMAC_KEY\)"
                self.mends(self.good(SPIKE_HMAC_KEY=KEY + blank), "key", cure, self.good())

    def test_a_wrong_application_id(self):
        self.mends(self.good(SPIKE_APPLICATION_ID="10000"), "exchange", "application id comes from SPIKE_APPLICATION_ID", self.good())

    def test_a_key_that_was_decoded_from_hex(self):
        shown = hashlib.sha256(b"canary").hexdigest()
        decoded = bytes.fromhex(shown)
        self.secrets += [shown, decoded.hex(), signature(decoded), signature(shown.encode())]
        key = self.folder / "key"
        key.write_bytes(decoded)
        key.chmod(0o600)
        with sandbox("--hmac-key", shown) as service:
            env = settings(service) | {"SPIKE_HMAC_KEY": None, "SPIKE_HMAC_KEY_FILE": str(key)}
            self.mends(env, "key", "without decoding it from hex.*SPIKE_HMAC_KEY_FILE", env, lambda: key.write_text(shown))

    def test_a_wrong_base_url(self):
        wrong = self.service["http"].replace("/v3", "/v4")
        self.mends(self.good(SPIKE_API_BASE_URL=wrong), "exchange", "base URL comes from SPIKE_API_BASE_URL", self.good())

    def test_an_unknown_name(self):
        wrong = "https://no-such-host.invalid/v3"
        self.mends(self.good(SPIKE_API_BASE_URL=wrong), "resolve", "base URL comes from SPIKE_API_BASE_URL", self.good())

    def test_a_closed_port(self):
        wrong = f"http://127.0.0.1:{free_port()}/v3"
        self.mends(self.good(SPIKE_API_BASE_URL=wrong), "connect", "base URL comes from SPIKE_API_BASE_URL", self.good())

    def test_a_proxy_that_refuses(self):
        proxy = self.service["proxy_refusing"].replace("//", f"//canary:{PROXY_PASSWORD}@")
        self.secrets.append(PROXY_PASSWORD)
        broken, mended = (self.good("https", https_proxy=value) for value in (proxy, self.service["proxy"]))
        self.mends(broken, "connect", "allows CONNECT.* The proxy comes from https_proxy", mended)

    def test_a_private_authority_that_is_not_set(self):
        self.mends(self.good("https", SPIKE_CA_FILE=None), "tls", r"\bSPIKE_CA_FILE\b", self.good("https"))

    @unittest.skipUnless(shutil.which("openssl"), "openssl is missing (apt-get install openssl)")
    def test_an_expired_certificate(self):
        authority = Authority(self.folder, "private")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(authority.leaf("expired", start=-2 * HOUR, end=-HOUR))
        renewed = authority.leaf("renewed")

        def serve(connection) -> None:
            with suppress(ssl.SSLError), context.wrap_socket(connection, server_side=True) as stream:
                while read_request(stream):
                    stream.sendall(REPLY)

        with Peer(serve) as peer:
            env = self.good(SPIKE_API_BASE_URL=f"https://localhost:{peer.port}/v3", SPIKE_CA_FILE=str(authority.pem))
            self.mends(env, "tls", "Renew it", env, lambda: context.load_cert_chain(renewed))

    def test_a_clock_that_is_a_day_off(self):
        shim = self.folder / "clock.so"
        run(CC, *WARNINGS, "-shared", "-fPIC", HERE / "clock.c", "-o", shim)
        self.mends(self.good(LD_PRELOAD=str(shim)), "clock", "this machine's clock", self.good())

    @unittest.skipUnless(installed(), "no redis-server or valkey-server is here (apt-get install redis-server)")
    def test_a_store_with_a_wrong_password(self):
        self.secrets += [STORE_PASSWORD, WRONG_PASSWORD]
        with store(installed()[0], "tcp", "--requirepass", STORE_PASSWORD) as at:
            broken, mended = (self.good(SPIKE_STORE_URL=at.url(f":{password}@"))
                              for password in (WRONG_PASSWORD, STORE_PASSWORD))
            self.mends(broken, "store", "the password in the store's URL.*SPIKE_STORE_URL", mended)


class Canaries(Case):
    """More that the doctor must not show. The set-ups above look for their secrets too."""

    def test_what_a_service_echoes(self):
        for fault in ("echo", "echo:422", "echo-ok"):
            with self.subTest(fault), sandbox("--hmac-key", KEY, "--fault", fault) as service:
                for face in self.faces:
                    self.ask(face, settings(service))

    def test_the_token_and_secrets_in_urls(self):
        face = self.faces[0]
        env = self.good("https", https_proxy=self.service["proxy"].replace("//", f"//canary:{PROXY_PASSWORD}@"))
        token = face.run("token", USER, **env).stdout.strip()
        self.assertGreater(len(token), 50)
        self.secrets += [token, PROXY_PASSWORD]
        self.is_well(env)
        with ExitStack() as stack:
            if installed():
                at = stack.enter_context(store(installed()[0], "tcp", "--requirepass", STORE_PASSWORD))
                self.secrets.append(STORE_PASSWORD)
                self.is_well({**env, "SPIKE_STORE_URL": at.url(f":{STORE_PASSWORD}@")})


if __name__ == "__main__":
    unittest.main()
