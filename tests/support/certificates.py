"""Certificates of a private authority, made by the `openssl` command when a test begins."""

from __future__ import annotations

import time
from collections.abc import Sequence
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
policy = policy
copy_extensions = copy
unique_subject = no
[policy]
commonName = supplied
[req]
distinguished_name = name
[name]
"""

KEYS = {
    "P-256": ("ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    "P-521": ("ec", "-pkeyopt", "ec_paramgen_curve:P-521"),
    "Ed448": ("ed448",),
    "RSA": ("rsa:2048",),
    "RSA-1024": ("rsa:1024",),
    "RSA-PSS": ("rsa-pss", "-pkeyopt", "rsa_keygen_bits:2048"),
}


def _moment(seconds_from_now: int) -> str:
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds_from_now))


class Authority:
    """An authority's certificate (`pem`), and what it signs. It is a root, unless another one issues it."""

    def __init__(
        self, folder: Path, name: str, key: str = "P-256", issuer: Authority | None = None, may_sign: bool = True
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "openssl.cnf"
        self.config.write_text(_CONFIG.format(folder=self.folder))
        (self.folder / "index.txt").touch()
        self.pem, self.key = self.folder / "ca.pem", self.folder / "ca.key"
        extensions = ["-addext", f"basicConstraints=critical,CA:{'TRUE' if may_sign else 'FALSE'}"]
        extensions += ["-addext", "keyUsage=critical,keyCertSign"]
        if issuer is None:
            self._request(f"ca {name}", key, extensions, self.key, self.pem, "-x509")
        else:
            request = self.folder / "ca.csr"
            self._request(f"ca {name}", key, extensions, self.key, request)
            issuer._sign(request, self.pem, -HOUR, HOUR)

    def _request(self, name: str, kind: str, extensions: list[str], key: Path, out: Path, *more: str) -> None:
        options = ["-newkey", *KEYS[kind], "-nodes", "-subj", f"/CN={name}"]
        run("openssl", "req", *more, "-config", self.config, *options, *extensions, "-keyout", key, "-out", out)

    def _sign(self, request: Path, certificate: Path, start: int, end: int, digest: str = "default") -> None:
        lifetime = ["-startdate", _moment(start), "-enddate", _moment(end)]
        files = ["-cert", self.pem, "-keyfile", self.key, "-in", request, "-out", certificate]
        run("openssl", "ca", "-batch", "-notext", "-config", self.config, "-md", digest, *lifetime, *files)

    def leaf(
        self,
        name: str,
        names: str | None = "DNS:localhost,IP:127.0.0.1",
        start: int = -HOUR,
        end: int = HOUR,
        key: str = "P-256",
        digest: str = "default",
        more: Sequence[str] = (),
    ) -> Path:
        """A server's certificate with its key, in one file. It is valid from `start` to `end`, in seconds from now.

        `more` are further extensions. There are none at all, and so it is of version 1, if the names are None.
        """
        request, certificate, private, both = (self.folder / f"{name}.{kind}" for kind in ("csr", "crt", "key", "pem"))
        extensions = ["-addext", f"subjectAltName={names}" if names else "keyUsage=digitalSignature"]
        extensions += [part for extension in more for part in ("-addext", extension)]
        if names is None:
            extensions = []
        self._request(f"leaf {name}", key, extensions, private, request)
        self._sign(request, certificate, start, end, digest)
        both.write_text(certificate.read_text() + private.read_text())
        return both

    def self_signed(self, name: str, may_sign: bool) -> Path:
        """A certificate that signs itself; by default `openssl req -x509` makes it an authority's."""
        key, certificate, both = (self.folder / f"{name}.{kind}" for kind in ("key", "crt", "pem"))
        constraint = f"basicConstraints=CA:{'TRUE' if may_sign else 'FALSE'}"
        extensions = ["-addext", constraint, "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        self._request(f"self {name}", "P-256", extensions, key, certificate, "-x509")
        both.write_text(certificate.read_text() + key.read_text())
        return both
