"""TLS with other implementations: OpenSSL through Python, and nginx. Each failure has a message of its own.

The platform's roots are loaded once per process, so each case runs the C example. All forms of PEM are tested in
src/config/pem.
"""

import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import tempfile
import unittest
from pathlib import Path

from support.certificates import HOUR, Authority
from support.peers import TOKEN, Peer, nginx, raw_peer, tls_peer
from support.project import APPLICATION_ID, KEY, build_example, clean_env, run, scratch

GOT_A_TOKEN = f"got a token of {len(TOKEN)} characters twice; requests sent: 1"
# What the handshake's failure is called, and the cure.
EXPIRED = "the server's certificate has expired. Renew it, or correct this machine's clock."
NOT_YET_VALID = "the server's certificate is not valid yet. Correct this machine's clock."
WRONG_HOST = "the server's certificate is for another host name. Check the base URL's host name."
NO_NAMES = (
    "the server's certificate has no subjectAltName, and its commonName is not used. Replace it with one that has the "
    "host name in its subjectAltName."
)
NOT_FOR_SERVERS = (
    "the server's certificate, or another one of its chain, is not valid for servers: its extendedKeyUsage lacks "
    "serverAuth. Replace it with one that has it."
)
UNKNOWN_EXTENSION = (
    "the server's certificate, or another one of its chain, has a critical extension that this library does not know. "
    "Replace it with one that has none."
)
NOT_BY_AN_AUTHORITY = (
    "the server's certificate was issued by a certificate that is not a CA's. Replace it with one that an authority has "
    "signed."
)
# What `openssl x509 -req` makes without a file of extensions.
VERSION_1 = (
    "the server's certificate, or another one of its chain, is older than X.509 version 3, and so has no "
    "subjectAltName. Replace it with one that has the host name in its subjectAltName."
)
# Of a server that sends its own certificate alone, as those do whose authority needs no other.
UNTRUSTED = (
    "the server's certificate was not issued by a trusted authority, or the server did not send an intermediate "
    "certificate: its chain ends before an authority. Make it send the whole chain, or add the private authority's "
    "certificate with set_ca_pem or SPIKE_CA_FILE."
)
UNTRUSTED_CHAIN = (
    "the server's certificate was not issued by a trusted authority. Add the certificate of a private authority with "
    "set_ca_pem or SPIKE_CA_FILE."
)
USABLE_KEYS = "RSA of 2048 to 8192 bits, P-256, P-384 or Ed25519"
UNFIT_KEY = (
    "a signature of the server or of its certificates does not match the key, or the key is RSA of fewer than 2048 or "
    "more than 8192 bits. Replace the certificate, or check that nothing in between interferes."
)
TOO_LARGE = "the server's certificates are larger than 64 KiB. Make it send fewer or smaller ones."
TOO_OLD = (
    "the server supports neither TLS 1.2 nor TLS 1.3. Update its TLS, and check that its certificate's key is "
    f"{USABLE_KEYS}."
)
NOTHING_IN_COMMON = (
    "the server supports no secure cipher, or its certificate has a key that this library cannot verify, or it requires "
    f"a client certificate. Check its ciphers, and that its certificate's key is {USABLE_KEYS}."
)
CLIENT_CERTIFICATE = (
    "the server requires a client certificate, and this library has none. Configure the server to accept clients "
    "without one."
)
UNKNOWN_NAME = "the server does not know the host name. Check the base URL's host name."
NO_HTTP = "the server does not speak HTTP/1.1. Check the port of the base URL."
CUT = "the connection ended early"
NOT_TLS = "the server did not answer with TLS. Check that the port of the base URL is an https one."
NO_ROOTS = "No usable TLS roots: SSL_CERT_FILE contains no usable certificate"
NEED_OPENSSL = unittest.skipUnless(shutil.which("openssl"), "openssl is missing (apt-get install openssl)")
NEED_NGINX = unittest.skipUnless(shutil.which("nginx"), "nginx is missing (apt-get install nginx)")

# Places where systems keep their roots. An empty directory covers each that exists.
HIDE_STORES = """
for folder in /etc/ssl /etc/pki /opt/etc/ssl /etc/security/certificates; do
    if [ -d "$folder" ]; then mount -t tmpfs none "$folder" || exit 77; fi
done
exec "$@"
"""


def can_hide_stores() -> bool:
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", HIDE_STORES, "sh", "true"]
    return bool(shutil.which("unshare")) and subprocess.run(command, capture_output=True, check=False).returncode == 0


def reset(connection: socket.socket) -> None:
    """Resets the connection after the client has begun."""
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@NEED_OPENSSL
class Tls(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = scratch()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.program = build_example(cls.folder)
        cls.ca = Authority(cls.folder, "private")
        cls.other_ca = Authority(cls.folder, "other")
        cls.good = cls.ca.leaf("good")

    def exchange(self, port: int, *before: object, host: str = "localhost", **variables: object) -> tuple[int, str]:
        """One run: its exit code and its output. `before` is a command that runs the program."""
        env = clean_env(
            SPIKE_APPLICATION_ID=APPLICATION_ID,
            SPIKE_HMAC_KEY=KEY,
            SPIKE_API_BASE_URL=f"https://{host}:{port}/v3",
            **{name: str(value) for name, value in variables.items()},
        )
        done = subprocess.run(
            [*map(str, before), str(self.program)],
            env=env,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        self.assertIn(done.returncode, (0, 1), done.stdout)
        self.assertNotIn("panicked", done.stdout)
        return done.returncode, done.stdout.strip()

    def trusting(self, port: int, **more: object) -> tuple[int, str]:
        return self.exchange(port, SPIKE_CA_FILE=self.ca.pem, **more)

    def fails(self, result: tuple[int, str], sentence: str, said: str = "The TLS handshake failed") -> None:
        self.assertEqual(result[0], 1, result)
        start = f"SPIKE_AUTH_STATUS_TLS: {said}: {sentence}"
        self.assertTrue(result[1].startswith(start), f"{result[1]}\nis not\n{start}")
        # No names or dumps from a program's source; those of X.509 are allowed.
        plain = re.sub("subjectAltName|commonName|extendedKeyUsage|serverAuth|KiB", "", result[1])
        self.assertNotRegex(plain, r"[a-z][A-Z]|[{}\[\]]")

    def has_no_roots(self, result: tuple[int, str], sentence: str = NO_ROOTS) -> None:
        self.assertEqual(result[0], 1, result)
        self.assertTrue(result[1].startswith(f"SPIKE_AUTH_STATUS_TLS_ROOTS: {sentence}"), result)

    def is_no_ca(self, result: tuple[int, str], sentence: str) -> None:
        self.assertEqual(result[0], 1, result)
        start = "SPIKE_AUTH_STATUS_INVALID_ENVIRONMENT: The environment variable SPIKE_CA_FILE is invalid."
        self.assertEqual(result[1].split(" Unusable CA certificate: ")[0], start)
        self.assertIn(f" Unusable CA certificate: {sentence}", result[1])

    def file(self, name: str, content: str, encoding: str = "utf-8") -> Path:
        path = self.folder / name
        path.write_bytes(content.encode(encoding))
        return path

    def empty_folder(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir()
        return folder

    # ---- trust

    def test_a_private_authority_is_trusted_by_each_setting(self):
        by_hash = self.empty_folder("by-hash")
        digest = run("openssl", "x509", "-in", self.ca.pem, "-noout", "-hash").strip()
        shutil.copy(self.ca.pem, by_hash / f"{digest}.0")
        several = self.folder / "several.pem"
        several.write_text(f"# a comment\n{self.other_ca.pem.read_text()}\n{self.ca.pem.read_text()}")
        with tls_peer(self.good) as peer:
            for variables in (
                {"SPIKE_CA_FILE": self.ca.pem},
                {"SPIKE_CA_FILE": several},
                {"SSL_CERT_FILE": self.ca.pem},
                {"SSL_CERT_DIR": by_hash},
                {"SSL_CERT_FILE": self.other_ca.pem, "SPIKE_CA_FILE": self.ca.pem},
                {"SSL_CERT_FILE": self.other_ca.pem, "SSL_CERT_DIR": by_hash},
            ):
                for host in ("localhost", "127.0.0.1"):
                    self.assertEqual(self.exchange(peer.port, host=host, **variables), (0, GOT_A_TOKEN), variables)

    def test_a_private_authority_is_trusted_by_ca_pem(self):
        from support.client import ROOTS_NONE, Client, Failure

        settings = {"application_id": APPLICATION_ID, "hmac_key": KEY, "tls_roots": ROOTS_NONE, "max_attempts": 1}
        with tls_peer(self.good) as peer:
            settings["base_url"] = f"https://localhost:{peer.port}/v3"
            with Client(ca_pem=self.ca.pem.read_bytes(), **settings) as client:
                self.assertEqual(client.exchange("alice"), TOKEN.encode())
            with Client(ca_pem=self.other_ca.pem.read_bytes(), **settings) as client:
                with self.assertRaises(Failure) as caught:
                    client.exchange("alice")
                self.assertIn(UNTRUSTED, caught.exception.message)
                self.assertFalse(caught.exception.retryable)

    def test_an_authority_that_was_not_set_is_not_trusted(self):
        with tls_peer(self.good) as peer:
            self.fails(self.exchange(peer.port), UNTRUSTED)
            self.fails(self.exchange(peer.port, SPIKE_CA_FILE=self.other_ca.pem), UNTRUSTED)
            self.fails(self.exchange(peer.port, SSL_CERT_FILE=self.other_ca.pem), UNTRUSTED)
        self.assertEqual(peer.seen, [], "nothing but a handshake was begun")

    def test_a_certificate_that_signs_itself_is_not_trusted(self):
        with tls_peer(self.ca.self_signed("self-signed-leaf", may_sign=False)) as peer:
            self.fails(self.trusting(peer.port), UNTRUSTED_CHAIN)

    def test_an_authoritys_own_certificate_in_a_servers_place_is_explained(self):
        # `openssl req -x509` makes such a certificate by default; many test servers have one.
        certificate = self.ca.self_signed("self-signed-authority", may_sign=True)
        with tls_peer(certificate) as peer:
            for ca in (self.ca.pem, certificate):
                self.fails(self.exchange(peer.port, SPIKE_CA_FILE=ca), "the server's certificate ")

    # ---- PEM

    def test_an_unreadable_section_is_named_with_a_cure_that_works(self):
        good, key, trusted = self.ca.pem.read_text(), self.ca.key.read_text(), self.folder / "trusted.pem"
        run("openssl", "x509", "-in", self.other_ca.pem, "-trustout", "-out", trusted)
        bundle = self.file("broken.pem", good + key + trusted.read_text())
        said = f"section 3 (line {len((good + key).splitlines()) + 1}) is a TRUSTED CERTIFICATE"
        with tls_peer(self.good) as peer:
            self.is_no_ca(self.exchange(peer.port, SPIKE_CA_FILE=bundle), said)
            failure = self.exchange(peer.port, SSL_CERT_FILE=bundle)
            self.has_no_roots(failure, f"No usable TLS roots: SSL_CERT_FILE: {said}")
            der = self.folder / "ca.der"
            run("openssl", "x509", "-in", self.ca.pem, "-outform", "DER", "-out", der)
            self.assertIn("(SSL_CERT_FILE: it is DER", self.exchange(peer.port, SSL_CERT_FILE=der)[1])
        run("openssl", "x509", "-in", trusted, "-out", trusted)
        with tls_peer(self.other_ca.leaf("trusted-plainly")) as peer:
            self.assertEqual(self.exchange(peer.port, SPIKE_CA_FILE=trusted), (0, GOT_A_TOKEN))

    # ---- the certificate

    def test_each_flaw_of_a_certificate_has_its_own_sentence(self):
        flawed = {
            EXPIRED: self.ca.leaf("expired", start=-2 * HOUR, end=-HOUR),
            NOT_YET_VALID: self.ca.leaf("not-yet-valid", start=HOUR, end=2 * HOUR),
            WRONG_HOST: self.ca.leaf("wrong-host", names="DNS:elsewhere.example.com,IP:192.0.2.1"),
            NO_NAMES: self.ca.leaf("no-names", names=""),
            VERSION_1: self.ca.leaf("version-1", names=None),
            NOT_FOR_SERVERS: self.ca.leaf("for-clients", more=["extendedKeyUsage=clientAuth"]),
            UNKNOWN_EXTENSION: self.ca.leaf("critical", more=["1.2.3.4=critical,DER:0500"]),
            UNTRUSTED: self.other_ca.leaf("untrusted"),
        }
        for sentence, certificate in flawed.items():
            for host in ("localhost", "127.0.0.1"):
                with self.subTest(certificate=certificate.stem, host=host), tls_peer(certificate) as peer:
                    self.fails(self.trusting(peer.port, host=host), sentence)

    def test_a_name_and_an_address_do_not_stand_for_each_other(self):
        for names, host in (("DNS:localhost", "127.0.0.1"), ("IP:127.0.0.1", "localhost")):
            with tls_peer(self.ca.leaf(f"only-{host}", names=names)) as peer:
                self.fails(self.trusting(peer.port, host=host), WRONG_HOST)

    def test_a_certificate_that_another_servers_key_signed_is_explained(self):
        other = Authority(self.folder, "no-authority", issuer=self.ca, may_sign=False)
        chain = self.file("by-a-server.pem", other.leaf("by-a-server").read_text() + other.pem.read_text())
        with tls_peer(chain) as peer:
            self.fails(self.trusting(peer.port), NOT_BY_AN_AUTHORITY)

    def test_a_missing_intermediate_certificate_is_named(self):
        upper = Authority(self.folder, "upper", issuer=self.ca)
        lower = Authority(self.folder, "lower", issuer=upper)
        leaf = lower.leaf("of-lower")
        chains = {
            "alone": ((), UNTRUSTED),
            "with one": ((lower,), UNTRUSTED),
            "with the other": ((upper,), UNTRUSTED),
            "whole": ((lower, upper), None),
            "in disorder": ((upper, lower), None),
            "to the root": ((lower, upper, self.ca), None),
        }
        for name, (sent, sentence) in chains.items():
            chain = self.file("chain.pem", leaf.read_text() + "".join(other.pem.read_text() for other in sent))
            with self.subTest(chain=name), tls_peer(chain) as peer:
                if sentence is None:
                    self.assertEqual(self.trusting(peer.port), (0, GOT_A_TOKEN))
                else:
                    self.fails(self.trusting(peer.port), sentence)
        # The chain is complete, but the root is not trusted.
        with tls_peer(chain) as peer:
            self.fails(self.exchange(peer.port, SPIKE_CA_FILE=self.other_ca.pem), UNTRUSTED_CHAIN)

    def test_a_certificate_that_is_too_large_is_named(self):
        names = ",".join(["DNS:localhost", *(f"DNS:{number:05}.large.example.com" for number in range(3000))])
        large = self.ca.leaf("large", names=names)
        long = self.file("long.pem", self.good.read_text() + 300 * self.ca.pem.read_text())
        for certificate in (large, long):
            for version in ("TLSv1_2", "TLSv1_3"):
                with self.subTest(certificate=certificate.stem, version=version):
                    with tls_peer(certificate, oldest=version, newest=version) as peer:
                        self.fails(self.trusting(peer.port), TOO_LARGE)

    # ---- algorithms that the TLS library does not know

    def test_a_servers_key_that_cannot_be_checked_is_no_old_tls(self):
        for key in ("P-521", "Ed448", "RSA-PSS"):
            certificate = self.ca.leaf(f"key-{key}", key=key)
            for version in ("TLSv1_2", "TLSv1_3"):
                with self.subTest(key=key, version=version):
                    with tls_peer(certificate, oldest=version, newest=version) as peer:
                        self.fails(self.trusting(peer.port), NOTHING_IN_COMMON)

    def test_a_servers_rsa_key_that_is_too_small_is_named(self):
        certificate = self.ca.leaf("small", key="RSA-1024")
        for version in ("TLSv1_2", "TLSv1_3"):
            with tls_peer(certificate, oldest=version, newest=version, ciphers="ALL:@SECLEVEL=0") as peer:
                self.fails(self.trusting(peer.port), UNFIT_KEY)

    def test_a_signature_that_cannot_be_checked_is_named(self):
        rsa = Authority(self.folder, "rsa", key="RSA")
        # The roots of a store are not refused: a system's store may hold any.
        p521, ed448, pss = (Authority(self.folder, key, key=key) for key in ("P-521", "Ed448", "RSA-PSS"))
        for ca, digest, what in (
            (self.ca, "sha512", "ECDSA with SHA-512"),
            (self.ca, "sha1", "ECDSA with SHA-1"),
            (rsa, "sha1", "RSA with SHA-1"),
            (p521, "sha256", None),
            (p521, "sha512", "ECDSA with SHA-512"),
            (ed448, "default", "Ed448"),
            (pss, "sha256", "RSA-PSS"),
        ):
            uses = f"uses {what}" if what else "was made by a key that uses P-521"
            sentence = (
                f"a signature of the server or of its certificates {uses}, which this library cannot verify. Use "
                f"certificates with keys of {USABLE_KEYS}, signed with SHA-256 or SHA-384."
            )
            certificate = ca.leaf(f"signed-{digest}", digest=digest)
            with self.subTest(what=what), tls_peer(certificate, ciphers="ALL:@SECLEVEL=0") as peer:
                self.fails(self.exchange(peer.port, SSL_CERT_FILE=ca.pem), sentence)
        # SHA-512 of an RSA authority is supported.
        with tls_peer(rsa.leaf("signed-sha512", digest="sha512")) as peer:
            self.assertEqual(self.exchange(peer.port, SPIKE_CA_FILE=rsa.pem), (0, GOT_A_TOKEN))

    # ---- the protocol

    def test_tls_1_2_alone_and_tls_1_3_alone_are_good(self):
        for version, said in (("TLSv1_2", "TLSv1.2"), ("TLSv1_3", "TLSv1.3")):
            with tls_peer(self.good, oldest=version, newest=version) as peer:
                self.assertEqual(self.trusting(peer.port), (0, GOT_A_TOKEN))
            self.assertEqual(peer.seen, [said])

    @unittest.skipUnless(ssl.HAS_TLSv1_1, "this Python's OpenSSL was built without TLS 1.1")
    def test_a_server_that_speaks_no_more_than_tls_1_1_is_too_old(self):
        with tls_peer(self.good, oldest="TLSv1", newest="TLSv1_1", ciphers="ALL:@SECLEVEL=0") as peer:
            self.fails(self.trusting(peer.port), TOO_OLD)

    def test_a_server_with_none_but_bad_ciphers_is_too_old(self):
        ciphers = "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"
        with tls_peer(self.good, newest="TLSv1_2", ciphers=ciphers) as peer:
            self.fails(self.trusting(peer.port), NOTHING_IN_COMMON)

    def test_a_server_that_asks_for_a_certificate_of_its_clients_says_so(self):
        with tls_peer(self.good, newest="TLSv1_2", clients=self.ca.pem) as peer:
            self.fails(self.trusting(peer.port), NOTHING_IN_COMMON)
        # In TLS 1.3 the client's part of the handshake is over by then.
        with tls_peer(self.good, oldest="TLSv1_3", clients=self.ca.pem) as peer:
            self.fails(self.trusting(peer.port), CLIENT_CERTIFICATE, "The TLS connection was refused")

    def test_each_alert_has_a_sentence(self):
        other = "the server sent the TLS alert {}"
        sentences = {40: NOTHING_IN_COMMON, 70: TOO_OLD, 71: NOTHING_IN_COMMON, 112: UNKNOWN_NAME, 120: NO_HTTP}
        sentences |= dict.fromkeys((41, 42, 43, 44, 45, 46, 48, 49, 116), CLIENT_CERTIFICATE)
        for alert in (10, 20, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 70, 71, 80, 86, 109, 112, 116, 120, 200):
            with self.subTest(alert=alert), raw_peer(b"\x15\x03\x03\x00\x02\x02" + bytes([alert])) as peer:
                self.fails(self.trusting(peer.port), sentences.get(alert, other.format(alert)))

    def test_a_handshake_that_is_cut_short_says_so(self):
        for peer in (raw_peer(b""), raw_peer(b"\x16\x03\x03\x00\x40\x02\x00"), Peer(reset)):
            with peer:
                self.fails(self.trusting(peer.port), CUT)

    def test_plain_http_on_the_https_port_says_so(self):
        with raw_peer(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n") as peer:
            self.fails(self.trusting(peer.port), NOT_TLS)

    def test_the_sentences_differ(self):
        sentences = [EXPIRED, NOT_YET_VALID, WRONG_HOST, NO_NAMES, VERSION_1, UNTRUSTED, UNTRUSTED_CHAIN, UNFIT_KEY]
        sentences += [TOO_LARGE, NOT_FOR_SERVERS, UNKNOWN_EXTENSION, NOT_BY_AN_AUTHORITY, TOO_OLD, NOTHING_IN_COMMON]
        sentences += [CLIENT_CERTIFICATE, UNKNOWN_NAME, NO_HTTP, CUT, NOT_TLS, NO_ROOTS]
        self.assertEqual(len(set(sentences)), len(sentences))

    # ---- the platform's store

    def test_a_store_that_was_named_and_holds_nothing_is_no_store(self):
        nothing, garbage = self.folder / "nothing.pem", self.folder / "garbage.pem"
        nothing.touch()
        garbage.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
        empty = self.empty_folder("empty")
        with tls_peer(self.good) as peer:
            for variables in (
                {"SSL_CERT_FILE": nothing},
                {"SSL_CERT_FILE": garbage},
                {"SSL_CERT_FILE": self.folder / "missing.pem"},
                {"SSL_CERT_FILE": self.folder},
                {"SSL_CERT_FILE": os.devnull},
                {"SSL_CERT_DIR": empty},
                {"SSL_CERT_DIR": self.folder / "missing"},
                {"SSL_CERT_FILE": nothing, "SSL_CERT_DIR": empty},
            ):
                with self.subTest(**variables):
                    sentence = NO_ROOTS.replace("SSL_CERT_FILE", " and ".join(variables))
                    self.has_no_roots(self.exchange(peer.port, **variables), sentence)

    @unittest.skipUnless(can_hide_stores(), "unshare cannot hide the system's roots here (it needs user namespaces)")
    def test_the_bundled_roots_stand_in_where_the_system_has_none(self):
        hidden = ["unshare", "--map-root-user", "--mount", "sh", "-c", HIDE_STORES, "sh"]
        with tls_peer(self.good) as peer:
            # A failed handshake, and not TLS_ROOTS: there were roots, and this authority is none of them.
            self.fails(self.exchange(peer.port, *hidden), UNTRUSTED)
            result = self.exchange(peer.port, *hidden, SPIKE_CA_FILE=self.ca.pem)
            self.assertEqual(result, (0, GOT_A_TOKEN))
            self.fails(self.exchange(peer.port, *hidden, SSL_CERT_FILE="", SSL_CERT_DIR=""), UNTRUSTED)
            self.has_no_roots(self.exchange(peer.port, *hidden, SSL_CERT_FILE="/etc/ssl/certs/none.pem"))

    # ---- nginx

    def nginx(self, certificate: Path | None, *lines: str):
        return nginx(Path(tempfile.mkdtemp(dir=self.folder)), certificate, *lines)

    @NEED_NGINX
    def test_nginx_with_each_version_that_is_safe(self):
        for versions in ("TLSv1.2", "TLSv1.3", "TLSv1.2 TLSv1.3"):
            with self.nginx(self.good, f"ssl_protocols {versions};") as port:
                self.assertEqual(self.trusting(port), (0, GOT_A_TOKEN), versions)
                self.fails(self.exchange(port), UNTRUSTED)


if __name__ == "__main__":
    unittest.main()
