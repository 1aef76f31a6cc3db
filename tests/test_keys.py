"""docs/keys.md: its steps, its files and its commands as they are printed, with a folder of the test for /run/secrets.

tests/c/rotation.c has the rules of a new key.
"""

import base64
import json
import os
import re
import shutil
import sys
import time
import unittest
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen

from support.client import sign
from support.pages import DOCS, blocks, run_go
from support.project import KEY, ROOT, SHARED, clean_env, counters, run, sandbox, scratch, set_key, settings

PAGE = DOCS["keys"]
SECRETS = "/run/secrets"
NEW_KEY = "another key of the console"
THREADS = 16

# Asks for the tokens of ever new users until its stdin ends. Then it says what failed, and its statistics.
LOAD = f"""
import json, sys, threading
from spike_auth import Client, SpikeAuthError
client, over, failures = Client.from_env(), threading.Event(), []
def use(thread):
    turn = 0
    while not over.is_set():
        turn += 1
        try:
            client.token(f"user-{{thread}}-{{turn}}")
        except SpikeAuthError as error:
            failures.append(str(error))
threads = [threading.Thread(target=use, args=[thread]) for thread in range({THREADS})]
for thread in threads: thread.start()
sys.stdin.read()
over.set()
for thread in threads: thread.join()
print(json.dumps([failures, client.stats().key_changes]))
"""
# As consul-template, which is inside of Vault agent, renders: Go's text/template with a function `secret`.
TEMPLATE = """\
package main

import (
	"os"
	"text/template"
)

type secret struct{ Data map[string]any }

func main() {
	read := func(path string) secret {
		if path != "secret/data/spike" {
			panic(path)
		}
		return secret{map[string]any{"data": map[string]any{"hmac_key": os.Getenv("KEY")}}}
	}
	contents := template.New("").Funcs(template.FuncMap{"secret": read})
	if err := template.Must(contents.Parse(os.Getenv("CONTENTS"))).Execute(os.Stdout, nil); err != nil {
		panic(err)
	}
}
"""
AWS = """\
#!/bin/sh
[ "$1 $2 $3 $4" = "secretsmanager get-secret-value --secret-id spike/hmac-key" ] || exit 252
[ "$5 $7 $8" = "--query --output text" ] || exit 252
case $6 in SecretString|SecretBinary) ;; *) exit 252;; esac
if [ -e "$SECRETS/$6" ]; then cat "$SECRETS/$6" && echo; else [ "$(ls "$SECRETS")" ] && echo None; fi
"""


class Guide(unittest.TestCase):
    def setUp(self):
        self.addresses = self.enterContext(sandbox())
        self.folder = Path(self.enterContext(scratch()))
        self.key_file = self.folder / "spike-hmac-key"
        self.env = clean_env(SPIKE_AUTH_LIBRARY=str(SHARED), PYTHONDONTWRITEBYTECODE="1",
                             PYTHONPATH=str(ROOT / "bindings" / "python" / "src"), **settings(self.addresses))
        del self.env["SPIKE_HMAC_KEY"]

    def commands(self, beginning: str) -> str:
        (found,) = [block for block in blocks("sh", PAGE) if block.startswith(beginning)]
        return found.replace(SECRETS, str(self.folder))

    def write_key(self, key: str) -> None:
        self.key_file.write_text(key)
        self.key_file.chmod(0o600)

    def check_token(self, path: object) -> None:
        """A process that starts now gets a token with the key in a file."""
        env = {**self.env, "SPIKE_HMAC_KEY_FILE": str(path)}
        said = run(sys.executable, "-m", "spike_auth", "token", "alice", env=env)
        self.assertRegex(said, r"\AeyJ")

    def wait_for_tokens(self, more: int) -> None:
        enough = counters(self.addresses)["tokens"] + more
        end = time.monotonic() + 60
        while counters(self.addresses)["tokens"] < enough:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    @contextmanager
    def no_call_fails(self, path: object):
        """While threads ask for tokens, the key of the file changes, and the sandbox refuses the old one."""
        before = counters(self.addresses)
        command = [sys.executable, "-c", LOAD]
        env = {**self.env, "SPIKE_HMAC_KEY_FILE": str(path)}
        with Popen(command, env=env, stdin=PIPE, stdout=PIPE, text=True) as process:
            try:
                self.wait_for_tokens(100)
                set_key(self.addresses, NEW_KEY, keep_old=True)
                yield
                self.wait_for_tokens(100)
                set_key(self.addresses, NEW_KEY)
                self.wait_for_tokens(200)
                said, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        self.assertEqual(json.loads(said), [[], 1])
        after = counters(self.addresses)
        refused = (after["requests"] - before["requests"]) - (after["tokens"] - before["tokens"])
        self.assertIn(refused, range(1, THREADS + 1))


class Steps(Guide):
    def test_no_call_fails(self):
        self.write_key(KEY + "\n")
        with self.no_call_fails(self.key_file):
            run("sh", "-euc", self.commands("umask 077\ncat"), env=self.env, input=NEW_KEY + "\n")
            self.assertEqual(self.key_file.read_text(), KEY + "\n")
            run("sh", "-euc", self.commands("mv"), env=self.env)
        self.assertEqual(self.key_file.stat().st_mode & 0o777, 0o600)
        self.check_token(self.key_file)

    def test_a_key_that_the_service_does_not_take_is_found_before_it_is_in_its_place(self):
        with self.assertRaisesRegex(AssertionError, "exited with 1\n.*401 Unauthorized"):
            run("sh", "-euc", self.commands("umask 077\ncat"), env=self.env, input="a mistake\n")

    def test_a_process_that_only_signs_goes_on_with_the_old_key(self):
        self.write_key(KEY)
        program = f"""
import pathlib, os
from spike_auth import Client
client = Client.from_env()
pathlib.Path(os.environ["SPIKE_HMAC_KEY_FILE"]).write_text({NEW_KEY!r})
print(client.sign("alice"))
client.token("alice")
print(client.sign("alice"))
client.set_hmac_key("set")
print(client.sign("alice"))
"""
        set_key(self.addresses, NEW_KEY)
        said = run(sys.executable, "-c", program, env={**self.env, "SPIKE_HMAC_KEY_FILE": str(self.key_file)})
        self.assertEqual(said.split(), [sign(key, "alice") for key in (KEY, NEW_KEY, "set")])


class Kubernetes(Guide):
    def publish(self, key: str) -> None:
        """As kubelet writes a volume: a folder with a name of its own, to which the link `..data` is moved."""
        new, data, link = self.folder / f"..{time.monotonic_ns()}", self.folder / "..data", self.folder / "hmac-key"
        new.mkdir()
        (new / "hmac-key").write_text(key)
        (new / "hmac-key").chmod(0o644)
        old = data.resolve() if data.exists() else None
        (self.folder / "..data_tmp").symlink_to(new.name)
        (self.folder / "..data_tmp").rename(data)
        if not link.is_symlink():
            link.symlink_to("..data/hmac-key")
        if old:
            shutil.rmtree(old)

    def test_a_volume_that_is_swapped_costs_no_call(self):
        (pod,) = blocks("yaml", PAGE)
        secret, name = re.search(r"`kubectl create secret generic (\S+) --from-file=(\S+?)=\S+`", PAGE).groups()
        mount = re.search(r"mountPath: ([^,]+),", pod)[1]
        path = re.search(r"_KEY_FILE, value: ([^}]+)\}", pod)[1]
        self.assertEqual(path, f"{mount}/{name}")
        self.assertIn(f"secret: {{secretName: {secret}}}", pod)
        self.assertIn(f'SPIKE_APPLICATION_ID, value: "{self.addresses["application_id"]}"', pod)
        self.publish(KEY)
        with self.no_call_fails(path.replace(mount, str(self.folder))):
            self.publish(NEW_KEY)


class Others(Guide):
    def test_the_credential_of_a_unit(self):
        (unit,) = blocks("ini", PAGE)
        name = re.search(r"^LoadCredential=(\S+?):", unit, re.M)[1]
        credentials = self.folder / "credentials"
        credentials.mkdir()
        (credentials / name).write_text(KEY + "\n")
        (credentials / name).chmod(0o400)
        credentials.chmod(0o500)
        variables = dict(re.findall(r"^Environment=(\w+)=(\S+)$", unit, re.M))
        self.assertEqual(set(variables), {"SPIKE_APPLICATION_ID", "SPIKE_HMAC_KEY_FILE"})
        self.env["SPIKE_APPLICATION_ID"] = variables["SPIKE_APPLICATION_ID"]
        self.check_token(variables["SPIKE_HMAC_KEY_FILE"].replace("%d", str(credentials)))

    def test_the_template_makes_the_key_and_nothing_else(self):
        (template,) = blocks("hcl", PAGE)
        values = dict(re.findall(r'^  (\w+) += (".*")$', template, re.M))
        self.assertEqual(json.loads(values["destination"]), f"{SECRETS}/spike-hmac-key")
        said = run_go(TEMPLATE, {"CONTENTS": json.loads(values["contents"]), "KEY": KEY})
        self.assertEqual(said, KEY)


class Aws(Guide):
    def setUp(self):
        super().setUp()
        programs, self.secrets = self.folder / "bin", self.folder / "secrets"
        programs.mkdir()
        self.secrets.mkdir()
        (programs / "aws").write_text(AWS)
        (programs / "aws").chmod(0o755)
        self.env.update(PATH=f"{programs}:{os.environ['PATH']}", SECRETS=str(self.secrets))
        self.job = self.commands("umask 077\nnew=")

    def check_job(self, query: str, secret: str, job: str) -> None:
        (self.secrets / query).write_text(secret)
        run("sh", "-euc", job, env=self.env)
        self.assertEqual(self.key_file.stat().st_mode & 0o777, 0o600)
        self.check_token(self.key_file)

    def test_a_text(self):
        self.check_job("SecretString", KEY, self.job)

    def test_json(self):
        (pipe,) = re.findall(r"`(\| python3 -c .*)`", PAGE)
        self.check_job("SecretString", json.dumps({"hmac_key": KEY}), self.job.replace("> $new", f"{pipe} > $new"))

    def test_a_binary_secret(self):
        (query,) = re.findall(r"`(--query SecretBinary .*) > \$new`", PAGE)
        self.check_job("SecretBinary", base64.b64encode(KEY.encode()).decode(),
                       self.job.replace("--query SecretString --output text", query))

    def test_a_job_that_gets_no_key_leaves_the_file(self):
        """aws fails; it prints None, because the secret has no string; the string is empty."""
        self.write_key(KEY)
        for secret in (None, "SecretBinary", "SecretString"):
            with self.subTest(secret):
                if secret:
                    (self.secrets / secret).touch()
                with self.assertRaisesRegex(AssertionError, "exited with 1"):
                    run("sh", "-c", self.job, env=self.env)
                self.assertEqual(self.key_file.read_text(), KEY)


if __name__ == "__main__":
    unittest.main()
