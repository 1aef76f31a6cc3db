"""packaging/prerequisites.sh and what make and pip say without its tools: on systems that a folder of programs stands for."""

import os
import re
import shutil
import subprocess
import unittest
from pathlib import Path

from support.project import ROOT, clean_env, scratch

SCRIPT = ROOT / "packaging" / "prerequisites.sh"
PYTHON = ROOT / ".venv" / "bin" / "python"  # has the build's backend
MANAGERS = {"apt-get": 2, "apk": 3, "dnf": 4}  # with their column of the table
RUSTUP = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal"
INSTALLER = [RUSTUP.partition(" |")[0].replace("'", ""), "installer -y --profile minimal"]  # as the log has it
OLDEST_RUST = re.search(r'^rust-version = "(.*?)"', (ROOT / "Cargo.toml").read_text(), re.M).group(1)

# What every system has.
BASE = ("sh", "sed", "grep", "tr", "sort", "cat", "dirname", "env", "head", "awk", "mkdir", "chmod", "cp", "rm", "ln", "printf")

# Writes down how it is called; `install` and `add` make the programs of the packages.
MANAGER = """\
#!/bin/sh
echo "${0##*/} $*" >> "$LOG"
case $1 in install | add) ;; *) exit 0 ;; esac
for package; do
  case $package in
    gcc) programs=cc ;;
    binutils) programs="ld objcopy nm readelf" ;;
    g++ | gcc-c++) programs=c++ ;;
    pkg-config | pkgconf | pkgconf-pkg-config) programs=pkg-config ;;
    make | python3 | curl | cargo) programs=$package ;;
    absent) exit 1 ;;
    *) programs= ;;
  esac
  for program in $programs; do cp "$PROGRAMS/$program" "$BIN/$program"; done
done
"""
# rustup's installer, as curl prints it.
CURL = """\
#!/bin/sh
echo "curl $*" >> "$LOG"
echo 'echo "installer $*" >> "$LOG"; mkdir -p "$HOME/.cargo/bin"; cp "$PROGRAMS/cargo" "$HOME/.cargo/bin/cargo"'
"""


def table() -> list[list[str]]:
    said = subprocess.run(["sh", SCRIPT, "table"], text=True, capture_output=True, timeout=60, check=True).stdout
    return [line.split(None, 5) for line in said.splitlines() if not line.startswith("#")]


TABLE = table()


class System:
    """A folder of programs as PATH, and a home."""

    def __init__(self, folder: str, manager: str | None = None, uid: int = 0):
        self.folder = Path(folder)
        self.bin, self.home, self.log = self.folder / "bin", self.folder / "home", self.folder / "log"
        self.programs = self.folder / "programs"
        for each in (self.bin, self.home, self.programs):
            each.mkdir()
        self.log.touch()
        for name in BASE:
            os.symlink(shutil.which(name), self.bin / name)
        self.add("id", f"#!/bin/sh\necho {uid}\n")
        if manager:
            self.add(manager, MANAGER)
        for name in ("cc", "c++", "ld", "objcopy", "nm", "readelf", "pkg-config", "make", "advzip", "doxygen", "npm", "dpkg-deb",
                     "aarch64-linux-gnu-ld"):
            self.write(self.programs / name, "#!/bin/sh\n")
        # Each answer of these two is 3.11, or yes.
        self.write(self.programs / "python3", "#!/bin/sh\necho 3.11\n")
        self.write(self.programs / "cargo", "#!/bin/sh\necho cargo 1.99.0\n")
        self.write(self.programs / "curl", CURL)

    @staticmethod
    def write(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def add(self, name: str, text: str | None = None) -> None:
        if text is None:
            shutil.copy(self.programs / name, self.bin / name)
        else:
            self.write(self.bin / name, text)

    def complete(self) -> None:
        for each in self.programs.iterdir():
            self.add(each.name)

    def env(self, **more: str) -> dict[str, str]:
        own = {"PATH": str(self.bin), "HOME": str(self.home), "BIN": str(self.bin), "LOG": str(self.log)}
        env = clean_env(**own, PROGRAMS=str(self.programs))
        for name in ("CARGO", "CARGO_HOME", "PYTHON", "CI", "SUDO_USER", "MAKEFLAGS", "MAKELEVEL", "MAKEOVERRIDES"):
            env.pop(name, None)
        return env | more

    def said(self, *arguments: str, shell: tuple[str, ...] = ("sh",), **more: str) -> tuple[int, str]:
        command = [shutil.which(shell[0]), *shell[1:], SCRIPT, *arguments]
        done = subprocess.run(command, env=self.env(**more), text=True, stdin=subprocess.DEVNULL, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout

    def logged(self) -> list[str]:
        return self.log.read_text().splitlines()


class OnASystem(unittest.TestCase):
    def system(self, manager: str | None = "apt-get", uid: int = 0) -> System:
        folder = scratch()
        self.addCleanup(folder.cleanup)
        return System(folder.name, manager, uid)


class Check(OnASystem):
    def test_a_bare_system_is_told_each_tool_its_purpose_and_the_cure(self):
        for manager, column in MANAGERS.items():
            system = self.system(manager)
            code, said = system.said("check", "demo")
            self.assertEqual(code, 1)
            for row in TABLE:
                name, kind, package, purpose = row[0], row[1], row[column], row[5]
                line = next((line for line in said.splitlines() if line.startswith(f"  {name}: ")), None)
                self.assertEqual(line is not None, kind in {"compile", "build", "link", "venv", "demo"}, f"{manager}: {row}")
                if line:
                    cure = RUSTUP if package == "rustup" else f"{manager} {'add' if manager == 'apk' else 'install'} {package}"
                    self.assertIn(f"{purpose}. Install it with: {cure}", line)
            self.assertIn("make setup installs what can be had.", said)
            self.assertEqual(system.logged(), [])

    def test_each_shell_says_the_same(self):
        shells = [shell for shell in (("dash",), ("bash", "--posix"), ("busybox", "sh")) if shutil.which(shell[0])]
        system = self.system("dnf")
        answers = {system.said(*arguments, shell=shell)
                   for arguments in [("check", "demo")] for shell in [("sh",), *shells]}
        self.assertEqual(len(answers), 1, answers)

    def test_a_complete_system_is_told_nothing(self):
        system = self.system()
        system.complete()
        for goal in ("pip", "build", "go", "venv", "wheel", "dist", "demo", "docs", "engines", "fuzz"):
            self.assertEqual(system.said("check", goal), (0, ""), goal)

    def test_what_is_too_old_is_named_with_its_version_and_the_one_that_is_needed(self):
        system = self.system()
        system.complete()
        major, minor = map(int, OLDEST_RUST.split("."))
        for version, says in [
            ("1.65.0", "is version 1.65"),
            (f"{major}.{minor - 1}.1", f"is version {major}.{minor - 1}"),
            (f"{major}.{minor}.0", None),
            (f"{major}.{minor}.0-nightly (0123abc 2025-06-26)", None),
            ("2.0.0", None),
        ]:
            system.add("cargo", f"#!/bin/sh\necho 'cargo {version}'\n")
            code, said = system.said("check", "build")
            self.assertEqual(code, int(bool(says)), said)
            if says:
                self.assertIn(f"{system.bin}/cargo {says}; Rust {OLDEST_RUST} or newer is needed. Install it with: {RUSTUP}", said)
        system.add("cargo", "#!/bin/sh\nexit 1\n")  # as rustup's without a toolchain
        system.add("rustup", "#!/bin/sh\n")
        self.assertIn("is version unknown; Rust", system.said("check", "build")[1])
        self.assertIn("Install it with: rustup toolchain install --profile minimal stable", system.said("check", "build")[1])
        system.add("cargo")
        system.add("python3", "#!/bin/sh\necho 3.9\n")
        self.assertIn("python3 is version 3.9; Python 3.10 or newer is needed.", system.said("check", "wheel")[1])
        self.assertEqual(system.said("check", "build"), (0, ""))
        self.assertEqual(system.said("check", "wheel", PYTHON=str(system.programs / "python3")), (0, ""))

    def test_optional_tools_are_named_and_missing_only_in_ci(self):
        system = self.system()
        system.complete()
        code, said = system.said("check", "test")
        self.assertEqual(code, 0, said)
        self.assertIn("Some tests will be skipped, because this is missing:\n  clang: ", said)
        self.assertNotIn("\nThis is missing:", said)
        self.assertEqual(system.said("check", "test", CI="true"), (1, said))

    def test_a_cargo_that_is_not_in_the_path_is_named(self):
        system = self.system()
        system.complete()
        (system.home / ".cargo" / "bin").mkdir(parents=True)
        (system.bin / "cargo").rename(system.home / ".cargo" / "bin" / "cargo")
        cure = f'That of rustup is in {system.home}/.cargo/bin. Put it first: export PATH="{system.home}/.cargo/bin:$PATH"\n'
        self.assertIn(cure, system.said("check", "pip")[1])
        self.assertIn('sudo env "PATH=$PATH"', system.said("check", "pip", SUDO_USER="somebody")[1])
        system.add("cargo", "#!/bin/sh\necho cargo 1.65.0\n")
        self.assertIn(cure, system.said("check", "pip")[1])

    def test_a_goal_that_it_does_not_know_is_an_error(self):
        for arguments in (["check", "tset"], ["setup", "tset"], ["setup", "--dry-run", "tset"]):
            self.assertEqual(self.system().said(*arguments), (2, "prerequisites.sh does not know the goal tset.\n"))


class Setup(OnASystem):
    def test_it_says_what_it_does_does_it_and_then_has_nothing_to_do(self):
        for manager, verb in [("apt-get", "install -y --no-install-recommends"), ("apk", "add"), ("dnf", "install -y")]:
            system = self.system(manager)
            code, plan = system.said("setup", "--dry-run", "demo")
            self.assertEqual((code, system.logged()), (0, []), plan)
            code, said = system.said("setup", "demo")
            self.assertEqual(code, 0, said)
            self.assertTrue(said.startswith(plan), said)
            update, installed, *rust = system.logged() if manager == "apt-get" else ["", *system.logged()]
            self.assertEqual(update, "apt-get update" if manager == "apt-get" else "")
            self.assertTrue(installed.startswith(f"{manager} {verb} "), installed)
            column = MANAGERS[manager]
            by_rustup = manager == "apt-get"  # Debian's Rust is too old
            kinds = {"compile", "build", "link", "venv", "demo", *(["rust"] if by_rustup else [])}
            wanted = {row[column] for row in TABLE if row[1] in kinds}
            offered = {row[column] for row in TABLE if row[1] in {"fetch"}}  # it may be here
            packages = {*installed.removeprefix(f"{manager} {verb} ").split()}
            self.assertEqual(packages - offered, wanted - {"rustup"})
            if by_rustup:
                self.assertEqual(rust, INSTALLER)
                self.assertIn(f". {system.home}/.cargo/env", said)
            else:
                self.assertEqual(rust, [])
            before = system.logged()
            self.assertEqual(system.said("setup", "demo"), (0, "Nothing to install for make demo.\n"))
            self.assertEqual(system.logged(), before)

    def test_rustup_follows_where_the_systems_rust_is_too_old(self):
        system = self.system("apk")
        system.complete()
        (system.bin / "cargo").unlink()
        (system.bin / "curl").unlink()
        new = (system.programs / "cargo").read_text()
        system.write(system.programs / "cargo", "#!/bin/sh\necho cargo 1.65.0\n")
        system.add("curl", CURL.replace('cp "$PROGRAMS/cargo"', 'cp "$PROGRAMS/newer"'))
        system.write(system.programs / "newer", new)
        code, said = system.said("setup", "demo")
        self.assertEqual(code, 0, said)
        self.assertEqual(system.logged(), ["apk add cargo", *INSTALLER])

    def test_optional_packages_that_a_release_does_not_have_are_left_out(self):
        system = self.system("apk")
        system.complete()
        system.add("apk", MANAGER.replace("absent)", "valgrind)"))
        code, said = system.said("setup", "test")
        self.assertEqual(code, 0, said)
        self.assertEqual(said.count("Left out: "), 1)
        self.assertIn("Left out: valgrind. Some tests will be skipped.", said)
        self.assertIn("apk add clang", system.logged())

    def test_sudo_is_used_for_packages_only(self):
        system = self.system(uid=1000)
        system.add("sudo", '#!/bin/sh\necho "sudo $*" >> "$LOG"\n"$@"\n')
        code, said = system.said("setup", "demo")
        self.assertEqual(code, 0, said)
        self.assertEqual([line.split()[0] for line in system.logged()],
                         ["sudo", "apt-get", "sudo", "apt-get", "curl", "installer"])

    def test_without_root_and_sudo_it_prints_the_commands_and_changes_nothing(self):
        system = self.system(uid=1000)
        code, said = system.said("setup", "demo")
        self.assertEqual(code, 1)
        self.assertIn("  apt-get update\n  env DEBIAN_FRONTEND=noninteractive apt-get install -y ", said)
        self.assertIn("Let root run these commands, then run make setup again.", said)
        self.assertEqual(system.logged(), [])

    def test_rust_is_not_installed_for_root_under_sudo(self):
        system = self.system()
        code, said = system.said("setup", "demo", SUDO_USER="somebody")
        self.assertEqual((code, system.logged()), (1, []))
        self.assertIn("Run make setup without sudo", said)

    def test_a_rustup_that_is_here_gets_a_toolchain_for_this_checkout(self):
        system = self.system()
        system.complete()
        system.add("cargo", "#!/bin/sh\necho cargo 1.65.0\n")
        system.add("rustup", '#!/bin/sh\necho "rustup $*" >> "$LOG"\ncp "$PROGRAMS/cargo" "$BIN/cargo"\n')
        code, said = system.said("setup", "demo")
        self.assertEqual(code, 0, said)
        self.assertEqual([line for line in system.logged() if "rustup" in line],
                         ["rustup toolchain install --profile minimal stable", "rustup override set stable"])

    def test_an_installation_that_does_not_help_is_a_failure(self):
        system = self.system()
        system.complete()
        (system.bin / "cargo").unlink()
        system.add("curl", "#!/bin/sh\nexit 6\n")  # without a network
        code, said = system.said("setup", "demo")
        self.assertEqual(code, 1)
        self.assertIn("This is missing:\n  cargo: ", said)

    def test_what_no_package_offers_is_said_at_the_end(self):
        system = self.system("apk")
        system.complete()
        code, said = system.said("setup", "test")
        self.assertEqual(code, 0, said)
        self.assertIn("  php: signatures compared with the documented PHP form. No package of it is known here.\n", said)

    def test_an_unknown_system_is_told_what_to_install(self):
        system = self.system(None)
        code, said = system.said("setup", "demo")
        self.assertEqual(code, 1)
        self.assertIn("c++: compiles C++. No package of it is known here.", said)
        self.assertIn("none of apt-get, apk and dnf", said)


class Make(OnASystem):
    """The real make and the real tools, with another cargo."""

    def make(self, *arguments: str, **more: str) -> tuple[int, str]:
        env = self.system().env(PATH=os.environ["PATH"])
        done = subprocess.run(["make", "-C", ROOT, *arguments], env=env | more, text=True, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        return done.returncode, done.stdout

    def test_each_goal_names_an_old_cargo_before_it_builds(self):
        system = self.system()
        cargo = system.bin / "cargo"
        system.add("cargo", '#!/bin/sh\necho "cargo $*" >> "$LOG"\necho cargo 1.65.0\n')
        for goal in ("all", "shared", "static", "install", "portable", "wheel", "dist", "go", "sandbox", "demo", "fuzz",
                     "test"):
            code, said = self.make(goal, f"CARGO={cargo}", f"DESTDIR={system.folder}/stage", LOG=str(system.log))
            self.assertNotEqual(code, 0, goal)
            self.assertIn(f"{cargo} is version 1.65; Rust {OLDEST_RUST} or newer is needed.", said, goal)
            self.assertEqual({*system.logged()}, {"cargo --version"}, goal)

    def test_it_finds_a_cargo_that_rustup_has_just_installed_and_keeps_the_order_of_a_path_that_has_it(self):
        system = self.system()
        cargo = system.home / ".cargo" / "bin" / "cargo"
        cargo.parent.mkdir(parents=True)
        system.write(cargo, "#!/bin/sh\necho cargo 1.65.0\n")
        without = os.pathsep.join(each for each in os.environ["PATH"].split(os.pathsep) if not each.endswith(".cargo/bin"))
        self.assertIn(f"{cargo} is version 1.65", self.make("needs-build", HOME=str(system.home), PATH=without)[1])
        system.add("cargo", "#!/bin/sh\necho cargo 1.99.0\n")
        path = os.pathsep.join([str(system.bin), without, str(cargo.parent)])
        self.assertEqual(self.make("--silent", "needs-build", HOME=str(system.home), PATH=path)[0], 0)

    def test_other_goals_wait_for_setup(self):
        code, said = self.make("--dry-run", "-j8", "setup", "needs-demo")
        self.assertEqual(code, 0, said)
        self.assertLess(said.index("prerequisites.sh setup"), said.index("prerequisites.sh check demo"))


@unittest.skipUnless((ROOT / ".venv" / "python").exists(), "the environment .venv is missing (make python)")
class Pip(OnASystem):
    """pip with the real Python, and the tools of a system."""

    def refusal(self, system: System, **more: str) -> str:
        command = [PYTHON, "-m", "pip", "--quiet", "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", system.folder,
                   ROOT / "bindings" / "python"]
        done = subprocess.run(command, env=system.env(**more), text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=120, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn("Traceback", done.stdout)
        self.assertEqual([line for line in system.logged() if "rustc" in line], [])
        return done.stdout

    def test_what_a_build_lacks_is_named_without_a_traceback(self):
        system = self.system()
        said = self.refusal(system)
        for name in ("cargo", "cc", "stdio.h", "ld"):
            self.assertIn(f"  {name}: ", said)
        self.assertNotIn("  pkg-config: ", said)  # the wheel needs none
        system.complete()
        system.add("cargo", '#!/bin/sh\necho "cargo $*" >> "$LOG"\necho cargo 1.65.0\n')
        self.assertIn(f"is version 1.65; Rust {OLDEST_RUST} or newer is needed. Install it with: ", self.refusal(system))

    def test_a_build_that_fails_or_a_library_that_is_absent_ends_without_a_traceback(self):
        system = self.system()
        system.complete()
        system.add("cargo", '#!/bin/sh\ncase $1 in --version) echo cargo 1.99.0 ;; *) echo why it failed && exit 101 ;; esac\n')
        said = self.refusal(system)
        self.assertIn("why it failed", said)
        self.assertIn("cargo could not build the library.", said)
        said = self.refusal(system, SPIKE_AUTH_WHEEL_LIBRARY="/absent/library.so")
        self.assertIn("SPIKE_AUTH_WHEEL_LIBRARY names /absent/library.so, which is no file.", said)


class Packages(unittest.TestCase):
    def test_each_row_has_all_columns_and_no_name_stands_twice(self):
        for row in TABLE:
            self.assertEqual(len(row), 6, row)
        names = [row[0] for row in TABLE]
        self.assertEqual(len(names), len({*names}))

    def test_the_packages_that_skipped_tests_name_are_in_the_table(self):
        known = {row[2] for row in TABLE}
        known |= {"libpython3-stdlib", "apt"}  # a part of python3; what installs the others
        files = [path for pattern in ("tests/**/*.py", "bindings/**/*_test.go", "bindings/**/tests/*.py")
                 for path in ROOT.glob(pattern) if path != Path(__file__)]
        named = {(path, package) for path in files
                 for package in re.findall(r'(?:apt-get install |\bneed\("[\w.-]+", ")([\w.+-]*\w)', path.read_text())}
        self.assertTrue(named)
        self.assertEqual({(path.name, package) for path, package in named if package not in known}, set())


if __name__ == "__main__":
    unittest.main()
