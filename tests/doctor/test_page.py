"""docs/doctor.md: its picture, its programs and its table are what there is."""

import json
import re
import textwrap
import unittest
from pathlib import Path

from doctor.faces import LINK, WARNINGS, Face, real_faces
from doctor.picture import PICTURE, shot, svg, words
from support.pages import DOCS, blocks, run_python, table
from support.project import CC, run, sandbox, scratch, settings
from support.store import installed, store

PAGE = DOCS["doctor"]
C_PROGRAM = """\
#include <spike_auth.h>
#include <stdio.h>
int main(void) {
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    if (spike_auth_config_new(&config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_load_env(config, &err) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, &err) != SPIKE_AUTH_STATUS_OK)
        return 1;
%s
    spike_auth_client_free(client);
    spike_auth_config_free(config);
}
"""


class Page(unittest.TestCase):
    def test_the_picture_shows_what_the_program_prints(self):
        self.assertEqual(words(PICTURE.read_text()), words(svg(shot())), "make picture")
        self.assertLess(PICTURE.stat().st_size, 8000)
        self.assertIn(f"]({PICTURE.name})", PAGE)

    @unittest.skipUnless(installed(), "no redis-server or valkey-server is here (apt-get install redis-server)")
    def test_each_check_and_each_of_its_members_is_described(self):
        described = {row[0].strip("`"): set(re.findall(r"`(\w+)`", row[2])) for row in table("doctor", "## The report")}
        with sandbox() as service, store(installed()[0], "tcp") as at:
            env = {**settings(service, "https"), "SPIKE_STORE_URL": at.url()}
            report = json.loads(real_faces()[0].run("doctor", "--json", "alice", **env).stdout)
        self.assertEqual([*described], [check["name"] for check in report["checks"]])
        common = {"name", "status", "ms", "message", "cure"}
        for check in report["checks"]:
            members = {*check, *(member for setting in check.get("settings", []) for member in setting)}
            self.assertEqual(described[check["name"]] - common, members - common)
        for member in {*report, *common}:
            self.assertIn(f"`{member}`", PAGE)

    def test_its_commands(self):
        lines = blocks("sh", PAGE)[0].splitlines()
        starts = ["spike-auth doctor ", "python -m spike_auth doctor "]
        for face, line, start in zip(real_faces(), lines, starts, strict=True):
            self.assertTrue(line.startswith(start), line)
            arguments = line.removeprefix(start).partition("#")[0].split()
            with sandbox() as service:
                done = face.run("doctor", *arguments, **settings(service))
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertTrue(done.stdout.endswith("\n\nIt works.\n"), done.stdout)

    def test_its_programs(self):
        source = blocks("c", PAGE)[0]
        with scratch() as folder, sandbox() as service:
            file, program = Path(folder) / "program.c", Path(folder) / "program"
            file.write_text(C_PROGRAM % textwrap.indent(source, "    "))
            run(CC, *WARNINGS, file, *LINK, "-o", program)
            env = settings(service)
            said = run(program, env=Face("", [], **env).env())
            self.assertTrue(json.loads(said)["ok"], said)
            wrong = {**env, "SPIKE_HMAC_KEY": "wrong"}
            cure = json.loads(run(program, env=Face("", [], **wrong).env()))["cure"]
            snippet = blocks("python", PAGE)[0]
            self.assertEqual(run_python(snippet, wrong), f"{cure}\n")
            self.assertEqual(run_python(snippet, env), "None\n")


if __name__ == "__main__":
    unittest.main()
