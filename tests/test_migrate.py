"""docs/migrate.md: its programs as they are printed. By hand and with the library, signature and token are the same. Those for
Node are in node.py."""

import re
import shutil
import subprocess
import sys
import unittest
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from support.pages import DOCS, blocks, run_go
from support.project import HEADER, RELEASE, ROOT, SHARED, clean_env, counters, run, sandbox, scratch, settings
from support.store import installed, store

PAGE = DOCS["migrate"]
SERVICE = "https://app-api.spikeapi.com/v3"
USER = "my_application_user_123"
EXAMPLES = ROOT / "examples"

GO_PROGRAM = """\
package main

import (
%s
)

%s

func main() {
%s
	if err != nil {
		panic(err)
	}
	fmt.Println(signed, token)
}
"""
GO_BY_HAND = (
    ["bytes", "crypto/hmac", "crypto/sha256", "encoding/hex", "encoding/json", "fmt", "net/http", "os", "strconv"],
    f'\tsigned := signature("{USER}")\n\ttoken, err := accessToken("{USER}")',
)
GO_OURS = (
    ["context", "fmt", "sync", "github.com/spike-auth/spike-auth/bindings/go"],
    f'\tsigned, _ := signature("{USER}")\n\ttoken, err := accessToken(context.Background(), "{USER}")',
)
PHP_USE = f"\necho signature('{USER}'), ' ', accessToken('{USER}'), PHP_EOL;\n"


def need(tool: str, package: str):
    return unittest.skipUnless(shutil.which(tool), f"{tool} is missing (apt-get install {package})")


def go_program(program: str, imports: list[str], use: str) -> str:
    return GO_PROGRAM % ("\n".join(f'\t"{path}"' for path in imports), program, use)


class Guide(unittest.TestCase):
    def setUp(self):
        self.addresses = self.enterContext(sandbox())
        self.folder = Path(self.enterContext(scratch()))
        self.settings = settings(self.addresses)
        self.env = self.environment()

    def environment(self, **extra: str) -> dict[str, str]:
        return clean_env(LD_LIBRARY_PATH=str(RELEASE), SPIKE_AUTH_LIBRARY=str(SHARED), PYTHONDONTWRITEBYTECODE="1",
                         PYTHONPATH=str(ROOT / "bindings" / "python" / "src"), **self.settings, **extra)

    def programs(self, language: str) -> tuple[str, str]:
        """By hand, at the sandbox; and with the library."""
        by_hand, ours = blocks(language, PAGE)
        self.assertEqual(by_hand.count(SERVICE), 1)
        return by_hand.replace(SERVICE, self.addresses["http"]), ours

    def said(self, *command: object) -> str:
        return run(*command, env=self.env, cwd=self.folder, timeout=120)

    def file(self, name: str, text: str) -> Path:
        (self.folder / name).write_text(text)
        return self.folder / name

    def check_same(self, by_hand: str, ours: str) -> None:
        self.assertRegex(by_hand, r"\A[0-9a-f]{64} eyJ\S+\n\Z")
        self.assertEqual(ours, by_hand)
        self.assertEqual(counters(self.addresses)["users"], {USER: 2})


class Sizes(unittest.TestCase):
    def test_the_buffers_of_the_examples_are_large_enough(self):
        sizes = [re.search(rf"SPIKE_AUTH_{name}_SIZE (\d+)", HEADER.read_text())[1] for name in ("SIGNATURE", "TOKEN")]
        for text, pattern in [("Spike.php", r"->text\((\d+),"), ("spike.mjs", r"TOKEN_SIZE, .*\[(\d+), (\d+),")]:
            found = re.findall(pattern, (EXAMPLES / text).read_text())
            self.assertEqual(found, sizes if text == "Spike.php" else [tuple(sizes)])


class Pairs(Guide):
    def test_python(self):
        use = f"\nprint(signature('{USER}'), access_token('{USER}'))"
        self.check_same(*(self.said(sys.executable, "-c", program + use) for program in self.programs("python")))

    def test_the_command_makes_the_signature_of_the_code_by_hand(self):
        by_hand, _ = self.programs("python")
        (command,) = re.findall(r"`python3 (-m spike_auth sign \S+)`", PAGE)
        said = self.said(sys.executable, *command.split())
        self.assertEqual(said, self.said(sys.executable, "-c", f"{by_hand}\nprint(signature('{USER}'))"))

    def test_go(self):
        by_hand, ours = self.programs("go")
        self.check_same(run_go(go_program(by_hand, *GO_BY_HAND), self.settings),
                        run_go(go_program(ours, *GO_OURS), self.settings))

    @need("php", "php-cli")
    def test_php(self):
        by_hand, ours = self.programs("php")
        shutil.copy(EXAMPLES / "Spike.php", self.folder)
        files = [self.file(f"{number}.php", f"<?php\n{text}{PHP_USE}") for number, text in enumerate((by_hand, ours))]
        self.check_same(*(self.said("php", file) for file in files))


@need("php", "php-cli")
class Php(Guide):
    """examples/Spike.php"""

    def said(self, program: str) -> str:
        # A stack shows the arguments of calls.
        options = ["-d", "zend.exception_ignore_args=0", "-d", "zend.exception_string_param_max_len=99"]
        text = f"<?php\nrequire '{EXAMPLES}/Spike.php';\n{program}"
        return super().said("php", *options, self.file("main.php", text))

    def test_failures_say_what_is_wrong_and_hold_no_secret(self):
        self.settings["SPIKE_HMAC_KEY"] = "a key that is wrong"
        self.env = self.environment()
        said = self.said("""
            function tried(callable $call): void { try { $call(); } catch (RuntimeException $e) { echo $e, PHP_EOL; } }
            $spike = new Spike();
            tried(fn () => $spike->token('alice-in-chains'));
            tried(fn () => $spike->token("a\\0b"));
            tried(fn () => $spike->invalidate('', 'a token to hide'));
            putenv('SPIKE_HMAC_KEY=');
            tried(fn () => new Spike());""")
        self.assertEqual(re.findall(r"^RuntimeException: (\w+ \w+)", said, re.M),
                         ["401 Unauthorized", "Invalid user", "Invalid user", "The environment"])
        self.assertIn("main.php", said)  # the stacks are there
        for secret in ("a key that", "a token to"):
            self.assertNotIn(secret, said)

    def test_a_reported_token_is_not_handed_out_again(self):
        said = self.said("""
            $spike = new Spike();
            $spike->invalidate('alice', $spike->token('alice'));
            try { $spike->token('alice'); } catch (RuntimeException $e) { echo $e->getCode(); }""")
        self.assertEqual(said, "68")  # TOKEN_REJECTED: the sandbox makes the same token again

    @unittest.skipUnless(installed(), "no redis-server or valkey-server is here (apt-get install redis-server)")
    def test_a_web_server_forgets_its_tokens_unless_there_is_a_store(self):
        with store(installed()[0]) as shared:
            for url, exchanges in [("", 3), (shared.url(), 1)]:
                before = counters(self.addresses)["requests"]
                self.settings["SPIKE_STORE_URL"] = url
                if not url:
                    del self.settings["SPIKE_STORE_URL"]
                with self.web_server() as address:
                    tokens = {urllib.request.urlopen(address, timeout=30).read() for _ in range(3)}
                self.assertRegex(str(tokens), r"\A\{b'eyJ[^']*'\}\Z")
                self.assertEqual(counters(self.addresses)["requests"] - before, exchanges)

    @contextmanager
    def web_server(self):
        page = self.file("index.php", f"<?php\nrequire '{EXAMPLES}/Spike.php';\necho (new Spike())->token('alice');\n")
        command = ["php", "-d", "ffi.enable=true", "-S", "127.0.0.1:0", "-t", page.parent]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=self.environment()) as process:
            try:
                started = next(line for line in process.stderr if "started" in line)
                yield re.search(r"http://\S+?(?=\))", started)[0]
            finally:
                process.kill()


if __name__ == "__main__":
    unittest.main()
