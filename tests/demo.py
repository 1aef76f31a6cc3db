"""`make demo`: a token for one user, from each language, step by step."""

import os
import sys
from contextlib import contextmanager
from pathlib import Path

from support.project import CC, CXX, RELEASE, ROOT, clean_env, counters, run, sandbox, scratch, settings

USER = "my_application_user_123"
REAL = ("SPIKE_APPLICATION_ID", "SPIKE_HMAC_KEY")


@contextmanager
def service():
    """The real service if the environment has its credentials, else a sandbox."""
    if all(os.environ.get(name) for name in REAL):
        print("SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY are set: asking the real service.\n")
        real = {name: value for name, value in os.environ.items() if name.startswith("SPIKE_")}
        yield real, None
        return
    with sandbox() as addresses:
        print(f"A sandbox stands in for the service at {addresses['https']}")
        print("(set SPIKE_APPLICATION_ID and SPIKE_HMAC_KEY to ask the real one).\n")
        yield settings(addresses, "https"), addresses


def show(title: str, compiler: str, source: Path, out: Path, env: dict[str, str]) -> None:
    link = [f"-I{ROOT / 'include'}", f"-L{RELEASE}", "-lspike_auth"]
    print(f"{title}: {source.relative_to(ROOT)}")
    print(f"  $ {compiler} {source.name} -lspike_auth -o {out.name}")
    run(compiler, source, *link, "-o", out)
    print(f"  $ ./{out.name} {USER}")
    said = run(out, USER, env=clean_env(LD_LIBRARY_PATH=str(RELEASE), **env), timeout=60)
    print("".join(f"  {line}\n" for line in said.splitlines()))


def main() -> int:
    with service() as (env, addresses), scratch() as folder:
        try:
            show("C", CC, ROOT / "examples" / "token.c", Path(folder) / "token", env)
            show("C++", CXX, ROOT / "examples" / "token.cpp", Path(folder) / "token++", env)
        except AssertionError as error:
            print(f"The demo failed:\n{error}", file=sys.stderr)
            return 1
        if addresses:
            seen = counters(addresses)
            print(f"The sandbox answered {seen['requests']} requests with {seen['tokens']} tokens.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
