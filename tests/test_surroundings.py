"""The conditions that the suites set for themselves, and the interpreters that they run with."""

import json
import os
import pwd
import resource
import signal
import subprocess
import sys
import unittest
from pathlib import Path
from unittest import mock

import python
from support.project import ROOT, clean_env, run, scratch
from support.surroundings import default_sigint, harshly

# The conditions of a test program and of its children.
TELL = """
import json, os, signal, subprocess, support
from support.project import clean_env
def of_a_child(*command):
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
print(json.dumps({
    "ignored": [each.name for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN],
    "blocked": [each.name for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())],
    "failure": subprocess.run(["false"], check=False).returncode,
    "stdin": os.readlink("/proc/self/fd/0"),
    "stdin of a child": of_a_child("readlink", "/proc/self/fd/0"),
    "umask": of_a_child("sh", "-c", "umask"),
    "descriptors": of_a_child("sh", "-c", "ulimit -n"),
    "HOME": clean_env()["HOME"],
    "LC_ALL": clean_env()["LC_ALL"],
}))
"""
# On purpose, or by Python, which restores them for its children.
MAY_BE_IGNORED = {"SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGXFSZ"}


class Surroundings(unittest.TestCase):
    def test_conditions_that_could_decide_a_test_are_set_and_no_others(self):
        with scratch() as folder:
            command = harshly(folder, sys.executable, "-c", TELL)
            env = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
            block = {"preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM, signal.SIGUSR2})}
            told = json.loads(run(*command, env=env, **block))
        self.assertIn("SIGINT", told["ignored"])
        self.assertLessEqual({*told.pop("ignored")}, MAY_BE_IGNORED)
        settled = {"blocked": [], "failure": 1, "stdin": "/dev/null", "stdin of a child": "/dev/null",
                   "HOME": pwd.getpwuid(os.getuid()).pw_dir, "LC_ALL": "C.UTF-8"}
        self.assertEqual(told, settled | {"umask": "0077", "descriptors": "256"})

    def test_the_limit_of_descriptors_is_raised_if_possible(self):
        hard = min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], 2000)
        told = json.loads(run(sys.executable, "-c", TELL, env=os.environ | {"PYTHONPATH": str(ROOT / "tests")},
                              preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))))
        self.assertEqual(told["descriptors"], str(hard))

    def test_a_program_started_with_default_sigint_can_be_interrupted(self):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            with default_sigint():
                process = subprocess.Popen(["sleep", "60"])
            self.assertIs(signal.getsignal(signal.SIGINT), signal.SIG_IGN)
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(10), -signal.SIGINT)
        finally:
            signal.signal(signal.SIGINT, before)

    def test_a_user_without_a_name_has_a_home(self):
        with mock.patch.dict(os.environ), mock.patch("os.getuid", return_value=2**31):
            os.environ.pop("HOME", None)
            self.assertTrue(Path(clean_env()["HOME"]).is_dir())


class Interpreters(unittest.TestCase):
    def test_the_systems_python_is_used_beside_one_of_the_same_version(self):
        system = python.ask(python.SYSTEM) if Path(python.SYSTEM).exists() else None
        if system is None:
            self.skipTest(f"{python.SYSTEM} is not there, or older than 3.{python.OLDEST}")
        self.assertIn(system.build, {found.build for found in python.interpreters().values()})
        # As if pyenv had one of the same series.
        other = python.Interpreter(system.series, "3.99.0", "/elsewhere/python3", "3.99.0 (another)", ())
        with mock.patch.object(python, "candidates", return_value=[other.path]):
            with mock.patch.object(python, "ask", lambda path: other if path == other.path else system):
                self.assertEqual([*python.interpreters().values()], [other, system])

    def test_an_interpreter_that_cannot_run_the_suite_is_named_with_the_cure(self):
        bare = python.Interpreter("3.11", "3.11.2", python.SYSTEM, "3.11.2", ("_ctypes", "venv"))
        self.assertEqual(python.left_out(bare), "CPython 3.11.2 at /usr/bin/python3 has no _ctypes, venv "
                                                "(apt-get install libpython3-stdlib)")


if __name__ == "__main__":
    unittest.main()
