"""The program spike-auth: its commands, its exit codes, its manual."""

import hashlib
import hmac
import re
import shutil
import signal
import subprocess
import time
import unittest

from doctor.faces import CLI, LINK, PROGRAM, WARNINGS, real_faces
from support.peers import free_port
from support.project import CC, KEY, RELEASE, clean_env, counters, run, sandbox, scratch, settings
from support.surroundings import default_sigint

SIGNATURE = hmac.new(KEY.encode(), b"alice", hashlib.sha256).hexdigest()
HELP = run(PROGRAM, "--help", env=clean_env(LD_LIBRARY_PATH=str(RELEASE)))


class Case(unittest.TestCase):
    def setUp(self):
        self.service = self.enterContext(sandbox())
        self.program = real_faces()[0]

    def run_it(self, *arguments: str, **variables: str) -> tuple[int, str, str]:
        done = self.program.run(*arguments, **{**settings(self.service), **variables})
        return done.returncode, done.stdout, done.stderr

    def shell(self, line: str, **variables: str) -> tuple[int, str, str]:
        """`$0` is the program."""
        env = self.program.env(**settings(self.service), **variables)
        command = ["sh", "-c", line, str(PROGRAM)]
        done = subprocess.run(command, env=env, text=True, capture_output=True, timeout=60, check=False)
        return done.returncode, done.stdout, done.stderr


class Commands(Case):
    def test_sign_needs_no_network(self):
        nowhere = f"http://127.0.0.1:{free_port()}/v3"
        self.assertEqual(self.run_it("sign", "alice", SPIKE_API_BASE_URL=nowhere), (0, f"{SIGNATURE}\n", ""))
        self.assertEqual(counters(self.service)["connections"], 0)

    def test_token_prints_the_token_or_the_header(self):
        code, token, said = self.run_it("token", "alice")
        self.assertEqual((code, said), (0, ""))
        self.assertRegex(token, r"\A[\w-]+\.[\w-]+\.[\w-]+\n\Z")
        self.assertEqual(self.run_it("token", "--header", "alice"), (0, f"Authorization: Bearer {token}", ""))

    def test_a_user_from_stdin(self):
        for text in ("alice", "alice\\n"):
            self.assertEqual(self.shell(f"printf '{text}' | \"$0\" sign -"), (0, f"{SIGNATURE}\n", ""))
        for text in ("", "alice\\nbob\\n", "alice\\n\\n", "a\\0b", "%0200d", "%09000d"):
            code, printed, said = self.shell(f"printf '{text}' | \"$0\" sign -")
            self.assertEqual((code, printed), (1, ""), text)
            self.assertRegex(said, r"\Aspike-auth: .*user id.*\n\Z")
        self.assertEqual(self.shell('"$0" sign - <&-'), (1, "", "spike-auth: cannot read stdin: Bad file descriptor\n"))

    def test_a_user_that_looks_like_an_option(self):
        for user in ("-", "--", "--help", "-V"):
            expected = hmac.new(KEY.encode(), user.encode(), hashlib.sha256).hexdigest()
            self.assertEqual(self.run_it("sign", "--", user), (0, f"{expected}\n", ""))

    def test_a_failure_is_one_line_without_the_key(self):
        for arguments, variables, words in [
            (["sign", "a b"], {}, "user id"),
            (["sign", ""], {}, "user id"),
            (["token", "fault.status.403"], {}, "403"),
            (["token", "alice"], {"SPIKE_HMAC_KEY": "wrong-but-long-enough"}, "401"),
            (["token", "alice"], {"SPIKE_TIMEOUT_MS": "soon"}, "SPIKE_TIMEOUT_MS"),
            (["doctor", "a b"], {}, "user id"),
            (["doctor", "--json", ""], {}, "USER is empty"),
        ]:
            with self.subTest(arguments=arguments, **variables):
                code, printed, said = self.run_it(*arguments, **variables)
                self.assertEqual((code, printed), (1, ""))
                self.assertRegex(said, r"\Aspike-auth: .*\n\Z")
                self.assertIn(words, said)
                self.assertNotIn(KEY, said)
                self.assertNotIn("wrong-but", said)

    def test_bad_arguments(self):
        for arguments in ["", "sign", "steal alice", "sign alice bob", "sign --header alice", "token --json alice",
                          "token -x alice", "doctor --xml", "sign --", "sign - alice", "--version-x"]:
            with self.subTest(arguments):
                code, printed, said = self.run_it(*arguments.split())
                self.assertEqual((code, printed), (2, ""))
                self.assertTrue(said.startswith("spike-auth: ") and said.endswith("\nTry spike-auth --help.\n"), said)

    def test_version(self):
        code, printed, said = self.run_it("--version")
        self.assertEqual((code, said), (0, ""))
        path = (RELEASE / "libspike_auth.so").resolve()
        self.assertRegex(printed, rf"\Aspike-auth (\S+)\nlibspike_auth \1 \(ABI 1\), {re.escape(str(path))}\n\Z")
        self.assertEqual(self.run_it("-V")[1], printed)


class Surroundings(Case):
    def test_output_that_cannot_be_written_is_a_failure(self):
        for command in ("sign alice", "token alice", "doctor alice", "doctor --json alice", "--help", "--version"):
            for to, why in [(">&-", "Bad file descriptor"), (">/dev/full", "No space left on device")]:
                with self.subTest(command, to=to):
                    expected = (1, "", f"spike-auth: cannot write to stdout: {why}\n")
                    self.assertEqual(self.shell(f'"$0" {command} {to}'), expected)

    def test_a_failure_with_all_descriptors_closed(self):
        code, _, said = self.shell('"$0" sign "a b" >&-')
        self.assertEqual((code, said.count("\n")), (1, 1), said)
        self.assertEqual(self.shell('"$0" token fault.status.403 <&- >&- 2>&-'), (1, "", ""))
        self.assertEqual(self.shell('"$0" nonsense <&- >&- 2>&-'), (2, "", ""))

    def test_ctrl_c_ends_it(self):
        for command in ("token", "doctor"):
            with self.subTest(command), default_sigint():
                env = self.program.env(**settings(self.service))
                process = subprocess.Popen([PROGRAM, command, "fault.stall"], env=env, stdout=subprocess.PIPE)
                with process:
                    self.until_in_flight(1)
                    process.send_signal(signal.SIGINT)
                    self.assertEqual((process.communicate(timeout=20)[0], process.returncode), (b"", -signal.SIGINT))
                self.until_in_flight(0)

    def until_in_flight(self, count: int) -> None:
        deadline = time.monotonic() + 20
        while counters(self.service)["in_flight"] != count:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.01)

    def test_it_compiles_without_a_warning(self):
        for compiler in filter(shutil.which, [CC, "clang", "musl-gcc"]):
            for define in ([], ["-DSPIKE_AUTH_STATIC"]):
                with self.subTest(compiler, define=define), scratch() as folder:
                    objects = [f"-I{CLI}", *define, *LINK[:1], "-O2", "-c", *CLI.glob("*.c")]
                    run(compiler, *WARNINGS, *objects, cwd=folder)


class Manual(unittest.TestCase):
    TEXT = (CLI / "spike-auth.1").read_text()

    def test_it_has_what_the_help_has(self):
        commands = re.findall(r"^  spike-auth (\w+)", HELP, re.M)
        self.assertEqual(commands, ["sign", "token", "doctor"])
        self.assertEqual(re.findall(r"^\.It Cm (\w+)", self.TEXT, re.M), commands)
        # `Fl` prints a dash of its own.
        options = {f"-{name}" for name in re.findall(r"(?:Fl|h ,|V ,|\|) (-[a-z]+)", self.TEXT)}
        self.assertEqual(options, set(re.findall(r"--\w+", HELP)))
        self.assertEqual(re.findall(r"^\.It (\d)$", self.TEXT, re.M), ["0", "1", "2"])
        self.assertIn("The exit code is 0, or 1 for a failure, 2 for bad arguments.", HELP)
        for variable in re.findall(r"SPIKE_\w+", HELP):
            self.assertIn(variable, self.TEXT)

    @unittest.skipUnless(shutil.which("mandoc"), "mandoc is missing (apt-get install mandoc)")
    def test_it_has_no_fault(self):
        done = subprocess.run(["mandoc", "-T", "lint", "-W", "style", CLI / "spike-auth.1"], text=True,
                              capture_output=True, timeout=60, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))


if __name__ == "__main__":
    unittest.main()
