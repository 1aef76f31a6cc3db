"""Certificates of a private authority, made by the `openssl` command at the start of a test."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from support.project import run

HOUR = 3600

# `openssl ca` is the only command that takes both ends of a lifetime in every version.
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
    """An authority's certificate (`pem`), and those that it signs. It is a root, unless it has an issuer.

    A key is one of KEYS, or a file that has it.
    """

    def __init__(
        self, folder: Path, name: str, key: str | Path = "P-256", issuer: Authority | None = None, may_sign: bool = True
    ) -> None:
        self.folder = folder / name
        self.folder.mkdir()
        self.config = self.folder / "openssl.cnf"
        self.config.write_text(_CONFIG.format(folder=self.folder))
        (self.folder / "index.txt").touch()
        self.pem, self.key = self.folder / "ca.pem", key if isinstance(key, Path) else self.folder / "ca.key"
        extensions = ["-addext", f"basicConstraints=critical,CA:{'TRUE' if may_sign else 'FALSE'}"]
        extensions += ["-addext", "keyUsage=critical,keyCertSign"]
        if issuer is None:
            self._request(f"ca {name}", key, extensions, self.key, self.pem, "-x509")
        else:
            request = self.folder / "ca.csr"
            self._request(f"ca {name}", key, extensions, self.key, request)
            issuer._sign(request, self.pem, -HOUR, HOUR)

    def _request(self, name: str, kind: str | Path, extensions: list[str], key: Path, out: Path, *more: str) -> None:
        new = ["-new", "-key", kind] if isinstance(kind, Path) else ["-newkey", *KEYS[kind], "-nodes", "-keyout", key]
        run("openssl", "req", *more, "-config", self.config, *new, "-subj", f"/CN={name}", *extensions, "-out", out)

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
        key: str | Path = "P-256",
        digest: str = "default",
        more: Sequence[str] = (),
    ) -> Path:
        """A server's certificate with its key, in one file. It is valid from `start` to `end`, in seconds from now.

        `more` are further extensions. Without names there are none, and the certificate has version 1.
        """
        request, certificate, private, both = (self.folder / f"{name}.{kind}" for kind in ("csr", "crt", "key", "pem"))
        private = key if isinstance(key, Path) else private
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


def rsa_chain(folder: Path) -> tuple[Path, Path]:
    """The longest chain that the library's TLS follows: its root, and the server's file with the others.

    All have one key, because it takes seconds to make one.
    """
    key, between = folder / "rsa.key", 6
    run("openssl", "genrsa", "-out", key, 4096)
    authorities = [Authority(folder, "root", key)]
    for number in range(between):
        authorities.append(Authority(folder, f"authority-{number}", key, issuer=authorities[-1]))
    leaf = authorities[-1].leaf("localhost", key=key).read_text()
    server = folder / "server.pem"
    server.write_text(leaf + "".join(authority.pem.read_text() for authority in reversed(authorities[1:])))
    return authorities[0].pem, server
