"""`make dist`: packs what is in target/platforms into target/dist, and writes SHA256SUMS there.

    dist.py PLATFORM...

Same inputs, same bytes: entries are sorted, belong to root, and have the time of the commit (SOURCE_DATE_EPOCH).
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGING = ROOT / "packaging"
NOTICES = PACKAGING / "notices"
PLATFORMS = ROOT / "target" / "platforms"
DIST = ROOT / "target" / "dist"
VERSION = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]


@dataclass(frozen=True)
class Platform:
    name: str
    wheel: str
    needs: str
    # Debian's names of the architecture and of its folder of libraries; None where there is no Debian package.
    debian: tuple[str, str] | None = None

    @property
    def built(self) -> Path:
        return PLATFORMS / self.name


DEBIAN = ("libspike-auth1", "libspike-auth-dev", "spike-auth")
GLIBC, MUSL = "glibc 2.17 or newer", "musl 1.2 or newer"
ALL = [
    Platform("linux-amd64-gnu", "manylinux_2_17_x86_64.manylinux2014_x86_64", GLIBC, ("amd64", "x86_64-linux-gnu")),
    Platform("linux-arm64-gnu", "manylinux_2_17_aarch64.manylinux2014_aarch64", GLIBC, ("arm64", "aarch64-linux-gnu")),
    Platform("linux-amd64-musl", "musllinux_1_2_x86_64", MUSL),
    Platform("linux-arm64-musl", "musllinux_1_2_aarch64", MUSL),
]


def epoch() -> int:
    """The time that all files get: the commit's, or that of the oldest zip without a commit."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    command = ["git", "-C", ROOT, "log", "-1", "--format=%ct"]
    asked = subprocess.run(command, capture_output=True, text=True, check=False)
    return int(asked.stdout) if asked.stdout.strip() else 315532800


def run(*command: object, **env: object) -> None:
    env = {**os.environ, **{name: str(value) for name, value in env.items()}}
    done = subprocess.run([str(part) for part in command], env=env, cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}")


def fill(template: str, **values: object) -> str:
    text = (PACKAGING / template).read_text()
    for name, value in values.items():
        text = text.replace(f"@{name}@", str(value))
    return text


def place(platform: Platform, stage: Path, prefix: str, libdir: str) -> None:
    """Lays out the libraries as `make install` does."""
    built = platform.built
    run("make", "place", f"DESTDIR={stage}", f"PREFIX={prefix}", f"LIBDIR={prefix}/{libdir}",
        f"INCLUDEDIR={prefix}/include", f"SHARED={built / 'libspike_auth.so'}",
        f"ARCHIVE={built / 'libspike_auth.a'}", f"NATIVE={built / 'native-static-libs'}",
        f"PROGRAM={built / 'spike-auth'}")


def copy(sources: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        shutil.copy(source, folder)


def move(sources: list[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for source in sources:
        source.rename(folder / source.name)


def settle(folder: Path) -> list[Path]:
    """All below the folder, sorted, with permissions and times that do not depend on this machine."""
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)
    return paths


def tarball(platform: Platform, scratch: Path) -> None:
    name = f"spike_auth-{VERSION}-{platform.name}"
    top = scratch / name
    place(platform, top, "/.", "lib")
    copy([platform.built / "spike-auth-sandbox"], top / "bin")
    licences = sorted(ROOT.glob("LICENSE-*"))
    copy([*licences, *NOTICES.glob("THIRD_PARTY_LICENSES*"), *NOTICES.glob("*.cdx.json")], top / "share/doc/spike_auth")
    (top / "README.md").write_text(fill("tarball.md", VERSION=VERSION, PLATFORM=platform.name, NEEDS=platform.needs))
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path in [top, *settle(top)]:
            entry = archive.gettarinfo(path, path.relative_to(scratch))
            entry.uid = entry.gid = 0
            entry.uname = entry.gname = "root"
            entry.mtime = epoch()
            with path.open("rb") if entry.isreg() else io.BytesIO() as content:
                archive.addfile(entry, content)
    (DIST / f"{name}.tar.gz").write_bytes(gzip.compress(packed.getvalue(), 9, mtime=0))


def wheel(platform: Platform) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", DIST]
    run("env", "-C", ROOT / "bindings" / "python", *command,
        SPIKE_AUTH_WHEEL_LIBRARY=platform.built / "libspike_auth.so", SPIKE_AUTH_WHEEL_PLATFORM=platform.wheel,
        SOURCE_DATE_EPOCH=epoch())
    # The same entries, deflated with more care: 3 % less. `make wheel` also works without.
    if shutil.which("advzip"):
        run("advzip", "--recompress", "--shrink-extra", "--quiet", *DIST.glob(f"*{platform.wheel}.whl"))


def debian(platform: Platform, scratch: Path) -> None:
    """The library with its notices, what a compiler needs, and the program."""
    architecture, folder = platform.debian
    library, dev, program = packages = [scratch / name for name in DEBIAN]
    place(platform, dev, "/usr", f"lib/{folder}")
    move([*(dev / "usr/lib" / folder).glob("libspike_auth.so.*")], library / "usr/lib" / folder)
    move([dev / "usr/bin", dev / "usr/share"], program / "usr")
    copy([NOTICES / "spike_auth.cdx.json"], library / "usr/share/doc/libspike-auth1")
    licences = [*sorted(ROOT.glob("LICENSE-*")), NOTICES / "THIRD_PARTY_LICENSES"]
    for package in packages:
        doc = package / "usr/share/doc" / package.name
        doc.mkdir(parents=True, exist_ok=True)
        (doc / "copyright").write_text("\n".join(path.read_text() for path in licences))
    (library / "DEBIAN").mkdir()
    (library / "DEBIAN/triggers").write_text("activate-noawait ldconfig\n")
    for package in packages:
        size = sum(path.lstat().st_size for path in package.rglob("*") if path.is_file()) // 1024
        (package / "DEBIAN").mkdir(exist_ok=True)
        control = fill(f"deb/{package.name}", VERSION=VERSION, ARCHITECTURE=architecture, SIZE=size)
        (package / "DEBIAN/control").write_text(control)
        settle(package)
        result = DIST / f"{package.name}_{VERSION}_{architecture}.deb"
        # Several threads would write other bytes.
        run("dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", package, result,
            SOURCE_DATE_EPOCH=epoch())


def main() -> int:
    shutil.rmtree(DIST, ignore_errors=True)
    DIST.mkdir(parents=True)
    for platform in (platform for platform in ALL if platform.name in sys.argv[1:]):
        if (why := platform.built / "skipped").exists():
            print(f"SKIPPED: {platform.name}: {why.read_text().strip()}", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="spike_auth-") as folder:
            scratch = Path(folder)
            tarball(platform, scratch)
            wheel(platform)
            if platform.debian and shutil.which("dpkg-deb"):
                debian(platform, scratch)
            elif platform.debian:
                print(f"SKIPPED: Debian packages for {platform.name}: dpkg-deb is missing", file=sys.stderr)
    made = sorted(DIST.iterdir())
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (DIST / "SHA256SUMS").write_text(sums)
    for path in made:
        print(f"{path.stat().st_size / 1e6:6.2f} MB  {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
