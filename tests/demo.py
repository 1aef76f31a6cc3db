"""`make demo`: gets a token for one user from each language, step by step."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from support.project import CC, CXX, RELEASE, ROOT, SHARED, clean_env, counters, run, sandbox, scratch, settings
from support.store import installed, server, store

USER = "my_application_user_123"
REAL = ("SPIKE_APPLICATION_ID", "SPIKE_HMAC_KEY")


@contextmanager
def service():
    """The real service if its credentials are in the environment, else a sandbox."""
    if all(os.environ.get(name) for name in REAL):
        print("SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY are set: asking the real service.\n")
        real = {name: value for name, value in os.environ.items() if name.startswith("SPIKE_")}
        yield real, None
        return
    with sandbox() as addresses:
        print(f"Asking a sandbox on this machine, {addresses['https']}.")
        print("Set SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY to ask the real service.\n")
        yield settings(addresses, "https"), addresses


def show(title: str, source: Path, typed: list[str], program: list[object], env: dict[str, str]) -> None:
    """Shows what a user would type, and runs the program."""
    print(f"{title}: {source.relative_to(ROOT)}")
    for line in typed:
        print(f"  $ {line}")
    output = run(*program, USER, env=clean_env(**env), timeout=60)
    # The token may be a real one, and terminals are logged.
    output = re.sub(r"(?<=Bearer )\S+", lambda token: f"[a token of {len(token[0])} characters]", output)
    print("".join(f"  {line}\n" for line in output.splitlines()))


def compiled(title: str, compiler: str, name: str, folder: Path, env: dict[str, str]) -> None:
    source, out = ROOT / "examples" / name, folder / name.replace(".", "-")
    run(compiler, source, f"-I{ROOT / 'include'}", f"-L{RELEASE}", "-lspike_auth", "-o", out)
    typed = [f"{compiler} {name} -lspike_auth -o {source.stem}", f"./{source.stem} {USER}"]
    show(title, source, typed, [out], {"LD_LIBRARY_PATH": str(RELEASE), **env})


def python(env: dict[str, str]) -> None:
    binding = ROOT / "bindings" / "python"
    source = binding / "examples" / "script.py"
    typed = ["pip install bindings/python", f"python {source.name} {USER}"]
    # The package and the library are used from this checkout instead of being installed.
    uninstalled = {"PYTHONPATH": str(binding / "src"), "SPIKE_AUTH_LIBRARY": str(SHARED)}
    show("Python", source, typed, [sys.executable, "-B", source], {**uninstalled, **env})


def go(folder: Path, env: dict[str, str]) -> None:
    binding, tool = ROOT / "bindings" / "go", os.environ.get("GO", "go")
    source, out = binding / "examples" / "command" / "main.go", folder / "command"
    linked = {"PKG_CONFIG_PATH": str(ROOT / "target" / "go"), "GOFLAGS": "", "GOWORK": "off", "GOTOOLCHAIN": "local"}
    run(tool, "build", "-o", out, source.parent, cwd=binding, env=clean_env(**linked))
    typed = ["make go && export PKG_CONFIG_PATH=$PWD/target/go", f"cd bindings/go && go run ./examples/command {USER}"]
    show("Go", source, typed, [out], env)


def shared(folder: Path, env: dict[str, str]) -> None:
    """Eight processes ask for one user at the same time; one of them sends a request."""
    kinds = installed()
    if not kinds:
        print("No redis-server or valkey-server is here, so tokens of several processes are not shown.\n")
        return
    name, source, many = Path(server(kinds[0])).name, ROOT / "examples" / "token.c", 8
    print(f"C, {many} processes that share their tokens: {source.relative_to(ROOT)}")
    print(f"  $ {name} --port 0 --unixsocket /tmp/store.sock &")
    print("  $ export SPIKE_STORE_URL=unix:///tmp/store.sock")
    print(f"  $ for i in $(seq {many}); do ./token {USER} & done; wait")
    with store(kinds[0]) as running:
        own = {name: value for name, value in env.items() if not name.startswith("SPIKE_STORE_")}
        own |= {"LD_LIBRARY_PATH": str(RELEASE), "SPIKE_STORE_URL": running.url()}
        command, files = [folder / "token-c", USER], {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        processes = [subprocess.Popen(command, env=clean_env(**own), text=True, **files) for _ in range(many)]
        outputs = [process.communicate(timeout=60)[0] for process in processes]
    found = [re.fullmatch(r"(got .* twice); requests sent: (\d+)\n", output) for output in outputs]
    if not all(found):
        raise AssertionError("".join(outputs))
    print("".join(f"  {one[1]}\n" for one in found), end="")
    sent = sum(int(one[2]) for one in found)
    print(f"  requests sent: {sent}\n")
    if sent != 1:
        raise AssertionError("The processes did not share one exchange.")


def main() -> int:
    with service() as (env, addresses), scratch() as folder:
        try:
            compiled("C", CC, "token.c", Path(folder), env)
            compiled("C++", CXX, "token.cpp", Path(folder), env)
            if addresses:  # the real service is not asked for a thousand users
                compiled("C, a thousand users on one thread", CC, "epoll.c", Path(folder), env)
            python(env)
            go(Path(folder), env)
            shared(Path(folder), env)
        except AssertionError as error:
            print(f"The demo failed:\n{error}", file=sys.stderr)
            return 1
        if addresses:
            counted = counters(addresses)
            print(f"The sandbox answered {counted['requests']} requests with {counted['tokens']} tokens.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
