"""A chain of certificates that is as long as a client may have to follow, made by the `openssl` command."""

from __future__ import annotations

from pathlib import Path

from support.project import run

# So many may stand between the root and the server's own, which is where the library's TLS stops.
BETWEEN = 6
BITS = 4096

_AUTHORITY = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\nsubjectKeyIdentifier=hash\n"
_SERVER = "subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\n"


def rsa_chain(folder: Path) -> tuple[Path, Path]:
    """The root's certificate, and a file for the server: its certificate, those between, and the key.

    All have one key, since to make one takes seconds, and who checks signatures does not mind.
    """
    key, root = folder / "rsa.key", folder / "root.pem"
    run("openssl", "genrsa", "-out", key, BITS)
    lifetime = ["-days", "2"]
    extensions = [part for line in _AUTHORITY.split() for part in ("-addext", line)]
    # An empty configuration, or the system's would add to it.
    bare = ["-config", folder / "empty.cnf", "-subj"]
    (folder / "empty.cnf").write_text("[req]\ndistinguished_name=name\n[name]\n")
    run("openssl", "req", "-x509", *bare, "/CN=root", *extensions, *lifetime, "-key", key, "-out", root)
    issuer, chain = root, ""
    for number in range(BETWEEN + 1):
        name = f"authority {number}" if number < BETWEEN else "localhost"
        request, certificate, extra = (folder / f"{number}.{kind}" for kind in ("csr", "crt", "ext"))
        extra.write_text(_AUTHORITY if number < BETWEEN else _SERVER)
        run("openssl", "req", "-new", *bare, f"/CN={name}", "-key", key, "-out", request)
        signed_by = ["-CA", issuer, "-CAkey", key, "-set_serial", number + 1, *lifetime]
        run("openssl", "x509", "-req", "-in", request, *signed_by, "-extfile", extra, "-out", certificate)
        issuer, chain = certificate, certificate.read_text() + chain
    server = folder / "server.pem"
    server.write_text(chain + key.read_text())
    return root, server
