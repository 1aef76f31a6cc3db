"""The Go module with its libraries, used as a user does: from a module proxy, and from a tagged commit."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import unittest
from contextlib import ExitStack
from pathlib import Path

from support.project import HEADER, ROOT, clean_env, run, sandbox, scratch, settings

from platforms.platform import BY_NAME, NATIVE, PYTHON, need

GO = os.environ.get("GO", "go")
BUILT = ROOT / "target" / "go-module"
TREE, PROXY = BUILT / "module", BUILT / "proxy"
MODULE = "github.com/spike-auth/spike-auth/bindings/go"
README = (ROOT / "bindings/go/README.md").read_text()
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
HERE, MUSL, ARM64, ARM64_MUSL = (BY_NAME[name] for name in (
    f"linux-{NATIVE}-gnu", f"linux-{NATIVE}-musl", "linux-arm64-gnu", "linux-arm64-musl"))
STATIC = ["-ldflags", "-linkmode external -extldflags -static"]
ZIP_AT_MOST = 7_000_000
TEST = """
package main

import (
	"testing"

	"%s/spikeauthtest"
)

func TestToken(t *testing.T) {
	server := spikeauthtest.NewServer(t)
	if token, err := server.Client().Token(t.Context(), "alice"); err != nil || token != server.Token("alice") {
		t.Error(token, err)
	}
}
"""


def go_env(**extra: str) -> dict[str, str]:
    """Of a user who has a C compiler, and neither pkg-config nor the library."""
    ours = {"CGO_ENABLED": "1", "CC": "gcc", "GOENV": "off", "GOFLAGS": "-mod=mod -modcacherw", "GOOS": "linux",
            "GOARCH": NATIVE, "GOPROXY": PROXY.as_uri(), "GONOSUMDB": "github.com/spike-auth", "GOTOOLCHAIN": "local",
            "GOWORK": "off", "PKG_CONFIG": "no-pkg-config", "GOMODCACHE": User.cache}
    kept = {name: value for name, value in clean_env().items() if not name.startswith(("CGO_", "GO1", "GOEXPERIMENT"))}
    return kept | ours | extra


def attempt(*command: object, cwd: Path, env: dict[str, str]) -> tuple[bool, str]:
    done = subprocess.run([str(word) for word in command], cwd=cwd, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=600, check=False)
    return done.returncode == 0, done.stdout


class User(unittest.TestCase):
    """Someone with a new module that has the README's program."""

    @classmethod
    def setUpClass(cls):
        if not TREE.is_dir():
            raise AssertionError("build it with: make go-module")
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        folder = Path(stack.enter_context(scratch()))
        cls.addresses = stack.enter_context(sandbox())
        User.cache = str(folder / "cache")
        cls.folder = folder / "user"
        cls.folder.mkdir()
        (cls.folder / "main.go").write_text(re.search(r"^```go\n(.*?)^```", README, re.M | re.S)[1])
        run(GO, "mod", "init", "example.com/user", cwd=cls.folder, env=go_env())
        run(GO, "get", f"{MODULE}@v{VERSION}", cwd=cls.folder, env=go_env())

    def build(self, *arguments: str, **env: str) -> Path:
        """Builds the program, and returns its path."""
        succeeded, said = attempt(GO, "build", "-o", "program", *arguments, cwd=self.folder, env=go_env(**env))
        self.assertTrue(succeeded, said)
        return self.folder / "program"

    def check(self, program: Path, platform=HERE) -> set[str]:
        """Gets a token with the program, and returns the libraries that it needs at run time."""
        env = clean_env(**settings(self.addresses, "https"))
        said = platform.run(program, env=env, timeout=60)
        self.assertRegex(said, r"\Areceived a header of \d+ characters\n\Z")
        return set(re.findall(r"NEEDED.*\[(.*?)\]", run("readelf", "-dW", program)))

    def refused(self, message: str, *arguments: str, **env: str) -> None:
        """Checks that the build fails with a message, which the README explains."""
        succeeded, said = attempt(GO, "build", "-o", "program", *arguments, cwd=self.folder, env=go_env(**env))
        self.assertFalse(succeeded)
        self.assertIn(message, said)
        self.assertTrue(message in README, f"the README of the binding does not explain: {message}")


class Programs(User):
    def test_go_get_and_go_build_are_enough(self):
        needed = self.check(self.build())
        self.assertIn("libc.so.6", needed)
        for library in needed:  # neither the library nor libgcc_s.so.1
            self.assertRegex(library, r"\A(lib(c|m|dl|pthread|rt|util|resolv)\.so\.\d|ld-linux-.*)\Z")

    def test_a_vendored_module_has_all_that_a_build_needs(self):
        run(GO, "mod", "vendor", cwd=self.folder, env=go_env())
        self.addCleanup(shutil.rmtree, self.folder / "vendor")
        vendored = self.folder / "vendor" / MODULE
        self.assertEqual(tree(vendored, r"lib/"), tree(TREE, r"lib/"))
        self.check(self.build("-mod=vendor", GOFLAGS="", GOPROXY="off", GOMODCACHE="/nonexistent"))

    def test_a_users_test_has_the_test_server(self):
        (self.folder / "main_test.go").write_text(TEST % MODULE)
        self.addCleanup((self.folder / "main_test.go").unlink)
        run(GO, "test", ".", cwd=self.folder, env=go_env())

    def test_static_with_musl(self):
        need("musl-gcc", "musl-tools")
        self.assertTrue(MUSL.folder.is_dir())
        self.assertEqual(self.check(self.build("-tags", "musl,netgo,osusergo", *STATIC, CC="musl-gcc")), set())

    def test_shared_with_musl(self):
        need("musl-gcc", "musl-tools")
        self.assertTrue(MUSL.folder.is_dir())
        self.assertEqual(self.check(self.build("-tags", "musl", CC="musl-gcc")), {"libc.so"})

    def test_static_with_glibc(self):
        self.assertEqual(self.check(self.build("-tags", "netgo,osusergo", *STATIC)), set())

    def test_the_race_detector(self):
        self.check(self.build("-race"))

    def test_an_installed_library(self):
        for tag, needs_it in (("spikeauth_dynamic", True), ("spikeauth_static", False)):
            with self.subTest(tag), scratch() as folder:
                (Path(folder) / "libspike_auth.so.1").symlink_to(HERE.shared)
                (Path(folder) / "libspike_auth.so").symlink_to(HERE.shared)
                (Path(folder) / "libspike_auth.a").symlink_to(HERE.archive)
                (Path(folder) / "spike_auth.pc").write_text(
                    f"Name: spike_auth\nDescription: for a test\nVersion: {VERSION}\nCflags: -I{HEADER.parent}\n"
                    f"Libs: -L{folder} -lspike_auth -Wl,-rpath,{folder}\n"
                    f"Libs.private: {(HERE.folder / 'native-static-libs').read_text()}\n")
                program = self.build("-tags", tag, PKG_CONFIG="pkg-config", PKG_CONFIG_PATH=folder)
                self.assertEqual("libspike_auth.so.1" in self.check(program), needs_it)

    def test_arm64_with_glibc(self):
        self.assertTrue(ARM64.folder.is_dir())
        self.check(self.build(GOARCH="arm64", CC=ARM64.compiler), ARM64)

    def test_arm64_static_with_musl(self):
        self.assertTrue(ARM64_MUSL.folder.is_dir())
        tags = ["-tags", "musl,netgo,osusergo", *STATIC]
        self.assertEqual(self.check(self.build(*tags, GOARCH="arm64", CC=ARM64_MUSL.compiler), ARM64_MUSL), set())

    def test_without_cgo_every_call_says_so(self):
        program = self.build(CGO_ENABLED="0")
        succeeded, said = attempt(program, cwd=self.folder, env=clean_env(**settings(self.addresses)))
        self.assertFalse(succeeded)
        self.assertIn("spikeauth: built without cgo", said)


class Refusals(User):
    def test_the_other_c_library(self):
        need("musl-gcc", "musl-tools")
        self.refused("this C library is not glibc: build with -tags musl", CC="musl-gcc")
        self.refused("-tags musl needs a C compiler for musl", "-tags", "musl")

    def test_a_platform_without_an_archive(self):
        for system, arch, triple in (("linux", "386", "x86-linux-gnu"), ("windows", "amd64", "x86_64-windows-gnu")):
            with self.subTest(system):
                compiler = f"{PYTHON} -m ziglang cc -target {triple}"
                self.refused("spikeauth has no library for this platform", GOOS=system, GOARCH=arch, CC=compiler)


def tree(folder: Path, pattern: str = "") -> dict[str, str]:
    """The files below a folder whose names match, and their digests: unittest takes minutes to show how libraries differ."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: digest(path) for name, path in sorted(files.items()) if re.match(pattern, name)}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Contents(User):
    def test_sources_libraries_and_notices_and_nothing_else(self):
        names = set(tree(TREE))
        binding = {path.name for path in (ROOT / "bindings/go").glob("*.go") if not path.name.endswith("_test.go")}
        platforms = {name.split("/")[1] for name in names if name.endswith(".a")}
        self.assertTrue(platforms)
        links = {f"link_{platform}.go" for platform in platforms} | {"link_other.go"}
        self.assertEqual({name for name in names if re.fullmatch(r"\w+\.go", name)}, binding - {"link.go"} | links)
        self.assertLessEqual({"README.md", "go.mod", "LICENSE-APACHE", "LICENSE-MIT", "THIRD_PARTY_LICENSES",
                              "spike_auth.cdx.json", "lib/spike_auth.h"}, names)
        self.assertEqual({name.split("/")[0] for name in names if "/" in name}, {"examples", "lib", "spikeauthtest"})
        double = {path.name for path in (ROOT / "bindings/go/spikeauthtest").glob("*") if not path.name.endswith("_test.go")}
        self.assertEqual({name.split("/")[1] for name in names if name.startswith("spikeauthtest/")}, double)
        self.assertEqual(digest(TREE / "lib/spike_auth.h"), digest(HEADER))
        for platform in BY_NAME.values():
            folder = f"linux_{platform.arch}" + ("_musl" if platform.libc == "musl" else "")
            with self.subTest(platform.name):
                built = digest(platform.archive)
                self.assertEqual(digest(TREE / "lib" / folder / "libspike_auth.a"), built)

    def test_each_build_has_exactly_one_file_that_links(self):
        linking = r"^(link\w*\.go)$"
        for system in ("linux", "android", "darwin", "windows"):
            for arch in ("amd64", "arm64"):
                for tags in ("", "musl", "spikeauth_dynamic", "spikeauth_static", "spikeauth_dynamic,musl",
                             "spikeauth_static,musl", "spikeauth_static,spikeauth_dynamic"):
                    with self.subTest(f"{system}/{arch} {tags}"):
                        said = run(GO, "list", "-tags", tags, "-f", '{{join .CgoFiles "\\n"}}', ".", cwd=TREE,
                                   env=go_env(GOOS=system, GOARCH=arch, GOFLAGS=""))
                        self.assertEqual(len(re.findall(linking, said, re.M)), 1, said)

    def test_it_is_small(self):
        for packed in PROXY.rglob("*.zip"):
            self.assertLessEqual(packed.stat().st_size, ZIP_AT_MOST)

    def test_the_same_inputs_give_the_same_bytes(self):
        with scratch() as folder:
            for name in ("Cargo.toml", "bindings/go", "include", "packaging", "target/platforms"):
                source, target = ROOT / name, Path(folder) / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if source.is_dir():
                    shutil.copytree(source, target, copy_function=shutil.copyfile)
                else:
                    shutil.copyfile(source, target)
            for path in ROOT.glob("LICENSE-*"):
                shutil.copyfile(path, Path(folder) / path.name)
            run(sys.executable, "-B", Path(folder) / "packaging/go-module/module.py")
            self.assertEqual(tree(Path(folder) / "target/go-module"), tree(BUILT))

    def test_the_tagged_commit_is_the_same_module(self):
        """RELEASING.md's commands make the commit, and Go gets the module from its repository."""
        block = re.search(r"^ *```sh\n( *make go-module.*?)^ *```", (ROOT / "RELEASING.md").read_text(), re.M | re.S)[1]
        commands = re.sub(r"^ *(make|git push).*\n", "", block, flags=re.M).replace("v0.1.0", f"v{VERSION}")
        commands = commands.replace("git tag -s", "git tag -a")  # no key here
        with scratch() as folder, scratch() as cache:
            git = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_CONFIG_COUNT": "3",
                   "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": "test",
                   "GIT_CONFIG_KEY_1": "user.email", "GIT_CONFIG_VALUE_1": "test@example.com",
                   "GIT_CONFIG_KEY_2": f"url.{Path(folder).as_uri()}.insteadOf",
                   "GIT_CONFIG_VALUE_2": "https://github.com/spike-auth/spike-auth"}
            env = go_env(GOPROXY="direct", GOMODCACHE=cache, **git)
            released = Path(folder) / "bindings/go"
            shutil.copytree(ROOT / "bindings/go", released)
            (Path(folder) / "target").mkdir()
            (Path(folder) / "target/go-module").symlink_to(BUILT)
            (Path(folder) / ".gitignore").write_text("/target\n")
            start = f"git init -qb main && git add -A && git commit -qm release && git tag v{VERSION}"
            run("sh", "-euc", f"{start}\n{commands}", cwd=folder, env=env)
            self.assertTrue((released / "link.go").exists(), "main goes on without the archives")
            direct = json.loads(run(GO, "mod", "download", "-json", f"{MODULE}@v{VERSION}", cwd=cache, env=env))
            served = json.loads(run(GO, "mod", "download", "-json", f"{MODULE}@v{VERSION}", cwd=cache, env=go_env()))
            self.assertEqual(direct["Sum"], served["Sum"])


if __name__ == "__main__":
    unittest.main()
