"""Checks deploy/nginx.conf with the nginx of this machine: nginx.py NGINX

nginx runs the file in front of two stand-ins for servers; only addresses and the certificate are changed. The stand-ins must
get each request unchanged, with the client's address. A server that refuses connections must not fail a request, and after
all servers were down, the first one back must be used at once.
"""

import http.client
import http.server
import pathlib
import re
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CONF = ROOT / "deploy/nginx.conf"
HOST = "verify.example.com"

# A path that must arrive unchanged: an encoded slash, two slashes, an encoded dot segment, a query.
PATH = "/v2/Services/VA0//Entities/a%2Fb%2E%2E%2Fc/Challenges?Status=pending&x=%20"

MAIN = """
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/countersign.conf;
}}
"""


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class StandIn(http.server.ThreadingHTTPServer):
    """A server that keeps its requests, and responds to each with 200 and its own name."""

    def __init__(self, port):
        self.requests = []
        super().__init__(("127.0.0.1", port), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = respond

    def log_message(self, *_):
        pass


class Nginx:
    """nginx with deploy/nginx.conf, in front of two ports of this machine."""

    def __init__(self, program, folder, upstreams):
        self.folder = pathlib.Path(folder)
        self.http, self.https = free_port(), free_port()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1",
             "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}",
             "-keyout", self.folder / "key.pem", "-out", self.folder / "certificate.pem"],
            check=True, capture_output=True,
        )
        (self.folder / "countersign.conf").write_text(self.adapted(upstreams))
        (self.folder / "nginx.conf").write_text(MAIN.format(folder=folder))
        self.command = [program, "-e", str(self.folder / "error.log"), "-p", folder, "-c", str(self.folder / "nginx.conf")]
        checked = subprocess.run([*self.command, "-t"], capture_output=True, text=True)
        # Also for warnings, such as about a deprecated directive.
        if checked.returncode != 0 or "[warn]" in checked.stderr:
            sys.exit(f"nginx -t: {checked.stderr}")
        self.process = subprocess.Popen([*self.command, "-g", "daemon off;"])

    def adapted(self, upstreams):
        text = CONF.read_text()
        for old, new in [
            (r"^    server 10\.0\.0\.11:8080", f"    server 127.0.0.1:{upstreams[0]}"),
            (r"^    server 10\.0\.0\.12:8080", f"    server 127.0.0.1:{upstreams[1]}"),
            (r"^    listen \[::\].*\n", ""),
            (r"^    listen 80;", f"    listen 127.0.0.1:{self.http};"),
            (r"^    listen 443 ", f"    listen 127.0.0.1:{self.https} "),
            (r"/etc/ssl/verify.example.com.crt", f"{self.folder}/certificate.pem"),
            (r"/etc/ssl/private/verify.example.com.key", f"{self.folder}/key.pem"),
        ]:
            text, found = re.subn(old, new, text, flags=re.MULTILINE)
            if not found:
                sys.exit(f"nginx.conf: no line like {old}")
        return text

    def request(self, method="GET", path="/", body=None, headers=None, tls=True):
        """Sends one request and returns status and headers of the response."""
        if tls:
            context = ssl.create_default_context(cafile=self.folder / "certificate.pem")
            connection = http.client.HTTPSConnection(HOST, self.https, timeout=10, context=context)
            raw = socket.create_connection(("127.0.0.1", self.https), 10)
            connection.sock = context.wrap_socket(raw, server_hostname=HOST)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.http, timeout=10)
        # Without a port, as clients send it for 443.
        connection.request(method, path, body, {"Host": HOST} | (headers or {}))
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer.status, answer.headers

    def stop(self):
        self.process.terminate()
        self.process.wait(20)


def expect(what, found, expected):
    if found != expected:
        sys.exit(f"nginx.conf: {what}: {found!r}, expected {expected!r}")


def check_request(nginx, server):
    """Checks that a request arrives as it was sent."""
    status, _ = nginx.request("POST", PATH, b"Code=1", {"X-Forwarded-For": "192.0.2.7"})
    expect("the status of a POST", status, 200)
    method, path, headers, body = server.requests[-1]
    expect("the request", (method, path, body), ("POST", PATH, b"Code=1"))
    for name, value in [
        ("Host", HOST),
        # nginx appends the real address; the client's own claims come before it.
        ("X-Forwarded-For", "192.0.2.7, 127.0.0.1"),
        ("X-Forwarded-Proto", "https"),
        ("Connection", "close"),
    ]:
        expect(f"the header {name}", headers.get(name), value)
    status, headers = nginx.request(path=PATH, tls=False)
    expect("an answer over plain HTTP", (status, headers["Location"]), (308, f"https://{HOST}{PATH}"))


def check_failures(nginx, ports):
    """Checks that no request fails while at least one server runs, or after one is back."""
    one = StandIn(ports[0])
    for _ in range(20):
        expect("a POST while one of two servers is away", nginx.request("POST", body=b"x")[0], 200)
    expect("requests that arrived", len(one.requests), 20)
    one.stop()
    for _ in range(3):
        expect("a request while both servers are away", nginx.request()[0], 502)
    for port in ports:
        server = StandIn(port)
        expect("the first request after a server came back", nginx.request("POST", body=b"x")[0], 200)
        server.stop()


def wait_for_start(nginx):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            return nginx.request(tls=False)
        except OSError:
            if nginx.process.poll() is not None:
                break
            time.sleep(0.02)
    sys.exit("nginx does not start: " + (nginx.folder / "error.log").read_text())


def main():
    ports = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        # nginx started by root uses another user.
        pathlib.Path(folder).chmod(0o755)
        nginx = Nginx(sys.argv[1], folder, ports)
        try:
            wait_for_start(nginx)
            server = StandIn(ports[0])
            check_request(nginx, server)
            server.stop()
            check_failures(nginx, ports)
        finally:
            nginx.stop()
    print("nginx.conf: requests arrive as they are sent, also while a server is away and after both were")


main()
