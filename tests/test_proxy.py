"""Exchanges through tinyproxy, a real proxy, with and without credentials. All else is in tests/proxy.rs."""

import base64
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from support.peers import tinyproxy
from support.project import build_example, clean_env, counters, sandbox, scratch, settings

USER, PASSWORD = "canary-proxy-user", "canary-proxy-pass"


@unittest.skipUnless(shutil.which("tinyproxy"), "tinyproxy is missing (apt-get install tinyproxy-bin)")
class Tinyproxy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.program = build_example(cls.folder)

    def setUp(self):
        running = sandbox()
        self.addresses = running.__enter__()
        self.addCleanup(running.__exit__, None, None, None)

    def proxy(self, *lines: str):
        self.used = Path(tempfile.mkdtemp(dir=self.folder))
        port = int(self.addresses["https"].rsplit(":", 1)[1].removesuffix("/v3"))
        return tinyproxy(self.used, port, *lines)

    def exchange(self, proxy: str) -> tuple[int, str]:
        env = clean_env(https_proxy=proxy, **settings(self.addresses, "https"))
        done = subprocess.run([self.program], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, check=False)
        return done.returncode, done.stdout.strip()

    def fails(self, result: tuple[int, str], words: str) -> None:
        self.assertEqual(result[0], 1, result)
        self.assertTrue(result[1].startswith("SPIKE_AUTH_STATUS_PROXY: "), result)
        self.assertIn(words, result[1])
        encoded = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        for secret in (USER, PASSWORD, encoded):
            self.assertNotIn(secret.lower(), result[1].lower())

    def asked(self) -> int:
        return (self.used / "access").read_text().count("): CONNECT ")

    def test_a_token_comes_through_it(self):
        with self.proxy() as port:
            for proxy in (f"http://127.0.0.1:{port}", f"127.0.0.1:{port}", f"http://localhost:{port}/"):
                self.assertEqual(self.exchange(proxy), (0, "got a token of 143 characters twice; requests sent: 1"))
            self.assertEqual(self.asked(), 3)
        self.assertEqual(counters(self.addresses)["requests"], 3)

    def test_credentials_open_it_and_nothing_else_does(self):
        with self.proxy(f"BasicAuth {USER} {PASSWORD}") as port:
            good = f"http://{USER}:{PASSWORD}@127.0.0.1:{port}"
            self.assertEqual(self.exchange(good), (0, "got a token of 143 characters twice; requests sent: 1"))
            for wrong in ("", f"{USER}:wrong@", f"{USER}@", f"wrong:{PASSWORD}@"):
                # This proxy answers a request without credentials with 401 instead of 407.
                self.fails(self.exchange(f"http://{wrong}127.0.0.1:{port}"), "it asks for other credentials")
        self.assertEqual(counters(self.addresses)["requests"], 1)


if __name__ == "__main__":
    unittest.main()
