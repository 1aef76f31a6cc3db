"""What the README and docs/ say is what there is: programs, tables, commands, links, files."""

import re
import shutil
import sys
import textwrap
import unittest
from pathlib import Path

from support.pages import DOCS, README, blocks, run_go, run_python, table
from support.project import CC, CXX, HEADER, RELEASE, ROOT, clean_env, run, sandbox, scratch, settings

PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").glob("*.md"),
    *(ROOT / "bindings").glob("*/README.md"),
    *(ROOT / "benches").glob("README.md"),
]
TEXT = HEADER.read_text()
# The comment at the top of the header.
CONVENTIONS = TEXT.partition("*/")[0]
FOLDERS = "src|cli|tests|packaging|bindings|include|docs|examples|benches|fuzz"

C_PROGRAM = """\
#include <spike_auth.h>
#include <stdio.h>
int main(void) {
    spike_auth_error err;
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    char header[SPIKE_AUTH_AUTHORIZATION_SIZE];
    size_t header_len = 0;
%s
    spike_auth_client_free(client);
    spike_auth_config_free(config);
    printf("%%.7s %%zu\\n", header, header_len);
    return header_len == 0;
}
"""
LOOP_C_PROGRAM = """\
#include <spike_auth.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>
struct user;
static void has_ended(struct user *user);
%s
static void has_ended(struct user *user) {
    char token[SPIKE_AUTH_TOKEN_SIZE];
    size_t len;
    if (spike_auth_call_get_token(user->call, token, sizeof token, &len, NULL) == SPIKE_AUTH_STATUS_OK)
        printf("%%s: %%zu\\n", user->id, len);
    spike_auth_call_free(user->call);
}
int main(void) {
    struct user users[] = {{"alice", NULL}, {"bob", NULL}};
    spike_auth_config *config = NULL;
    spike_auth_client *client = NULL;
    spike_auth_queue *queue = NULL;
    if (spike_auth_config_new(&config, NULL) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_config_load_env(config, NULL) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_client_new(config, &client, NULL) != SPIKE_AUTH_STATUS_OK ||
        spike_auth_queue_new(&queue, NULL) != SPIKE_AUTH_STATUS_OK || serve(client, queue, users, 2) != 0)
        return 1;
    spike_auth_queue_free(queue);
    spike_auth_client_free(client);
    spike_auth_config_free(config);
    return 0;
}
"""
LOOP_CPP_PROGRAM = """\
#include <spike_auth.hpp>
#include <coroutine>
#include <exception>
#include <iostream>
#include <poll.h>
static bool done = false;
struct task {
    struct promise_type {
        task get_return_object() { return {}; }
        std::suspend_never initial_suspend() noexcept { return {}; }
        std::suspend_never final_suspend() noexcept { done = true; return {}; }
        void return_void() {}
        void unhandled_exception() { std::terminate(); }
    };
};
%s
int main() {
    const spike_auth::client client(spike_auth::config().load_env());
    const spike_auth::queue queue;
    greet(client, queue, "alice");
    loop(queue, done);
}
"""
GO_PROGRAM = """\
package main

import (
	"context"
	"fmt"

	spikeauth "github.com/spike-auth/spike-auth/bindings/go"
)

func get(ctx context.Context) error {
%s
	if err == nil {
		fmt.Println(authorization[:7], len(authorization))
	}
	return err
}

func main() {
	if err := get(context.Background()); err != nil {
		panic(err)
	}
}
"""


def one_line(text: str) -> str:
    """Without where the lines of a text or of a comment end."""
    return re.sub(r"\s+(\* )?", " ", text)


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


class Readme(unittest.TestCase):
    def test_it_takes_a_minute_to_read(self):
        self.assertLessEqual(len(README.splitlines()), 120)

    def test_its_c_compiles_and_gets_a_header(self):
        with scratch() as folder, sandbox() as addresses:
            source, program = Path(folder) / "snippet.c", Path(folder) / "snippet"
            source.write_text(C_PROGRAM % textwrap.indent(blocks("c")[0], "    "))
            warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
            run(CC, *warnings, source, f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", "-o", program)
            env = clean_env(LD_LIBRARY_PATH=str(RELEASE), **settings(addresses))
            self.assertRegex(run(program, env=env), r"\ABearer  \d+\n\Z")

    def test_its_python_gets_a_header_and_what_it_replaces_gets_a_token(self):
        replaced, snippet = blocks("python")
        with sandbox() as addresses:
            said = run_python(f"{snippet}\nprint(headers['Authorization'][:7])", settings(addresses))
            self.assertEqual(said, "Bearer \n")
            url = "https://app-api.spikeapi.com/v3"
            self.assertEqual(replaced.count(url), 1)
            program = replaced.replace(url, addresses["http"]) + "\nprint(len(access_token('alice')) > 10)"
            self.assertEqual(run_python(program, settings(addresses)), "True\n")
            self.assertEqual(len(list(filter(None, replaced.splitlines()))), 10)

    def test_its_go_gets_a_header(self):
        with sandbox() as addresses:
            said = run_go(GO_PROGRAM % textwrap.indent(blocks("go")[0], "\t"), settings(addresses))
            self.assertRegex(said, r"\ABearer  \d+\n\Z")

    def test_the_whole_program_gets_a_token(self):
        with scratch() as folder, sandbox() as addresses:
            program = Path(folder) / "token"
            warnings = ["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
            source = ROOT / "examples" / "token.c"
            run(CC, *warnings, source, f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", "-o", program)
            env = clean_env(LD_LIBRARY_PATH=str(RELEASE), **settings(addresses))
            self.assertRegex(run(program, "alice", env=env), r"\Agot a token of \d+ characters twice; requests sent: 1\n\Z")
            env["SPIKE_HMAC_KEY"] = "wrong"
            with self.assertRaisesRegex(AssertionError, "SPIKE_AUTH_STATUS_UNAUTHORIZED: 401 Unauthorized"):
                run(program, "alice-in-chains", env=env)


class EventLoops(unittest.TestCase):
    """The programs of docs/event-loops.md. tests/c/run.py has the examples that it names."""

    def said(self, compiler: str, standard: str, ending: str, source: str) -> str:
        with scratch() as folder, sandbox() as addresses:
            file, program = Path(folder) / f"loop.{ending}", Path(folder) / "loop"
            file.write_text(source)
            warnings = [f"-std={standard}", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]
            run(compiler, *warnings, file, f"-I{HEADER.parent}", f"-L{RELEASE}", "-lspike_auth", "-o", program)
            return run(program, env=clean_env(LD_LIBRARY_PATH=str(RELEASE), **settings(addresses)), timeout=30)

    def test_the_epoll_loop_gets_tokens(self):
        source = blocks("c", DOCS["event-loops"])[0]
        self.assertLessEqual(len(source.splitlines()), 22)
        said = self.said(CC, "c11", "c", LOOP_C_PROGRAM % source)
        self.assertRegex("".join(sorted(said.splitlines(True))), r"\Aalice: \d+\nbob: \d+\n\Z")

    def test_the_coroutine_gets_a_header(self):
        source = blocks("cpp", DOCS["event-loops"])[0]
        self.assertLessEqual(len(source.splitlines()), 10)
        self.assertEqual(self.said(CXX, "c++20", "cpp", LOOP_CPP_PROGRAM % source), "alice: Bearer \n")


class Documentation(unittest.TestCase):
    def test_errors_has_every_status_with_its_number(self):
        rows = re.findall(r"^\| (\d+) \| `(\w+)` \| (.*) \| (.*) \|$", DOCS["errors"], re.M)
        header = re.findall(r"SPIKE_AUTH_STATUS_(\w+) = (\d+),", TEXT)
        self.assertEqual([(name, number) for number, name, _, _ in rows], header)
        for number, name, cause, cure in rows:
            self.assertTrue(cause and (cure or number == "0"), name)

    def test_configuration_has_every_setting(self):
        setters = set(re.findall(r"spike_auth_config_set_(\w+)\(struct", TEXT))
        self.assertEqual({row[0].strip("`") for row in table("configuration", "## Settings")}, setters)
        languages = table("configuration", "## The same in C, Python and Go")
        self.assertEqual({row[0].strip("`").removeprefix("spike_auth_config_set_") for row in languages}, setters)
        python = (ROOT / "bindings" / "python" / "src" / "spike_auth" / "_settings.py").read_text()
        offered = dict(re.findall(r'^    "(\w+)": \("(\w+)", ', python, re.M))
        go = (ROOT / "bindings" / "go" / "options.go").read_text()
        options = {"New", *re.findall(r"^func (With\w+)\(", go, re.M)}
        for setter, in_python, in_go in languages:
            name = re.match(r"`(\w+)`|not offered", in_python).group(1)
            self.assertEqual(offered.pop(name, None), name and setter.strip("`").removeprefix("spike_auth_config_set_"))
            self.assertIn(in_go.strip("`"), options | {"not offered"})
        self.assertEqual(offered, {})
        beside = {"WithLogger"}  # it is the binding that logs
        self.assertEqual(options - beside, {row[2].strip("`") for row in languages} - {"not offered"})

    def test_configuration_has_the_sources_defaults_and_limits(self):
        source = (ROOT / "src" / "config" / "mod.rs").read_text()
        constants = dict(re.findall(r"const (\w+): \w+ =\s+(.*);", source))
        rows = {row[0].strip("`"): row for row in table("configuration", "## Settings")}
        for constant, value, setting, said in [
            ("DEFAULT_TIMEOUT", "Duration::from_secs(10)", "timeout_ms", "10 000 ms"),
            ("TIMEOUT_MAX_MS", "600_000", "timeout_ms", "600 000 ms"),
            ("DEFAULT_CONNECT_TIMEOUT", "Duration::from_millis(3100)", "connect_timeout_ms", "3100 ms"),
            ("DEFAULT_ATTEMPTS", "3", "max_attempts", "3"),
            ("ATTEMPTS_MAX", "10", "max_attempts", "1 to 10"),
            ("DEFAULT_CONCURRENCY", "32", "max_concurrency", "32"),
            ("CONCURRENCY_MAX", "1024", "max_concurrency", "1 to 1024"),
            ("DEFAULT_CACHE_ENTRIES", "100_000", "cache_capacity", "100 000"),
            ("DEFAULT_CACHE_BYTES", "64 * 1024 * 1024", "cache_max_bytes", "64 MiB"),
            ("DEFAULT_CACHE_TTL", "Duration::from_secs(3600)", "cache_ttl_ms", "1 h"),
            ("DEFAULT_STORE_TIMEOUT", "Duration::from_millis(250)", "store_timeout_ms", "250 ms"),
            ("STORE_TIMEOUT_MAX_MS", "10_000", "store_timeout_ms", "10 000 ms"),
            ("USER_AGENT_SUFFIX_MAX", "256", "user_agent", "256"),
        ]:
            with self.subTest(constant):
                self.assertEqual(constants[constant], value)
                self.assertIn(said, " ".join(rows[setting][1:3]))

    def test_configuration_has_every_environment_variable(self):
        source = (ROOT / "src" / "config" / "environment.rs").read_text().partition("#[cfg(test)]")[0]
        read = set(re.findall(r'"(SPIKE_\w+|(?:https|all|no)_proxy|(?:HTTPS|ALL|NO)_PROXY)"', source))
        rows = table("configuration", "## Environment")
        self.assertEqual({name for row in rows for name in re.findall(r"`(\w+)`", row[0])}, read)
        for name in read:
            self.assertIn(name, CONVENTIONS + TEXT)

    def test_the_stack_that_it_and_the_header_promise_is_the_one_that_is_tested(self):
        tested = dict(re.findall(r"\b(STACK_KIB|PROMISED_KIB) = (\d+)", (ROOT / "tests" / "c" / "stack.c").read_text()))
        for text in (DOCS["behaviour"], CONVENTIONS):
            needed, enough = re.findall(r"needs up to (\d+) KiB of the stack .* a thread of (\d+) KiB is enough", one_line(text))[0]
            self.assertEqual(tested, {"PROMISED_KIB": needed, "STACK_KIB": enough})

    def test_what_a_signal_handler_may_call_is_said_once_in_the_header_and_in_the_docs(self):
        self.assertEqual(one_line(CONVENTIONS).count("A signal handler may call no function of this library"), 1)
        self.assertEqual(one_line(DOCS["behaviour"]).count("A signal handler may call nothing of the library"), 1)
        self.assertNotRegex(TEXT.removeprefix(CONVENTIONS), "signal handler")  # or one would be an exception

    def test_imports_go_one_way_as_architecture_says(self):
        order = [row[0].strip("`") for row in table("ARCHITECTURE", "## Modules")]
        modules = {path.stem for path in (ROOT / "src").iterdir()} - {"lib"}
        self.assertEqual(set(order), modules)
        for above, module in enumerate(order):
            home = ROOT / "src" / module
            for path in [*home.rglob("*.rs")] if home.is_dir() else [home.with_suffix(".rs")]:
                library, _, _tests = path.read_text().partition("#[cfg(test)]\nmod ")
                for imported in re.findall(r"\bcrate::([a-z_]+)", library):
                    if imported != module:
                        self.assertIn(imported, order[above + 1:], path)

    def test_the_oldest_rust_is_the_same_everywhere(self):
        oldest = re.search(r'^rust-version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)
        workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
        for text in [README, DOCS["install"], workflow, (ROOT / "RELEASING.md").read_text()]:
            found = re.findall(r"(?:rustup\.rs\)|toolchain install|cargo \+) ?(1\.\d+)", text)
            self.assertEqual(set(found), {oldest})

    def test_every_make_target_that_is_named_exists(self):
        files = [ROOT / "Makefile", *(ROOT / "packaging").glob("*.mk")]
        makefile = "\n".join(path.read_text() for path in files)
        for page in PAGES:
            for target in set(re.findall(r"`make ([a-z-]+)", page.read_text())):
                self.assertRegex(makefile, rf"(?m)^{target}:", f"{page}: {target}")

    def test_every_link_leads_somewhere(self):
        for page in PAGES:
            text = page.read_text()
            for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text):
                target = page.parent / path if path else page
                self.assertTrue(target.exists(), f"{page}: {path}")
                if anchor:
                    self.assertIn(anchor, anchors(target.read_text()), f"{page}: {path}#{anchor}")

    def test_lines_are_no_longer_than_130_characters(self):
        for page in PAGES:
            text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
            longest = max((line for line in text.splitlines() if not line.startswith("|")), key=len)
            self.assertLessEqual(len(longest), 130, f"{page}: {longest}")

    def test_every_file_that_is_named_exists(self):
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
            for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]*)`", page.read_text()):
                self.assertTrue((ROOT / path).exists(), f"{page}: {path}")


class Reference(unittest.TestCase):
    @unittest.skipUnless(shutil.which("doxygen"), "doxygen is missing (apt-get install doxygen)")
    def test_all_that_the_headers_declare_is_documented(self):
        """As `make docs` does it, where a warning is an error."""
        folder = self.enterContext(scratch())
        settings = (ROOT / "packaging" / "reference" / "Doxyfile").read_text()
        run("doxygen", "-", cwd=ROOT, env=clean_env(VERSION="0", PYTHON=sys.executable),
            input=f"{settings}OUTPUT_DIRECTORY = {folder}\n")
        pages = "".join(path.read_text() for path in Path(folder).rglob("*.html"))
        headers = "".join(path.read_text() for path in HEADER.parent.glob("*.h"))
        functions = set(re.findall(r"^\w[\w ]*?\*?(spike_auth_\w+)\([^{]*?\);$", headers, re.M))
        self.assertGreater(len(functions), 60)
        self.assertEqual([name for name in functions if f"{name}</" not in pages], [])


if __name__ == "__main__":
    unittest.main()
