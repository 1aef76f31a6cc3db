"""Names each missing tool, with the command that installs it, before anything is built."""

import importlib.util
import os
import shutil
import subprocess
import sys

# (program, purpose, Debian package)
REQUIRED = [
    ("cargo", "builds the library", None),
    ("cc", "compiles the C programs", "gcc"),
    ("c++", "compiles the C++ programs", "g++"),
    ("ld", "joins the archive", "binutils"),
    ("objcopy", "hides the archive's inner symbols", "binutils"),
    ("nm", "lists the exported functions", "binutils"),
    ("readelf", "looks at the shared library", "binutils"),
    ("pkg-config", "leads C compilers and Go to the library", "pkg-config"),
]
# Without these some tests are skipped, which is a failure in CI.
OPTIONAL = [
    ("clang", "the header and the C tests with a second compiler", "clang"),
    ("valgrind", "the C tests under memcheck", "valgrind"),
    ("openssl", "certificates for the TLS tests", "openssl"),
    ("nginx", "a real server as the peer of TLS", "nginx-light"),
    ("tinyproxy", "a real proxy", "tinyproxy"),
    ("unshare", "a system without a trust store", "util-linux"),
    ("node", "signatures compared with the documented Node form", "nodejs"),
    ("cmake", "the CMake package", "cmake"),
    ("php", "signatures compared with the documented PHP form", "php-cli"),
    ("redis-server", "real stores, and Celery with a real broker", "redis-server"),
    ("apache2", "the Python binding in a real server", "apache2-bin"),
]


# Headers in the place of programs.
HEADERS = [
    ("uv.h", "the example for libuv", "libuv1-dev"),
    ("boost/asio.hpp", "the example for boost::asio", "libboost-dev"),
]


def is_missing(header: str) -> bool:
    """Asks the compiler, unless that is missing itself."""
    question = f"#if !__has_include(<{header}>)\n#error\n#endif\n"
    compiler = shutil.which("c++")
    if compiler is None:
        return False
    done = subprocess.run([compiler, "-E", "-xc++", "-"], input=question, text=True, capture_output=True, check=False)
    return done.returncode != 0


def missing(tools):
    return [tool for tool in tools if shutil.which(tool[0]) is None]


def describe(tool) -> str:
    name, purpose, package = tool
    if package is None:
        return f"  {name}: {purpose}. Install Rust 1.88 or newer from https://rustup.rs"
    return f"  {name}: {purpose}. Install it with: apt-get install {package}"


def main() -> int:
    if sys.version_info < (3, 10):
        print("Python 3.10 or newer is needed. Install it with: apt-get install python3", file=sys.stderr)
        return 1
    from python import interpreters, left_out  # an older Python cannot parse it
    from servers.run import newest

    required, optional = missing(REQUIRED), missing(OPTIONAL)
    # Debian's python3 has venv without ensurepip.
    if importlib.util.find_spec("ensurepip") is None:
        required.append(("ensurepip", "makes the environment .venv", "python3-venv"))
    # It has no program that is in every user's PATH.
    if not os.path.isdir("/usr/share/i18n/charmaps"):
        optional.append(("locales", "the C tests in locales that are not UTF-8", "locales"))
    # A module of apache2, which is no program.
    if not os.path.exists("/usr/lib/apache2/modules/mod_wsgi.so"):
        optional.append(("mod_wsgi", "the Python binding in subinterpreters", "libapache2-mod-wsgi-py3"))
    if newest() is None:
        optional.append(("Python.h", "uWSGI, which is compiled", "python3-dev"))
    optional += [header for header in HEADERS if is_missing(header[0])]
    unable = [f"  {reason}" for reason in map(left_out, interpreters().values()) if reason]
    if optional or unable:
        print("Some tests will be skipped, because these tools are missing:", file=sys.stderr)
        print("\n".join([*map(describe, optional), *unable]), file=sys.stderr)
    if required:
        print("These tools are missing:", file=sys.stderr)
        print("\n".join(map(describe, required)), file=sys.stderr)
    return 1 if required or ((optional or unable) and os.environ.get("CI")) else 0


if __name__ == "__main__":
    sys.exit(main())
