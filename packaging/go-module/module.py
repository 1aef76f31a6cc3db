"""`make go-module`: the Go module as it is tagged, with the library of each platform in it.

Writes into target/go-module:
    module/   what stands in bindings/go in the tagged commit
    proxy/    the same as a Go module proxy, for GOPROXY=file://...

The module is bindings/go without tests and without link.go. In its place a file for each platform links an archive.
Same inputs, same bytes.
"""

import json
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = Path(__file__).parent
BINDING = ROOT / "bindings" / "go"
NOTICES = ROOT / "packaging" / "notices"
RESULT = ROOT / "target" / "go-module"
MODULE = re.search(r"^module (.*)", (BINDING / "go.mod").read_text(), re.M)[1]
VERSION = "v" + re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.M)[1]
# A zip has no time zone, so the times of its files could not be the same everywhere. None is older than this.
TIME = (1980, 1, 1, 0, 0, 0)
# Only glibc's headers define __GLIBC__. Without this check the linker names functions that the C library lacks.
CHECKS = {
    "gnu": '#ifndef __GLIBC__\n#error "this C library is not glibc: build with -tags musl"\n#endif',
    "musl": '#ifdef __GLIBC__\n#error "-tags musl needs a C compiler for musl: set CC=musl-gcc, '
            'or build without the tag"\n#endif',
}


@dataclass(frozen=True)
class Platform:
    arch: str
    libc: str

    @property
    def built(self) -> Path:
        return ROOT / "target" / "platforms" / f"linux-{self.arch}-{self.libc}"

    @property
    def folder(self) -> str:
        return f"linux_{self.arch}" + ("_musl" if self.libc == "musl" else "")

    @property
    def where(self) -> str:
        """The build constraint. Android has the tag linux too."""
        return f"linux && !android && {self.arch} && {'' if self.libc == 'musl' else '!'}musl"

    @property
    def native(self) -> str:
        """What is linked beside the archive. The compiler adds the C library."""
        listed = (self.built / "native-static-libs").read_text().split()
        words = [word for word in listed if word not in ("-lgcc_s", "-lc")]
        if self.libc == "gnu":
            # The unwinder that is also there for -static. Programs then do without libgcc_s.so.1.
            words.insert(0, "-lgcc_eh")
        return "".join(f" {word}" for word in words)


ALL = [Platform(arch, libc) for arch in ("amd64", "arm64") for libc in ("gnu", "musl")]


def available() -> list[Platform]:
    found = []
    for platform in ALL:
        if (why := platform.built / "skipped").exists():
            print(f"SKIPPED: {platform.folder}: {why.read_text().strip()}", file=sys.stderr)
        else:
            found.append(platform)
    return found


def fill(template: str, **values: str) -> str:
    text = (TEMPLATES / template).read_text()
    for name, value in {"MODULE": MODULE, **values}.items():
        text = text.replace(f"@{name}@", value)
    return text


def package(folder: Path, holds: str) -> None:
    """A Go package in a folder that has no Go: without one `go mod vendor` does not copy it."""
    folder.mkdir(parents=True)
    text = f"// Package {folder.name} holds {holds}. The package spikeauth links it.\npackage {folder.name}\n"
    (folder / "holds.go").write_text(text)


def sources(module: Path) -> None:
    for path in [*BINDING.glob("*"), *BINDING.glob("spikeauthtest/*"), *BINDING.glob("examples/**/*.go")]:
        if path.is_file() and path.name != "link.go" and not path.name.endswith("_test.go"):
            target = module / path.relative_to(BINDING)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for path in [*ROOT.glob("LICENSE-*"), NOTICES / "THIRD_PARTY_LICENSES", NOTICES / "spike_auth.cdx.json"]:
        shutil.copyfile(path, module / path.name)


def libraries(module: Path, platforms: list[Platform]) -> None:
    package(module / "lib", "the header of libspike_auth")
    shutil.copyfile(ROOT / "include" / "spike_auth.h", module / "lib" / "spike_auth.h")
    for platform in platforms:
        folder = module / "lib" / platform.folder
        package(folder, "libspike_auth for one platform")
        shutil.copyfile(platform.built / "libspike_auth.a", folder / "libspike_auth.a")
        link = fill("link.go.in", WHERE=platform.where, FOLDER=platform.folder, NATIVE=platform.native,
                    CHECK=CHECKS[platform.libc])
        (module / f"link_{platform.folder}.go").write_text(link)
    where = " || ".join(f"({platform.where})" for platform in platforms)
    (module / "link_other.go").write_text(fill("link_other.go.in", ANY=where))


def proxy(module: Path, folder: Path) -> Path:
    """What a module proxy serves for the one version: https://go.dev/ref/mod#goproxy-protocol"""
    folder = folder / MODULE / "@v"
    folder.mkdir(parents=True)
    (folder / "list").write_text(f"{VERSION}\n")
    (folder / f"{VERSION}.info").write_text(json.dumps({"Version": VERSION}))
    shutil.copyfile(module / "go.mod", folder / f"{VERSION}.mod")
    packed = folder / f"{VERSION}.zip"
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(path for path in module.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{MODULE}@{VERSION}/{path.relative_to(module).as_posix()}", TIME)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, path.read_bytes())
    return packed


def main() -> int:
    shutil.rmtree(RESULT, ignore_errors=True)
    module = RESULT / "module"
    module.mkdir(parents=True)
    sources(module)
    libraries(module, available())
    packed = proxy(module, RESULT / "proxy")
    print(f"{packed.stat().st_size / 1e6:.2f} MB  {packed.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
