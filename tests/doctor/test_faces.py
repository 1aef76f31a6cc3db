"""What the faces make of a report, whatever is in it. Both print the same."""

import json
import re
import unittest
from pathlib import Path

from doctor.faces import CLI, HERE, SANITIZERS, WARNINGS, Face, faces_on_reports, timeless
from support.project import APPLICATION_ID, CC, KEY, SHARED, run, scratch

SETTINGS = {"SPIKE_APPLICATION_ID": APPLICATION_ID, "SPIKE_HMAC_KEY": KEY}
UNREADABLE = "the library's report cannot be read: this program and the library do not fit together\n"


def check(name: str = "connect", status: str = "ok", message: str = "127.0.0.1:4711", **more: object) -> dict:
    return {"name": name, "status": status, "ms": 1.25, "message": message, "cure": None, **more}


def report(*checks: dict, **more: object) -> dict:
    return {"version": "0.1.0", "ok": True, "cure": None, "checks": [*checks], **more}


ONE_OF_EACH = report(
    check("settings", settings=[
        {"name": "application_id", "value": "9999", "from": "SPIKE_APPLICATION_ID"},
        {"name": "base_url", "value": "https://app-api.spikeapi.com/v3", "from": "default"},
    ]),
    check("key", "warning", "27 bytes of SPIKE_HMAC_KEY, with a blank at the end", cure="Remove the blank."),
    check("connect", "failed", "Nothing listens at 127.0.0.1:4711.", ms=12345.678, cure="Start it on port 4711."),
    check("tls", "skipped", "not tried: connect failed", addresses=["::1", {"family": None}], days_left=-3.5e1),
    check("clock", "of the future", "who knows"),
    ok=False, cure="Start it on port 4711.",
)
TABLE = f"""\
spike_auth 0.1.0 (ABI 1), {SHARED.resolve()}

✓ settings       1.2 ms  127.0.0.1:4711
    application_id      9999                                SPIKE_APPLICATION_ID
    base_url            https://app-api.spikeapi.com/v3     default
! key            1.2 ms  27 bytes of SPIKE_HMAC_KEY, with a blank at the end
                         → Remove the blank.
✗ connect    12345.7 ms  Nothing listens at 127.0.0.1:4711.
                         → Start it on port 4711.
– tls                    not tried: connect failed
? clock          1.2 ms  who knows

Do this first (connect): Start it on port 4711.
"""
IN_ASCII = str.maketrans({"✓": "+", "✗": "x", "–": "-", "→": ">"})


class Faces(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(cls.enterClassContext(scratch()))
        cls.faces = faces_on_reports(cls.folder)

    def said(self, face: Face, content: dict | str, *options: str, **variables: str) -> tuple[int, str, str]:
        file = self.folder / f"{face.name}.json"
        file.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
        done = face.run("doctor", *options, "alice", **{**SETTINGS, "REPORT": str(file), **variables})
        return done.returncode, done.stdout, done.stderr

    def both(self, content: dict | str, *options: str, **variables: str) -> tuple[int, str]:
        """The exit code and the output, which are the same."""
        results = [self.said(face, content, *options, **variables) for face in self.faces]
        self.assertEqual(*results)
        code, printed, error = results[0]
        self.assertEqual(error, "")
        return code, printed

    # ---- the table

    def test_one_of_each(self):
        self.assertEqual(self.both(ONE_OF_EACH), (1, TABLE))

    def test_the_locale_decides_about_characters(self):
        with_more = {**ONE_OF_EACH, "cure": "Größe → 東京 🔑"}
        table = TABLE.rpartition("Do this")[0] + "Do this first: "
        for variables, is_utf8 in [
            ({"LC_ALL": "C.UTF-8"}, True),
            ({"LC_ALL": "en_US.utf8@x"}, True),
            ({"LC_ALL": "", "LC_CTYPE": "C.UTF-8", "LANG": "C"}, True),
            ({"LC_ALL": "", "LC_CTYPE": "", "LANG": "C.UTF-8"}, True),
            ({"LC_ALL": "C"}, False),
            ({"LC_ALL": "C", "LANG": "C.UTF-8"}, False),
            ({"LC_ALL": "de_DE.ISO-8859-1"}, False),
            ({"LC_ALL": "", "LC_CTYPE": "", "LANG": "", "PYTHONCOERCECLOCALE": "0"}, False),
        ]:
            with self.subTest(**variables):
                expected = table + "Größe → 東京 🔑\n" if is_utf8 else table.translate(IN_ASCII) + "Gr??e ? ?? ?\n"
                self.assertEqual(self.both(with_more, **variables), (1, expected))

    def test_the_last_line_and_the_exit_code_follow_the_verdict(self):
        for content, code, line in [
            (report(check()), 0, "It works."),
            (report(check(), check("clock", "warning", cure="Set it.")), 0, "It works. Look at the warnings."),
            (report(check("tls", "skipped")), 0, "It works."),
            (report(check("tls", "failed", cure="Go."), ok=False, cure="Go."), 1, "Do this first (tls): Go."),
            (report(check("tls", "failed", cure="Go."), ok=False), 1, "Do this first: Look at what failed."),
            (report(check(), ok=False, cure="Go."), 1, "Do this first: Go."),
        ]:
            with self.subTest(line):
                found, printed = self.both(content)
                self.assertEqual((found, printed.splitlines()[-1]), (code, line))

    def test_a_message_that_is_its_own_cure_is_shown_once(self):
        both = "It failed. Try again."
        _, printed = self.both(report(check("tls", "failed", both, cure=both), ok=False, cure=both))
        self.assertEqual(printed.count(both), 2)
        self.assertTrue(printed.endswith(f"\n\nDo this first (tls): {both}\n"))

    def test_what_a_terminal_would_obey_is_not_printed(self):
        hostile = "".join(map(chr, [*range(0x20), 0x7F, *range(0x80, 0xA0), 0x200E, 0x200F, *range(0x2028, 0x202F),
                                    *range(0x2066, 0x206A)]))
        for escaped in (True, False):
            content = json.dumps(report(check(message=f"a{hostile}b", cure=hostile), cure=hostile, ok=False))
            if not escaped:  # raw bytes, of those that JSON allows
                content = re.sub(r"\\u(00[89a-f].|20..)", lambda found: chr(int(found[1], 16)), content)
            _, printed = self.both(content)
            self.assertEqual(len(printed.splitlines()), 6)
            self.assertIn(f"a{'?' * len(hostile)}b\n", printed)
            self.assertEqual([c for c in printed if c in hostile.replace("\n", "")], [])

    def test_half_a_surrogate_pair_is_no_character(self):
        _, printed = self.both(json.dumps(report(check(message="X!"))).replace("X", "\\ud83d"))
        self.assertIn("  ?!\n", printed)

    def test_the_longest_report_is_shown_whole(self):
        settings = [{"name": f"n{number}", "value": "v" * 20, "from": "default"} for number in range(100)]
        content = report(check("settings", settings=settings), *(check(f"check_{number}") for number in range(30)))
        content["cure"] = "y" * (16_383 - len(json.dumps({**content, "ok": False, "cure": ""}, ensure_ascii=False)))
        code, printed = self.both({**content, "ok": False})
        self.assertEqual((code, printed.count(content["cure"]), printed.count("v" * 20)), (1, 1, 100))

    def test_colours_are_for_terminals_only(self):
        file = self.folder / "terminal.json"
        file.write_text(json.dumps(ONE_OF_EACH))
        for face in self.faces:
            for variables, is_coloured in [({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False),
                                           ({"TERM": "dumb"}, False), ({"TERM": ""}, False)]:
                with self.subTest(face.name, **variables):
                    code, shown = face.on_terminal("doctor", "alice", **SETTINGS, REPORT=str(file), **variables)
                    self.assertEqual(code, 1)
                    self.assertEqual("\033[31m✗\033[0m connect" in shown, is_coloured)
                    self.assertEqual(re.sub(r"\033\[\d+m", "", shown), TABLE)

    # ---- JSON

    def test_json_is_the_report_and_the_librarys_path(self):
        for content in (ONE_OF_EACH, report(check(message='"\\ü\u0007'))):
            indented = "\n " + json.dumps(content, indent=1)
            for face in self.faces:
                code, printed, error = self.said(face, content, "--json")
                self.assertEqual((code, error), (0 if content["ok"] else 1, ""))
                self.assertEqual(json.loads(printed), {"library": str(SHARED.resolve()), **content})
                self.assertEqual(printed.count("\n"), 1)
                self.assertEqual(json.loads(self.said(face, indented, "--json")[1]), json.loads(printed))

    # ---- no client, and what is no report

    def test_without_a_client_the_message_is_the_cure(self):
        for variables, words in [
            ({"SPIKE_APPLICATION_ID": ""}, "SPIKE_APPLICATION_ID"),
            ({"SPIKE_API_BASE_URL": 'http://"\\\u0007'}, "SPIKE_API_BASE_URL"),
            ({"SPIKE_TIMEOUT_MS": "soon"}, "SPIKE_TIMEOUT_MS"),
            ({"SPIKE_CA_FILE": "/absent/ca.pem"}, "SPIKE_CA_FILE"),
            ({"SPIKE_HMAC_KEY_FILE": "/absent/key", "SPIKE_HMAC_KEY": KEY}, "SPIKE_HMAC_KEY_FILE"),
        ]:
            with self.subTest(**variables):
                tables, reports = [], []
                for face in self.faces:
                    code, printed, error = self.said(face, {}, **variables)
                    self.assertEqual((code, error), (1, ""))
                    tables.append(timeless(printed))
                    reports.append(json.loads(self.said(face, {}, "--json", **variables)[1]))
                    self.assertGreater(reports[-1]["checks"][0].pop("ms"), 0)
                self.assertEqual(*tables)
                self.assertEqual(*reports)
                self.assertIn(words, reports[0]["cure"])
                self.assertEqual([each["name"] for each in reports[0]["checks"]], ["settings"])
                self.assertEqual(tables[0].splitlines()[-1], f"Do this first (settings): {reports[0]['cure']}")

    def test_what_is_no_report_is_a_failure(self):
        good = check()
        for content in [
            *("{}", "[]", "null", "7", '"text"', "[" * 100_000, '{"ok":' * 50_000),
            *(report(), report("text"), report([]), report(None), report(good, ok=None), report(good, ok=1)),
            *(report(good, version=7), report(good, checks={}), report({**good, "status": 1})),
            *(report({"name": "tls", "status": "ok"}), report(check(settings=[7])), report(check(settings={}))),
            *(json.dumps(report(good)) + "x", json.dumps(report(good))[:-1], json.dumps(report(good)).replace(":", "")),
        ]:
            for face in self.faces:
                for options in ([], ["--json"]):
                    with self.subTest(str(content)[:80], face=face.name):
                        code, printed, error = self.said(face, content, *options)
                        self.assertEqual((code, printed), (1, ""))
                        self.assertRegex(error, r"\Aspike.auth: [^\n]*do not fit together\.?\n\Z")

    def test_the_reader_bears_any_text(self):
        program = self.folder / "reader"
        run(CC, *WARNINGS, *SANITIZERS, "-O1", f"-I{CLI}", HERE / "reader.c", CLI / "report.c", "-o", program)
        text = json.dumps(ONE_OF_EACH).replace("ms", "\\u006d\\u00e4") + json.dumps("\\\"/\b\f\n\r\t\u2028")
        for sample in (json.dumps(ONE_OF_EACH), text):
            self.assertEqual(run(program, input=sample, timeout=60), "1\n")


if __name__ == "__main__":
    unittest.main()
