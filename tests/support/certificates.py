"""Certificates of a private authority, made by the `openssl` command when a test begins."""

from __future__ import annotations

import time
from pathlib import Path

from support.project import run

HOUR = 3600

# `openssl ca` is the one command that has always taken both ends of a lifetime.
_CONFIG = """
[ca]
default_ca = default
[default]
new_certs_dir = {folder}
database = {folder}/index.txt
rand_serial = yes
default_md = sha256
policy = policy
copy_extensions = copy
unique_subject = no
[policy]
commonName = supplied
[req]
distinguished_name = name
[name]
"""


def _moment(seconds_from_now: int) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds_from_now))


class Authority:
    """A root certificate (`pem`), and what it signs."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "openssl.cnf"
        self.config.write_text(_CONFIG.format(folder=self.folder))
        (self.folder / "index.txt").touch()
        self.pem, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        extensions = ["-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign"]
        self._request("ca", name, extensions, self.key, self.pem, "-x509")

    def _request(self, file: str, name: str, extensions: list[str], key: Path, out: Path, *more: str) -> None:
        options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={file} {name}"]
        run("openssl", "req", *more, "-config", self.config, *options, *extensions, "-keyout", key, "-out", out)

    def leaf(self, name: str, names: str = "DNS:localhost,IP:127.0.0.1", start: int = -HOUR, end: int = HOUR) -> Path:
        """A server's certificate with its key, in one file. It is valid from `start` to `end`, in seconds from now."""
        request, certificate, key, both = (self.folder / f"{name}.{kind}" for kind in ("csr", "crt", "key", "pem"))
        self._request("leaf", name, ["-addext", f"subjectAltName={names}"], key, request)
        lifetime = ["-startdate", _moment(start), "-enddate", _moment(end)]
        files = ["-cert", self.pem, "-keyfile", self.key, "-in", request, "-out", certificate]
        run("openssl", "ca", "-batch", "-notext", "-config", self.config, *lifetime, *files)
        both.write_text(certificate.read_text() + key.read_text())
        return both

    def self_signed(self, name: str, may_sign: bool) -> Path:
        """A certificate that signs itself; by default `openssl req -x509` makes it an authority's."""
        key, certificate, both = (self.folder / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
        constraint = f"basicConstraints=CA:{'TRUE' if may_sign else 'FALSE'}"
        extensions = ["-addext", constraint, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        self._request("self", name, extensions, key, certificate, "-x509")
        both.write_text(certificate.read_text() + key.read_text())
        return both
