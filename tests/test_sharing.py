"""The files, settings and programs of docs/sharing.md, with a Redis and a Valkey."""

import re
import shutil
import textwrap
import unittest
from contextlib import ExitStack
from pathlib import Path

from support.pages import DOCS, blocks, run_go, run_python, table
from support.project import CC, HEADER, RELEASE, ROOT, clean_env, run, sandbox, scratch, settings
from support.store import Store, installed, join, store

STORE_PROGRAM = """\
#include <spike_auth.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    spike_auth_error err;
    spike_auth_stats stats;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    dup2(1, 2);
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_load_env(config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK)
        return 1;
%s
    if (spike_auth_client_get_token(client, "alice", SPIKE_AUTH_NUL_TERMINATED, NULL, token, sizeof token, &len,
                                    &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_stats(client, &stats, &err) != SPIKE_AUTH_STATUS_OK)
        return 1;
    printf("requests: %%d, from the store: %%d\\n", (int)stats.requests, (int)stats.store_hits);
    spike_auth_client_free(client);
    spike_auth_config_free(config);
    return 0;
}
"""
PYTHON_CHECK = """\
import sys
from spike_auth import Client, SpikeAuthError
sys.stderr = sys.stdout
client = Client.from_env()
%s
print(len(client.token("alice")) > 10)
"""
GO_CHECK = """\
package main

import (
	"context"
	"fmt"
	"os"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func main() {
	os.Stderr = os.Stdout
	ctx := context.Background()
	client, err := spikeauth.NewFromEnv()
	if err != nil {
		panic(err)
	}
%s
	token, err := client.Token(ctx, "alice")
	fmt.Println(len(token) > 10, err)
}
"""


@unittest.skipUnless(installed(), "no redis-server or valkey-server is here (apt-get install redis-server)")
class Sharing(unittest.TestCase):
    CONF, TLS_CONF, CLUSTER_CONF = blocks("conf", DOCS["sharing"])
    (ACL,) = blocks("acl", DOCS["sharing"])
    LOCAL_URL, REMOTE_URL = re.findall(r"^SPIKE_STORE_URL=(.*)$", blocks("sh", DOCS["sharing"])[0], re.M)
    SOCKET = re.search(r"^unixsocket (.*)$", CONF, re.M).group(1)
    USES = re.search(r" -@all (.*)\n", ACL).group(1).split()

    def setUp(self):
        self.stack = ExitStack()
        self.addCleanup(self.stack.close)
        self.folder = Path(self.stack.enter_context(scratch()))
        self.env = settings(self.stack.enter_context(sandbox()))
        source, self.program = self.folder / "store.c", self.folder / "program"
        source.write_text(STORE_PROGRAM % textwrap.indent(blocks("c", DOCS["sharing"])[0], "    "))
        warnings = ["-std=gnu11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
        run(CC, *warnings, source, f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", "-o", self.program)

    def start(self, kind: str, transport: str = "unix", *more: str, acl: str = ACL, conf: str = CONF) -> Store:
        """With the printed files, in other places."""
        users = self.folder / f"{kind}.acl"
        users.write_text(acl)
        return self.stack.enter_context(store(kind, transport, "--aclfile", str(users), *more, configuration=conf))

    def said(self, url: str, **more: str) -> str:
        return run(self.program, env=clean_env(LD_LIBRARY_PATH=str(RELEASE), **{**self.env, "SPIKE_STORE_URL": url, **more}))

    def test_what_is_printed_serves_the_processes_of_one_machine(self):
        for kind in installed():
            with self.subTest(kind):
                url = self.LOCAL_URL.replace(self.SOCKET, str(self.start(kind).socket))
                self.assertNotEqual(url, self.LOCAL_URL)
                self.assertEqual(self.said(url), "requests: 1, from the store: 0\n")
                self.assertEqual(self.said(url), "requests: 0, from the store: 1\n")

    @unittest.skipUnless(shutil.which("redis-server") and shutil.which("openssl"), "redis-server or openssl is missing")
    def test_what_is_printed_serves_other_machines_by_tls(self):
        self.shares_by_tls(self.start("redis", "tls", conf=self.CONF + self.TLS_CONF))

    def shares_by_tls(self, at: Store) -> None:
        url = re.sub(r"@.*", f"@localhost:{at.port}", self.REMOTE_URL)
        self.assertEqual(self.said(url, SPIKE_CA_FILE=str(at.ca)), "requests: 1, from the store: 0\n")
        self.assertEqual(self.said(url, SPIKE_CA_FILE=str(at.ca)), "requests: 0, from the store: 1\n")

    @unittest.skipUnless(shutil.which("redis-server") and shutil.which("openssl"), "redis-server or openssl is missing")
    def test_what_is_printed_makes_a_node_of_a_cluster(self):
        conf = self.CONF + self.TLS_CONF + self.CLUSTER_CONF.replace("tokens-1.example.com", "localhost")
        acl = self.ACL.replace("+eval", "+eval +asking").replace("user default off", "user default on nopass ~* +@all")
        at = self.start("redis", "tls", "--cluster-enabled", "yes", acl=acl, conf=conf)
        join([at])
        self.shares_by_tls(at)

    def test_the_check_in_each_language_says_what_is_wrong_and_tokens_are_fetched(self):
        c = self.said("unix:///nowhere/at/all.sock")
        self.assertTrue(c.startswith("The store cannot be used: "), c)
        wrong, env = c.splitlines()[0], {**self.env, "SPIKE_STORE_URL": "unix:///nowhere/at/all.sock"}
        python = run_python(PYTHON_CHECK % blocks("python", DOCS["sharing"])[0], env)
        self.assertEqual(python, f"{wrong}\nTrue\n")
        go = run_go(GO_CHECK % textwrap.indent(blocks("go", DOCS["sharing"])[0], "\t"), env)
        self.assertIn(wrong.rstrip("."), go)
        self.assertTrue(go.endswith("\ntrue <nil>\n"), go)

    def test_the_access_that_is_printed_is_needed(self):
        kind = installed()[0]
        self.assertIn("NOAUTH", self.said(self.start(kind).url()))
        self.assertEqual(len(self.USES), 5)
        for command in self.USES:
            with self.subTest(command):
                at = self.start(kind, acl=self.ACL.replace(f" {command}", ""))
                said = self.said(self.LOCAL_URL.replace(self.SOCKET, str(at.socket)))
                name = command.removeprefix("+").upper()
                self.assertIn(f"answered {name} with NOPERM", said)
                self.assertTrue(said.endswith("requests: 1, from the store: 0\n"), said)

    def test_the_table_of_failures_has_the_codes_and_the_page_the_counters_that_there_are(self):
        errors = (ROOT / "src" / "store" / "errors.rs").read_text()
        codes = {code for row in table("sharing", "## When it fails") for code in re.findall(r"`([A-Z]+)`", row[2])}
        self.assertGreaterEqual(len(codes), 8)
        for code in codes:
            self.assertIn(f'("{code}", ', errors)
        counters = set(re.findall(r"uint64_t (store_\w+);", HEADER.read_text()))
        self.assertEqual({name for row in table("sharing", "## Check it") for name in re.findall(r"`(\w+)`", row[0])}, counters)


if __name__ == "__main__":
    unittest.main()
