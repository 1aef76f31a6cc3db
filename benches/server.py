"""The local server for all exchanges: nginx with one fixed response, or else the project's sandbox."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from programs import MissingTool, clean_env, run

# As long as a usual token, 143 characters. Not a secret.
TOKEN = ".".join(("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "b" * 62, "c" * 43))

NGINX_CONF = """
daemon off;
master_process off;
pid {dir}/nginx.pid;
error_log {dir}/error.log error;
events {{ worker_connections 2048; }}
http {{
    access_log off;
    server_tokens off;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    ssl_certificate {dir}/server.pem;
    ssl_certificate_key {dir}/server.key;
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{
        listen 127.0.0.1:{http};
        listen 127.0.0.1:{https} ssl;
        location = /v3/auth/hmac {{
            default_type application/json;
            return 200 '{{"access_token":"{token}"}}';
        }}
        location = /status {{ stub_status; }}
    }}
}}
"""

CERTIFICATES = """
[req]
distinguished_name = name
prompt = no
[name]
CN = spike_auth benchmark
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = IP:127.0.0.1, DNS:localhost
"""


@dataclass
class Server:
    name: str
    http: str
    https: str
    ca_file: str
    process: subprocess.Popen[str]
    status: str | None = None

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def connections(self) -> int:
        """How many connections were accepted so far, including the one for this request."""
        text = _get(self.status) if self.status else ""
        return int(text.split("\n")[2].split()[0]) if text else 0


def _get(url: str) -> str:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=5) as reply:
        body: bytes = reply.read()
        return body.decode()


def start(directory: Path, root: Path, missing: list[str]) -> Server:
    """nginx if it is installed, else the sandbox of this repository."""
    try:
        return start_nginx(directory)
    except MissingTool as tool:
        sandbox = root / "target" / "debug" / "spike-auth-sandbox"
        missing.append(f"{tool}; the exchanges go to the project's sandbox instead, a debug build: slower")
        if not sandbox.exists():
            raise SystemExit(f"{tool}\nThe sandbox could replace it, but is not built: make sandbox") from tool
        return start_sandbox(sandbox)


def start_sandbox(sandbox: Path, *arguments: str) -> Server:
    process = subprocess.Popen([sandbox, *arguments], stdout=subprocess.PIPE, text=True, env=clean_env())
    assert process.stdout  # it is a pipe
    ready = json.loads(process.stdout.readline())
    return Server("sandbox", ready["http"], ready["https"], ready["ca_file"], process)


def start_nginx(directory: Path) -> Server:
    nginx = shutil.which("nginx", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
    if not nginx:
        raise MissingTool("nginx (apt-get install nginx-light)")
    make_certificates(directory)
    for _ in range(5):  # another process may take a port before nginx binds it
        http, https = free_ports()
        conf = directory / "nginx.conf"
        conf.write_text(NGINX_CONF.format(dir=directory, http=http, https=https, token=TOKEN))
        process = subprocess.Popen(
            [nginx, "-e", directory / "error.log", "-p", directory, "-c", conf], env=clean_env(),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        )
        status = f"http://127.0.0.1:{http}/status"
        if wait_until_up(process, status):
            name = run(nginx, "-v", both=True).strip().removeprefix("nginx version: ")
            return Server(name, f"http://127.0.0.1:{http}/v3", f"https://127.0.0.1:{https}/v3",
                          str(directory / "ca.pem"), process, status)
    raise SystemExit("nginx does not start:\n" + (directory / "error.log").read_text())


def wait_until_up(process: subprocess.Popen[str], url: str) -> bool:
    for _ in range(200):
        if process.poll() is not None:
            return False
        try:
            _get(url)
            return True
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    process.terminate()
    process.wait()
    return False


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


def make_certificates(directory: Path) -> None:
    """A new CA, and its certificate for 127.0.0.1."""
    if not shutil.which("openssl"):
        raise MissingTool("openssl (apt-get install openssl)")
    conf = directory / "certificates.conf"
    conf.write_text(CERTIFICATES)
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-config", conf]
    run("openssl", "req", "-x509", *key, "-extensions", "ca", "-keyout", directory / "ca.key",
        "-out", directory / "ca.pem")
    run("openssl", "req", *key, "-subj", "/CN=localhost", "-keyout", directory / "server.key",
        "-out", directory / "server.csr")
    run("openssl", "x509", "-req", "-in", directory / "server.csr", "-CA", directory / "ca.pem",
        "-CAkey", directory / "ca.key", "-CAcreateserial", "-days", "2", "-extfile", conf, "-extensions", "server",
        "-out", directory / "server.pem")
