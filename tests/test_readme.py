"""What the README prints is what there is: its program, its table, its commands."""

import re
import unittest
from pathlib import Path

from support.project import CC, HEADER, RELEASE, ROOT, clean_env, run, sandbox, scratch, settings

README = (ROOT / "README.md").read_text()
# The comment at the top of the header.
CONVENTIONS = HEADER.read_text().partition("*/")[0]


def one_line(text: str) -> str:
    """Without where the lines of a text or of a comment end."""
    return re.sub(r"\s+(\* )?", " ", text)


def block(language: str) -> str:
    return re.search(rf"^```{language}\n(.*?)^```", README, re.S | re.M).group(1)


class Readme(unittest.TestCase):
    def test_its_program_is_the_example(self):
        self.assertEqual(block("c"), (ROOT / "examples" / "token.c").read_text())

    def test_its_program_compiles_and_gets_a_token(self):
        with scratch() as folder, sandbox() as addresses:
            source, program = Path(folder) / "token.c", Path(folder) / "token"
            source.write_text(block("c"))
            warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
            run(CC, *warnings, source, f"-I{ROOT / 'include'}", f"-L{RELEASE}", "-lspike_auth", "-o", program)
            env = clean_env(LD_LIBRARY_PATH=str(RELEASE), **settings(addresses))
            self.assertRegex(run(program, "alice", env=env), r"\Agot a token of \d+ characters twice; requests sent: 1\n\Z")

    def test_its_program_says_what_is_wrong(self):
        with scratch() as folder, sandbox() as addresses:
            program = Path(folder) / "token"
            run(CC, ROOT / "examples" / "token.c", f"-I{ROOT / 'include'}", f"-L{RELEASE}", "-lspike_auth", "-o", program)
            env = clean_env(LD_LIBRARY_PATH=str(RELEASE), **settings(addresses) | {"SPIKE_HMAC_KEY": "wrong"})
            with self.assertRaisesRegex(AssertionError, "SPIKE_AUTH_STATUS_UNAUTHORIZED: 401 Unauthorized"):
                run(program, "alice-in-chains", env=env)

    def test_its_table_has_every_status_with_its_number(self):
        rows = dict(re.findall(r"^\| (\d+) \| `(\w+)` \|", README, re.M))
        header = re.findall(r"SPIKE_AUTH_STATUS_(\w+) = (\d+),", HEADER.read_text())
        self.assertEqual(rows, {number: name for name, number in header})

    def test_the_stack_that_it_and_the_header_promise_is_the_one_that_is_tested(self):
        tested = dict(re.findall(r"\b(STACK_KIB|PROMISED_KIB) = (\d+)", (ROOT / "tests" / "c" / "stack.c").read_text()))
        for text in (README, CONVENTIONS):
            needed, enough = re.findall(r"needs up to (\d+) KiB of the stack .* a thread of (\d+) KiB is enough", one_line(text))[0]
            self.assertEqual(tested, {"PROMISED_KIB": needed, "STACK_KIB": enough})

    def test_what_a_signal_handler_may_call_is_said_once_in_the_header_and_in_the_readme(self):
        self.assertEqual(one_line(CONVENTIONS).count("A signal handler may call no function of this library"), 1)
        self.assertEqual(one_line(README).count("A signal handler may call nothing of the library"), 1)
        functions = HEADER.read_text().removeprefix(CONVENTIONS)
        self.assertNotRegex(functions, "signal handler")  # or one would be an exception

    def test_every_make_target_it_names_exists(self):
        makefile = (ROOT / "Makefile").read_text()
        for target in set(re.findall(r"`make ([a-z-]+)", README)):
            self.assertRegex(makefile, rf"(?m)^{target}:", target)

    def test_every_file_it_names_exists(self):
        for path in set(re.findall(r"\]\((?!https?:)([^)#]+)\)", README)):
            self.assertTrue((ROOT / path).exists(), path)


if __name__ == "__main__":
    unittest.main()
